"""Connects this process to Ray: to the embedded Ray of a laptop, or to a cluster."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rlm_ray import storage
from rlm_ray.corpus.catalog.lakehouse import names
from rlm_ray.errors import ClusterError, InputError
from rlm_ray.settings import Settings
from rlm_ray.types.json import JsonObject

#: Seconds that a worker of the embedded Ray stays when it has nothing to do: a new one costs a second or two of a core.
IDLE_SECONDS = 30
#: Tries to start the embedded Ray; each waits as long as Ray does, some 30 to 60 s on a machine that is busy.
START_TRIES = 3
#: Seconds between two words about waiting for it, and after which one that failed is tried once more.
SAY_SECONDS, FORGET_SECONDS = 1.0, 300.0
#: Called on the thread that waits for Ray, with what it waits for.
waiters: list[Callable[[str], None]] = []


def connect(settings: Settings) -> None:
    """Connect this process to Ray, once; starts an embedded Ray where no address is known (about 5 s).

    An embedded Ray ends with this process. A Ray that is already connected is used as it is.

    Raises
    ------
    InputError
        A `ray://` address.
    ClusterError
        No Ray can be reached or started.
    """
    address = _address(settings)
    if address.startswith("ray://"):
        raise InputError(
            f"The address {address} is Ray Client's, which cannot carry a run. Submit a job: rlm-ray submit SPEC.yaml --address "
            "http://HEAD:8265; or another command: ray job submit --address http://HEAD:8265 -- rlm-ray … --address auto."
        )
    if connected():
        return
    if address == "local":
        _start(settings).wait()
        return
    _prepare_process()
    import ray

    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # noqa: BLE001 - Ray raises a bare Exception where no node answers
        raise _unreached(address, error) from None
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray's own handler aborts the process, and would leave its children
    atexit.register(_shutdown)


def begin(settings: Settings) -> None:
    """Begin to start the embedded Ray, where no address is known, and return at once: what needs it waits in `connect`."""
    if _address(settings) == "local" and not connected():
        _start(settings)


def connected() -> bool:
    """Whether this process is connected to a Ray, which does not start one."""
    import ray

    return ray.is_initialized() and (_starting is None or _starting.over)


def embedded(settings: Settings) -> bool:
    """Whether Ray would be the embedded one: no address of a cluster is known."""
    return _address(settings) == "local"


class _Starting:
    """The start of the embedded Ray, on a thread that stays: the processes of a Ray end with the thread that started them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._over = threading.Event()
        self._error: ClusterError | None = None
        self._ended = 0.0
        threading.Thread(target=self._run, name="rlm-ray-start", daemon=True).start()

    @property
    def failed_lately(self) -> bool:
        """Whether it failed a short while ago: the next caller gets the error at once, and does not wait as long again."""
        return self._error is not None and time.monotonic() - self._ended < FORGET_SECONDS

    @property
    def over(self) -> bool:
        """Whether Ray is there, or could not be started."""
        return self._over.is_set()

    def wait(self) -> None:
        """Return when Ray is there; raise ClusterError where it could not be started."""
        began = time.monotonic()
        while not self._over.wait(SAY_SECONDS):
            for say in list(waiters):
                say(f"waiting for Ray to start, {time.monotonic() - began:.0f} s")
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            for left in reversed(range(START_TRIES)):
                try:
                    with _handler_kept(signal.SIGTERM):
                        _init_embedded(self._settings)
                    break
                except Exception as error:  # noqa: BLE001 - Ray raises a bare Exception where a node does not come up
                    _drop_half_started()
                    if not left:
                        self._error = _unreached("local", error)
                        self._error.ends_run = True  # it is nothing that root code could mend
                        return
        finally:
            self._ended = time.monotonic()
            self._over.set()
        threading.Event().wait()


def _init_embedded(settings: Settings) -> None:
    import ray

    ray.init(
        address="local",
        num_cpus=settings.num_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
        _system_config={"idle_worker_killing_time_threshold_ms": IDLE_SECONDS * 1_000},
    )


def _drop_half_started() -> None:
    """End what of a Ray came up, so that the next try begins anew."""
    import ray

    with contextlib.suppress(Exception):
        ray.shutdown()


