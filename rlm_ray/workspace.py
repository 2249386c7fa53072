"""A workspace for a notebook: the verbs and sub-call functions of root code, run by the person's own Python.

What `rlm_ray.open` returns has one behind it that is made when a verb first needs it; small reads then need no Ray.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
import weakref
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from rlm_ray import settings as settings_module
from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.opening import open_manifest
from rlm_ray.corpus.planning import shard_choice
from rlm_ray.corpus.planning.bind import bind
from rlm_ray.corpus.reading import decode_replacements
from rlm_ray.corpus.reading.logs.layout import log_options
from rlm_ray.corpus.reading.text.dialect import Given
from rlm_ray.errors import UnreadShard
from rlm_ray.handle.corpus import Backend, Corpus
from rlm_ray.handle.plan import Plan, Result, Source
from rlm_ray.handle.verbs import Verbs
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.recursion.budget.budget import Budget
from rlm_ray.recursion.ports import Call
from rlm_ray.recursion.service import Service
from rlm_ray.sandbox.outside import parsing
from rlm_ray.settings import Settings
from rlm_ray.subcalls.forms import json_schema_of, model_of
from rlm_ray.types.json import JsonObject
from rlm_ray.types.run import Failure, Replaced, SureRecord

if TYPE_CHECKING:
    from rlm_ray.cluster.ports import RayPorts
    from rlm_ray.worker.record_table import RecordTable

#: Shards that one verb warns of.
MAX_WARNINGS = 10


class Session(Verbs, Backend):
    """Answers handles outside the sandbox, and has `llm_query`, `llm_map`, `llm_each`, `rlm_map` and the others.

    One run directory and one budget for all of it. Functions given to `map`, `filter` and `aggregate` run in the sandbox,
    as root code's do.

    Parameters
    ----------
    settings : Settings
    run : RunDirectory, optional
        Where results are; a new one where not given.
    corpora : dict of str to Manifest, optional
    """

    def __init__(self, settings: Settings, run: RunDirectory | None = None, corpora: dict[str, Manifest] | None = None) -> None:
        super().__init__(self)
        self.settings = settings
        self._run = run
        self._corpora: dict[str, Manifest] = dict(corpora or {})
        self._service: Service | None = None
        self._ports: RayPorts | None = None
        self._scratch: weakref.finalize[..., Session] | None = None
        self._probed = False

    def open(
        self, *uris: str, name: str | None = None, event_start: str | None = None, parse: str | None = None, **options: Any
    ) -> Corpus:
        """Open a corpus in this session; as `rlm_ray.open`."""
        made = self.settings
        logs = log_options(made, event_start, parse)
        dialect = Given(made.csv_separator, made.csv_quote, made.csv_escape)
        given: dict[str, Any] = {
            "encoding": made.encoding,
            "shard_bytes": made.shard_bytes,
            "dialect": dialect,
            "parsers": parsing.PARSERS,
            "logs": logs,
        }
        manifest = open_manifest(*uris, name=name or f"corpus{len(self._corpora) + 1}", **(given | options))
        self._corpora[manifest.name] = manifest
        return Corpus(Plan((Source(manifest.name),)), manifest.info(), self)

    def call(self, verb: str, args: JsonObject, blob: bytes = b"") -> tuple[Any, bytes]:
        """Answer a verb; see `handle.corpus.Backend`. Warns of shards that could not be read and are not part of what it gives."""
        if model_of(args.get("schema")) is not None:
            args = {**args, "schema": json_schema_of(args["schema"])}
        service = self._ready()
        if not self._probed and verb.startswith(("llm_", "rlm_")):
            self._probe(service)
        known = len(service.failures.failures)
        reply = service.call(verb, args, blob)
        for failure in list(service.failures.failures.values())[known:][:MAX_WARNINGS]:
            warnings.warn(f"{failure.object} is left out: {failure.reason}", UnreadShard, stacklevel=4)
        return reply

    def table(self, plan: Plan, schema: dict[str, str]) -> RecordTable:
        """Return the records of a plan as a table; see `handle.tabular.Tabular`. Waits for the result that it is over."""
        from rlm_ray.worker import record_table

        service = self._ready()
        return service.scheduler.run(record_table.job(service.scans, plan, schema, service.failures.add))

    @property
    def sure(self) -> list[SureRecord]:
        """How sure the results so far are: a `sentence` for each estimate, and each batch of which some were read again."""
        return list(self._service.sure_records()) if self._service is not None else []

    @property
    def failures(self) -> list[Failure]:
        """Shards that could not be read so far: `object`, `reason`, `shard`."""
        found = self._service.failures.failures.values() if self._service is not None else ()
        return [{"object": item.object, "reason": item.reason, "shard": item.shard} for item in found]

    @property
    def replaced(self) -> list[Replaced]:
        """Objects in which bytes that are no text were found and are shown as U+FFFD, so far: `object`, `bytes`."""
        return [] if self._run is None else decode_replacements.found(self._run.uri)

    def named(self, corpus: Corpus, name: str) -> tuple[Manifest, JsonObject]:
        """Return the manifest behind one of this session's handles, under another name, and what the handle knows."""
        import dataclasses

        origin = corpus.plan.origin
        if isinstance(origin, Result):
            service = self._ready()
            manifest = service.scheduler.run(service.scans.manifest(corpus.plan))
        else:
            manifest = self._corpora[origin.corpus]
        return dataclasses.replace(manifest, name=name), dict(corpus.info)

    def close(self) -> None:
        """End what is under way, and remove the results where no run directory was set."""
        if self._service is not None:
            self._service.end()
            self._service = None
        if self._ports is not None:
            self._ports.close()
            self._ports = None
        if self._run is not None:
            from rlm_ray.worker import threads

            threads.close_finished(self._run.uri)
        if self._scratch is not None:
            self._scratch()
            self._scratch = self._run = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _probe(self, service: Service) -> None:
        """Look, before the first sub-call, whether the endpoints have the models and take the key."""
        from rlm_ray.models import probe
        from rlm_ray.worker import threads

        made = self.settings
        threads.run_async(probe.probe(probe.endpoints_of(made, root=made.root_model is not None), service.lender.meter)).result()
        self._probed = True

    def _ready(self) -> Service:
        if self._service is None:
            from rlm_ray.cluster import calls
            from rlm_ray.worker import meters

            if self._run is None:
                base = self.settings.run_dir
                if base is None:
                    base = tempfile.mkdtemp(prefix="rlm_ray-")
                    self._scratch = weakref.finalize(self, shutil.rmtree, base, ignore_errors=True)
                self._run = RunDirectory.create(base, None, {"question": "(a session)", "corpora": {}})
            budget = Budget.of(self.settings)
            call = Call(self._run.uri, self._run.id, "0", 0, "", self.settings, budget, width=calls.width(self.settings))
            meter = meters.meter_of(budget, self.settings)
            self._ports = calls.make_ports(self._run.id, 0, self.settings)
            self._service = Service(call, self._corpora, self._ports, meter)
        return self._service


