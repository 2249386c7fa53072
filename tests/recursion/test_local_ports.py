"""The shipped local ports, held against the contract of all ports."""

from __future__ import annotations

from rlm_ray.recursion.ports import Ports
from rlm_ray.settings import Settings
from rlm_ray.testing import LocalPorts, PortsContract


class TestLocalPorts(PortsContract):
    def make_ports(self, run_id: str, depth: int, settings: Settings) -> Ports:
        return LocalPorts()