#: Seconds between two looks at what a signal does.
_PUT_BACK = 0.02


@contextlib.contextmanager
def _handler_kept(number: int) -> Iterator[None]:
    """Put back what a signal does, again and again: Ray's own handler, set early while it starts, aborts the process.

    Python could do so on the main thread alone, which does other things meanwhile.
    """
    import ctypes

    library = ctypes.CDLL(None)
    action = ctypes.create_string_buffer(1_024)  # a struct sigaction, however large it is here
    over = threading.Event()

    def put_back() -> None:
        while not over.wait(_PUT_BACK):
            library.sigaction(number, action, None)

    known = library.sigaction(number, None, action) == 0
    keeper = threading.Thread(target=put_back, name="rlm-ray-signal", daemon=True)
    if known:
        keeper.start()
    try:
        yield
    finally:
        over.set()
        if known:
            keeper.join()
            library.sigaction(number, action, None)


_starting: _Starting | None = None
_starting_lock = threading.Lock()


def _start(settings: Settings) -> _Starting:
    """Return the start that is under way, or a new one."""
    global _starting
    with _starting_lock:
        if _starting is None or (_starting.over and not _starting.failed_lately):
            if _starting is None:
                atexit.register(_shutdown)
            _prepare_process()
            if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
                signal.signal(signal.SIGTERM, _exit)  # so that Ray is ended too
            _starting = _Starting(settings)
        return _starting


def _exit(number: int, frame: object) -> None:
    sys.exit(number)


def _address(settings: Settings) -> str:
    return settings.address or os.environ.get("RAY_ADDRESS") or "local"


def _prepare_process() -> None:
    # polars reads it when it is imported, in workers that inherit it: a task has one CPU, not all of them
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    # Ray's note about its token is of no use to the user
    logging.getLogger("ray").setLevel(logging.ERROR)
    _warn_on_stderr()


def _warn_on_stderr() -> None:
    """What Ray's nodes warn of, it prints on stdout, where our results go."""
    import ray._private.worker as driver

    printed = getattr(driver, "print_to_stdstream", None)
    if printed is None or hasattr(printed, "on_stderr"):
        return

    def on_stderr(data: JsonObject, *more: Any, **named: Any) -> None:
        printed(data | {"is_err": True}, *more, **named)

    on_stderr.on_stderr = True  # type: ignore[attr-defined]
    driver.print_to_stdstream = on_stderr


def _unreached(address: str, error: Exception) -> ClusterError:
    reason = " ".join(str(error).split())[:400]
    return ClusterError(
        f"Ray at {address!r} cannot be {'started' if address == 'local' else 'reached'}: {reason} "
        "Check --address (or RAY_ADDRESS), and that this machine has room in /tmp and in /dev/shm."
    )


def prepare(settings: Settings) -> None:
    """Connect now where a cluster is named, so that a wrong address is found before anything is spent.

    An embedded Ray is started when the first task needs it: little data needs none.
    """
    if settings.address or os.environ.get("RAY_ADDRESS"):
        connect(settings)


def _shutdown() -> None:
    import ray

    if _starting is not None:
        with contextlib.suppress(ClusterError):
            _starting.wait()  # half a Ray could not be ended
    with contextlib.suppress(Exception):
        ray.shutdown()


def check_reach(uris: Iterable[str]) -> None:
    """Refuse paths that only this machine has, when the cluster has several nodes.

    Raises
    ------
    InputError
        Names the path and what to do.
    """
    import ray

    if not ray.is_initialized():
        return
    nodes = sum(1 for node in ray.nodes() if node["Alive"])
    if nodes < 2 or os.environ.get("RLM_RAY_SHARED_PATHS") == "1":
        return
    for uri in uris:
        place = names.location(uri)
        if place is not None and storage.is_local(place):
            raise InputError(
                f"{uri} is a path of this machine, and the cluster has {nodes} nodes that cannot all read it. Put it into object "
                "storage (s3://…), or set RLM_RAY_SHARED_PATHS=1 where the path is a file system that all nodes share."
            )
