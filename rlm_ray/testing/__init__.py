"""Tools to test programs on rlm_ray, and rlm_ray itself: a scripted model server, scripted models, a small lake.

>>> from rlm_ray.testing import ModelServer, each
>>> program = ["```repl\\nFinal = llm_each('Good or bad?', context).count_by('answer')\\n```"]
>>> with ModelServer(root=program, leaf=each(lambda text: "bad" if "failed" in text else "good")) as server:
...     print(server.settings(max_turns=3).root_model)
root

`LocalPorts` and `PortsContract` are for whoever writes another implementation of `recursion.ports.Ports`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rlm_ray.testing.faults import Faults
from rlm_ray.testing.lake import SmallLake, small_lake
from rlm_ray.testing.leaves import Asked, asked, each, from_gold, noisy
from rlm_ray.testing.scripts import ScriptEnded, echo, prompt_of, tokens_of, writes_code
from rlm_ray.testing.server import ModelServer

if TYPE_CHECKING:
    from rlm_ray.testing.ports_contract import PortsContract as PortsContract
    from rlm_ray.worker.local import LocalPorts as LocalPorts

__all__ = [
    "Asked",
    "Faults",
    "LocalPorts",
    "ModelServer",
    "PortsContract",
    "ScriptEnded",
    "SmallLake",
    "asked",
    "each",
    "echo",
    "from_gold",
    "noisy",
    "prompt_of",
    "small_lake",
    "tokens_of",
    "writes_code",
]

#: Imported when they are first used: a server alone does not wait for readers of data.
_HOMES = {"LocalPorts": "rlm_ray.worker.local", "PortsContract": "rlm_ray.testing.ports_contract"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rlm_ray.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
