"""What a call begins with: what its REPL holds, and the first messages to its root model."""

from __future__ import annotations

from typing import Any

from rlm_ray.corpus.catalog.manifest import Manifest
from rlm_ray.handle.plan import Plan, Source
from rlm_ray.recursion.loop import prompts
from rlm_ray.recursion.ports import Call
from rlm_ray.recursion.service import Service

#: Records of each context that the root is shown.
SAMPLES = 3
#: A narrowed context up to this size is measured exactly, by one scan of the lengths.
MEASURED_BYTES = 64 << 20


class Briefing:
    """Prepares one call. Reads a few records of each context."""

    def __init__(self, call: Call, service: Service) -> None:
        self._call = call
        self._service = service

    def messages(self, left: str) -> tuple[str, str]:
        """Return the system prompt and the first user message."""
        call, settings = self._call, self._call.settings
        contexts = {name: self._metadata(item) for name, item in call.contexts.items()}
        if call.text is not None:
            contexts = {"context": prompts.text_metadata(call.text)}
        units = [str(item["info"].get("unit", "row")) for item in call.contexts.values()]
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

    def setup(self) -> dict[str, Any]:
        """Return what the REPL is made from; see `corpus.verbs.namespace`."""
        call = self._call
        for item in call.contexts.values():
            if item["info"] is None:
                item["info"] = self._info(Plan.from_json(item["plan"]))
        return {"text": call.text, "corpora": call.contexts, "main": call.main, "depth": call.depth}

    def _info(self, plan: Plan) -> dict[str, Any]:
        manifest: Manifest = self._service.scheduler.run(self._service.scans.manifest(plan))
        info = manifest.info()
        if not isinstance(plan.origin, Source):
            info = info | {"kind": "result"}
        if plan.steps:
            works = self._service.scheduler.run(self._service.scans.works(plan))
            info = info | {"shards": len(works), "records": None, "estimate": None, "nbytes": self._nbytes(plan, works)}
            info.pop("failed", None)
        return info

    def _nbytes(self, plan: Plan, works: list[Any]) -> int:
        # at most: what the shards hold; exactly where one scan of the lengths is cheap
        most = sum(work.shard.nbytes for work in works)
        if most > MEASURED_BYTES:
            return most
        return int(self._service.scheduler.run(self._service.scans.merged("lengths", works, {}))["nbytes"])

    def _metadata(self, item: dict[str, Any]) -> str:
        samples = self._service.scheduler.run(self._service.scans.head(Plan.from_json(item["plan"]), SAMPLES))
        return prompts.metadata(item["info"], samples)

    def _size(self) -> int:
        if self._call.text is not None:
            return len(self._call.text.encode("utf-8", "replace"))
        return sum(int(item["info"].get("nbytes") or 0) for item in self._call.contexts.values())

    def _fits(self) -> str | None:
        settings = self._call.settings
        most, size = settings.call_tokens * settings.bytes_per_token, self._size()
        return f"about {round(size / settings.bytes_per_token):,} of {settings.call_tokens:,} tokens" if 0 < size <= most else None
