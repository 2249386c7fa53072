"""The parts of a call that its verbs share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.ledger.read_log import ReadLog
from rlm_ray.recursion.jobs.lending import BudgetLender
from rlm_ray.recursion.jobs.results import Results
from rlm_ray.recursion.jobs.scheduler import Scheduler
from rlm_ray.recursion.ports import Call, Ports
from rlm_ray.recursion.verbs.failures import FailureLog
from rlm_ray.recursion.verbs.sampling.sure_log import SureLog


@dataclass(frozen=True, slots=True)
class CallContext:
    """The call, its ports, and the states that all of its verbs change.

    Attributes
    ----------
    corpora : mapping of str to Manifest
        The corpora of the run, by name.
    read_log : ReadLog
        Log of the records that the verbs read.
    """

    call: Call
    ports: Ports
    corpora: Mapping[str, Manifest]
    scheduler: Scheduler
    results: Results
    lender: BudgetLender
    failures: FailureLog
    sure: SureLog
    read_log: ReadLog
