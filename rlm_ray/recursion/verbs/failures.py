"""The failures of a call: shards that could not be read, and verbs that failed."""

from __future__ import annotations

from collections.abc import Iterable

from rlm_ray.errors import StorageError
from rlm_ray.recursion.failed_verbs import FailedVerbs
from rlm_ray.recursion.ports import ShardFailure
from rlm_ray.types.run import Failure


class FailureLog:
    """The shards that could not be read, once each."""

    def __init__(self, on_shard_error: str) -> None:
        self._stop = on_shard_error == "stop"
        self.failures: dict[tuple[str, int | None], ShardFailure] = {}
        self.verbs = FailedVerbs()

    def add(self, failures: Iterable[ShardFailure]) -> None:
        """Remember failures; raise the first where the run is to stop at one."""
        for failure in failures:
            self.failures.setdefault((failure.object, failure.shard), failure)
            if self._stop:
                raise StorageError(
                    f"{failure.object} cannot be read: {failure.reason} The run stops at the first such object "
                    "(on_shard_error = stop)."
                )

    def restore(self, logged: Iterable[Failure]) -> None:
        """Remember what an earlier session reported."""
        for item in logged:
            failure = ShardFailure(item["object"], item["reason"], item.get("shard"))
            self.failures.setdefault((failure.object, failure.shard), failure)