class Opened(Backend):
    """The backend of what `rlm_ray.open` returns: a session of its own, made when a verb needs it."""

    def __init__(self, manifest: Manifest, settings: Settings | None) -> None:
        self.manifest = manifest
        self._settings = settings
        self._session: Session | None = None

    def call(self, verb: str, args: JsonObject, blob: bytes = b"") -> tuple[Any, bytes]:
        """Answer a verb; see `handle.corpus.Backend`."""
        if self._session is None and verb == "reading":  # needs no session
            steps = shard_choice.before_slices(Plan.from_json(args["plan"]).steps)
            return shard_choice.reading(bind(steps, self.manifest.schema), self.manifest), b""
        return self._opened().call(verb, args, blob)

    def table(self, plan: Plan, schema: dict[str, str]) -> RecordTable:
        """See `Session.table`."""
        return self._opened().table(plan, schema)

    def _opened(self) -> Session:
        if self._session is None:
            settings = self._settings if self._settings is not None else settings_module.load()
            self._session = Session(settings, corpora={self.manifest.name: self.manifest})
        return self._session

    def only(self, uris: Collection[str]) -> Corpus:
        """Return a handle over some of the objects."""
        manifest = self.manifest.only(uris)
        return Corpus(Plan((Source(manifest.name),)), manifest.info(), Opened(manifest, self._settings))

    def named(self, corpus: Corpus, name: str) -> tuple[Manifest, JsonObject]:
        """See `Session.named`."""
        import dataclasses

        if self._session is not None:
            return self._session.named(corpus, name)
        return dataclasses.replace(self.manifest, name=name), dict(corpus.info)
