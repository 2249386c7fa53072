"""An actual Ray beside the sandbox: its sockets, ports, token and files are out of reach of a cell."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rlm_ray.sandbox.outside.events import CellDone
from tests.security.arena import ROOMY, Trial

REACH = """
import json, os, socket
got = []
def reach(what, function, *arguments):
    try:
        value = function(*arguments)
        got.append([what, repr(value)[:80]])
    except BaseException:
        pass
def stream(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(1)
    s.connect(path)
    return "connected"
def tcp(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), 1)
for path in T.sockets:
    reach("socket " + path, stream, path)
for address in T.addresses:
    reach("port " + address, tcp, address)
for path in T.files:
    reach("file " + path, lambda: open(path, "rb").read(20))
for path in T.folders:
    reach("folder " + path, os.listdir, path)
def init():
    import ray
    ray.init(address=T.addresses[0], log_to_driver=False)
    return ray.cluster_resources()
if T.with_ray:
    reach("ray.init", init)
call("report", {"got": got})
"""


class Targets:
    """What of a running Ray a cell would reach for."""

    def __init__(self, ray) -> None:
        from ray._private.worker import _global_node as node

        assert node is not None
        session = Path(node.get_session_dir_path())
        sockets = [str(path) for path in (session / "sockets").iterdir()]
        logs = [str(path) for path in (session / "logs").glob("*.log")][:10]
        tokens = [str(path) for path in (Path.home() / ".ray" / "auth_token",) if path.exists()]
        self.values = {
            "sockets": sockets,
            "addresses": [node.gcs_address, *(f"{item['NodeManagerAddress']}:{item['NodeManagerPort']}" for item in ray.nodes())],
            "files": logs + tokens + [str(session / "node_ip_address.json"), f"/proc/{os.getpid()}/environ"],
            "folders": [str(session), str(session / "logs"), "/tmp/ray"],
        }

    def targets(self):
        return self.values


def reached(targets: Targets, level: str, *, with_ray: bool) -> list[str]:
    targets.values["with_ray"] = with_ray
    trial = Trial(targets, level, ROOMY)
    told = []

    def answer(request):
        told.append(request.args["got"])
        trial.box.reply(request.id, None)

    trial._answer = answer
    try:
        done = trial.run(REACH)
    finally:
        trial.box.close()
    assert isinstance(done, CellDone), done
    assert done.error is None, done.error
    return [what for what, _ in told[0]]


@pytest.fixture
def targets(ray_local):
    return Targets(ray_local)


@pytest.mark.parametrize("level", ["strict", "noopen"])
def test_nothing_of_ray_is_within_reach(targets, level):
    assert len(targets.values["sockets"]) >= 2
    assert len(targets.values["files"]) >= 3
    assert reached(targets, level, with_ray=level == "strict") == []


def test_without_walls_all_of_it_is(targets):
    found = reached(targets, "none", with_ray=False)
    for kind in ("socket", "port", "file", "folder"):
        assert any(what.startswith(kind) for what in found), json.dumps(found)
