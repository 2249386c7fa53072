"""Prepares the start of a call: the variables of its REPL, and the first messages to its root model."""

from __future__ import annotations

from typing import TypedDict

from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.corpus.reading.work import Work
from rlm_ray.handle.plan import Plan, Source
from rlm_ray.recursion.loop import prompts
from rlm_ray.recursion.ports import Call
from rlm_ray.recursion.service import Service
from rlm_ray.types.json import JsonObject
from rlm_ray.types.run import Context, UndescribedContext

#: Records of each context that the root is shown.
SAMPLES = 3
#: A narrowed context up to this size is measured exactly, by one scan of the lengths.
MEASURED_BYTES = 64 << 20


class Setup(TypedDict):
    """The variables of a REPL; see `handle.verbs.namespace`."""

    text: str | None
    corpora: dict[str, Context]
    main: str | None
    depth: int


class Briefing:
    """Prepares one call. Describes its contexts when it is made; reads a few records of each for the messages."""

    def __init__(self, call: Call, service: Service) -> None:
        self._call = call
        self._service = service
        self._contexts: dict[str, Context] = {name: self._described(context) for name, context in call.contexts.items()}

    def messages(self, left: str) -> tuple[str, str]:
        """Return the system prompt and the first user message."""
        call, settings = self._call, self._call.settings
        contexts = {name: self._metadata(item) for name, item in self._contexts.items()}
        if call.text is not None:
            contexts = {"context": prompts.text_metadata(call.text)}
        units = [str(item["info"].get("unit", "row")) for item in self._contexts.values()]
        text = call.text is not None
        system = prompts.system(
            settings, text=text, names=list(call.contexts), unit=units[0] if units else "text", depth=call.depth
        )
        task = prompts.task(
            call.question,
            contexts,
            schema=call.schema,
            depth=call.depth,
            parent=call.depth > 0,
            fits=self._fits(),
            printable=self._size() <= settings.output_chars,
            text=text,
            left=left,
        )
        return system, task

    def setup(self) -> Setup:
        """Return the variables of the REPL."""
        call = self._call
        return {"text": call.text, "corpora": self._contexts, "main": call.main, "depth": call.depth}

    def _described(self, context: Context | UndescribedContext) -> Context:
        info = context["info"]
        return {"plan": context["plan"], "info": info if info is not None else self._info(Plan.from_json(context["plan"]))}

    def _info(self, plan: Plan) -> JsonObject:
        manifest: Manifest = self._service.scheduler.run(self._service.scans.manifest(plan))
        info = manifest.info()
        if not isinstance(plan.origin, Source):
            info = info | {"kind": "result"}
        if plan.steps:
            works = self._service.scheduler.run(self._service.scans.works(plan))
            info = info | {"shards": len(works), "records": None, "estimate": None, "nbytes": self._nbytes(plan, works)}
            info.pop("failed", None)
        return info

    def _nbytes(self, plan: Plan, works: list[Work]) -> int:
        # at most: what the shards hold; exactly where one scan of the lengths is cheap
        most = sum(work.shard.nbytes for work in works)
        if most > MEASURED_BYTES:
            return most
        return int(self._service.scheduler.run(self._service.scans.merged("lengths", works, {}))["nbytes"])

    def _metadata(self, item: Context) -> str:
        samples = self._service.scheduler.run(self._service.scans.head(Plan.from_json(item["plan"]), SAMPLES))
        return prompts.metadata(item["info"], samples)

    def _size(self) -> int:
        if self._call.text is not None:
            return len(self._call.text.encode("utf-8", "replace"))
        return sum(int(item["info"].get("nbytes") or 0) for item in self._contexts.values())

    def _fits(self) -> str | None:
        settings = self._call.settings
        most, size = settings.call_tokens * settings.bytes_per_token, self._size()
        return f"about {round(size / settings.bytes_per_token):,} of {settings.call_tokens:,} tokens" if 0 < size <= most else None
