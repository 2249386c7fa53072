"""The ports on Ray, held against the contract of all ports: where little work stays in threads, and where all work is tasks."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_ray.cluster import ports
from rlm_ray.cluster.calls import make_ports
from rlm_ray.recursion.ports import Ports
from rlm_ray.settings import Settings
from rlm_ray.testing import PortsContract


class RayContract(PortsContract):
    def make_ports(self, run_id: str, depth: int, settings: Settings) -> Ports:
        return make_ports(run_id, depth, settings)


class TestLittleWork(RayContract):
    @pytest.fixture(autouse=True)
    def _ray(self, ray_local: Any) -> None:
        """A cluster of this machine; little work stays in threads of this process."""


class TestTasks(RayContract):
    @pytest.fixture(autouse=True)
    def _ray(self, ray_local: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A cluster of this machine, where even the smallest work is a task."""
        monkeypatch.setattr(ports, "INLINE_BYTES", -1)
