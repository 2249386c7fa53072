"""Answers the verbs of one call. Root code sends them through the sandbox's channel, a person in a notebook directly."""

from __future__ import annotations

import time
from typing import Any

from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.ledger.calllog import CallLog
from rlm_ray.ledger.read_log import ReadLog
from rlm_ray.recursion.budget.meter import BudgetMeter
from rlm_ray.recursion.jobs.lending import BudgetLender
from rlm_ray.recursion.jobs.results import Results
from rlm_ray.recursion.jobs.scheduler import Scheduler
from rlm_ray.recursion.ports import Call, Ports
from rlm_ray.recursion.verbs.batches import Batches
from rlm_ray.recursion.verbs.context import CallContext
from rlm_ray.recursion.verbs.dispatch import Dispatcher
from rlm_ray.recursion.verbs.failures import FailureLog
from rlm_ray.recursion.verbs.functions import Functions
from rlm_ray.recursion.verbs.queries import Queries
from rlm_ray.recursion.verbs.recursive_calls import RecursiveCalls
from rlm_ray.recursion.verbs.sampling.estimates import Estimates
from rlm_ray.recursion.verbs.sampling.samples import Samples
from rlm_ray.recursion.verbs.sampling.sure_log import SureLog
from rlm_ray.recursion.verbs.scans import Scans
from rlm_ray.sandbox.outside import counts
from rlm_ray.types.json import JsonObject
from rlm_ray.types.run import Citation, RefusedCitation, SureRecord

#: Grace period for cancelled work, in seconds.
END_SECONDS = 2.0


class Service:
    """The verbs of one call over its corpora.

    Parameters
    ----------
    call : Call
    corpora : dict of str to Manifest
        The corpora of the run, by name.
    ports : Ports
    meter : BudgetMeter
        Over the call's budget, with prices.
    log : CallLog, optional
        Where replies to requests are written down.
    read_log : ReadLog, optional
        Where it is written down what was read.
    """

    def __init__(
        self,
        call: Call,
        corpora: dict[str, Manifest],
        ports: Ports,
        meter: BudgetMeter,
        log: CallLog | None = None,
        read_log: ReadLog | None = None,
    ) -> None:
        self._ports = ports
        self.lender = BudgetLender(meter)
        self.scheduler = Scheduler(ports)
        self.results = Results(call.run_dir, call.id, call.replay)
        self.failures = FailureLog(call.settings.on_shard_error)
        self.sure = SureLog()
        self.read_log = read_log if read_log is not None else ReadLog(None)
        context = CallContext(
            call, ports, corpora, self.scheduler, self.results, self.lender, self.failures, self.sure, self.read_log
        )
        self.scans = Scans(context)
        self.functions = Functions(context, self.scans)
        self.queries = Queries(context, self.scans)
        samples = Samples(self.scans)
        self.batches = Batches(context, self.scans, samples)
        self.recursive_calls = RecursiveCalls(context, self.scans, self.batches)
        estimates = Estimates(context, self.scans, samples, self.batches)
        self.dispatcher = Dispatcher(
            context, self.scans, self.functions, self.queries, self.batches, self.recursive_calls, samples, estimates, log
        )

    def call(self, verb: str, args: JsonObject, blob: bytes = b"") -> tuple[Any, bytes]:
        """Answer a verb on this thread, and wait: the backend of a handle outside the sandbox."""
        self.scheduler.look()  # nobody else does, between two verbs
        return self.scheduler.run(self.dispatcher.job(verb, args, blob)), b""

    def end(self, seconds: float = END_SECONDS) -> None:
        """Cancel the work under way, and settle its loans: by what it reports, or else by what the ledger proves.

        Parameters
        ----------
        seconds : float
            How long to wait for it to end.
        """
        self.scheduler.cancel()
        ends = time.monotonic() + seconds
        for loan in self.lender.loans:
            loan.cancel()
        while True:
            self.lender.settle()
            waiting = list(self.lender.loans)
            left = ends - time.monotonic()
            if left <= 0:
                for loan in waiting:
                    loan.give_up()
            if not waiting or left <= 0:
                return
            self._ports.wait([loan.inner for loan in waiting], (), left)

    def events(self) -> dict[str, int]:
        """Security events of functions and SQL over shards and of recursive calls."""
        counted: dict[str, int] = {}
        for source in (self.functions.events, self.queries.events, self.recursive_calls.events):
            counts.add(counted, source)
        return counted

    def sure_records(self) -> tuple[SureRecord, ...]:
        """How sure this call and the calls below it know to be."""
        below = [record for outcome in self.recursive_calls.outcomes for record in outcome.sure]
        return (*self.sure.records.values(), *below)

    def citations(self) -> tuple[Citation, ...]:
        """Citations of this call and of the calls below it."""
        below = [citation for outcome in self.recursive_calls.outcomes for citation in outcome.citations]
        return (*self.dispatcher.citing.citations, *below)

    def refused(self) -> tuple[RefusedCitation, ...]:
        """Refused citations of this call and of the calls below it."""
        below = [citation for outcome in self.recursive_calls.outcomes for citation in outcome.refused]
        return (*self.dispatcher.citing.refused, *below)
