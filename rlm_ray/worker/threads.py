"""This process's own workers: an asyncio thread for model calls, a few threads for small scans, one for root functions.

Model clients and sandboxes are kept for the life of the process, so that connections are reused and a function over
shards does not wait for an interpreter.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from rlm_ray.errors import StorageError
from rlm_ray.ledger.answers import AnswerStore
from rlm_ray.ledger.finished import Finished
from rlm_ray.models.client import ChatClient
from rlm_ray.models.contract import Endpoint
from rlm_ray.models.leases import LeasedLimiter
from rlm_ray.models.rates import Rates
from rlm_ray.settings import Settings

SCAN_THREADS = 4
CLOSE_SECONDS = 2.0
#: Runs whose logs a process has open at once.
FINISHED_RUNS = 4


@functools.cache
def event_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of the thread that makes this process's model calls."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="rlm-ray-models", daemon=True).start()
    return loop


def run_async(work: Coroutine[Any, Any, Any]) -> Future[Any]:
    """Run a coroutine on the models' thread."""
    return asyncio.run_coroutine_threadsafe(work, event_loop())


@functools.cache
def client(
    endpoint: Endpoint, concurrency: int, rates: Rates, make_limiter: Callable[[Endpoint, int, Rates], LeasedLimiter]
) -> ChatClient:
    """Return this process's client of an endpoint; it is closed when the process ends."""
    made = ChatClient(endpoint, make_limiter(endpoint, concurrency, rates))
    atexit.register(_close, made)
    return made


def _close(made: ChatClient) -> None:
    with contextlib.suppress(concurrent.futures.TimeoutError):
        run_async(made.close()).result(timeout=CLOSE_SECONDS)


@functools.cache
def scan_threads() -> ThreadPoolExecutor:
    """Return the threads for scans too small for a task."""
    return ThreadPoolExecutor(SCAN_THREADS, thread_name_prefix="rlm-ray-scan")


@functools.cache
def code_thread() -> ThreadPoolExecutor:
    """Return the thread for root functions over little data."""
    return ThreadPoolExecutor(1, thread_name_prefix="rlm-ray-code")


@functools.cache
def answer_store(uri: str, endpoint: str, days: float | None) -> AnswerStore:
    """Return this process's view of a store of answers."""
    return AnswerStore(uri, endpoint, days)


def answers_of(settings: Settings) -> AnswerStore | None:
    """Return this process's view of the store of answers that the settings name."""
    if settings.answers is None:
        return None
    return answer_store(settings.answers, Endpoint.of(settings).name, settings.answers_days)


_finished: OrderedDict[tuple[str, tuple[str, ...]], Finished] = OrderedDict()
_finished_lock = threading.Lock()


def finished(run_dir: str, others: tuple[str, ...]) -> Finished:
    """Return this process's view of a run's finished sub-calls, and its log of new ones."""
    with _finished_lock:
        view = _finished.setdefault((run_dir, others), Finished(run_dir, others))
        _finished.move_to_end((run_dir, others))
        evicted = _finished.popitem(last=False)[1] if len(_finished) > FINISHED_RUNS else None
    if evicted is not None:
        _close_finished(evicted)
    return view


def close_finished(run_dir: str) -> None:
    """Close this process's logs of a run that has ended here."""
    with _finished_lock:
        ended = [_finished.pop(key) for key in list(_finished) if key[0] == run_dir]
    for view in ended:
        _close_finished(view)


def _close_finished(view: Finished) -> None:
    with contextlib.suppress(StorageError):  # the group that paid for a row has flushed it, and got the error
        view.close()
