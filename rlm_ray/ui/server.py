"""The server: routes to pages, on loopback, behind the guard. Handlers are plain functions, which run in threads."""

from __future__ import annotations

import functools
import secrets
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from rlm_ray.errors import InputError, MissingExtra, RlmRayError
from rlm_ray.report.page import policy, report
from rlm_ray.ui import pages
from rlm_ray.ui.catalog import BROKEN, STATES, Catalog, ListedRun
from rlm_ray.ui.guard import Guard

#: Reports that are held, since making one reads the records that it cites.
REPORTS = 4
#: Characters of a filter.
MAX_TEXT = 1_000


class Server:
    """The pages of a folder of runs, served on loopback. Binds its port when it is made.

    Parameters
    ----------
    base : str
        The folder of run directories: a path or a URL.
    token : str, optional
        What a browser must know; a new one where it is not given.
    port : int
        0 takes a free one.

    Raises
    ------
    MissingExtra
        The server's libraries are not installed.
    InputError
        The port is taken, or the token cannot be one.
    """

    def __init__(self, base: str, token: str | None = None, port: int = 0) -> None:
        try:
            import uvicorn
        except ImportError:
            raise MissingExtra("The pages of all runs", "ui") from None
        token = token or secrets.token_urlsafe(24)
        if len(token) < 16 or not token.replace("-", "").replace("_", "").isalnum() or not token.isascii():
            raise InputError("The token is too weak. Give at least 16 letters, digits, '-' and '_', or none: a new one is made.")
        try:
            self._socket = socket.create_server(("127.0.0.1", port))
        except OSError as error:
            raise InputError(f"Port {port} cannot be used: {error.strerror}. Give another --port, or 0 for a free one.") from None
        self.port = int(self._socket.getsockname()[1])
        self.address = f"http://127.0.0.1:{self.port}/?token={token}"
        app = Guard(application(Catalog(base)), token, self.port)
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)

    def serve(self) -> None:
        """Serve until `close`, or until Ctrl-C."""
        self._server.run(sockets=[self._socket])

    def close(self) -> None:
        """End `serve`, from another thread."""
        self._server.should_exit = True


def application(catalog: Catalog) -> Any:
    """Return the pages of a catalog as an ASGI application, which the guard must stand before."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, Response
    from starlette.routing import Route

    reports = _Reports()

    def message(title: str, text: str, status: int) -> Response:
        return HTMLResponse(pages.message_page(catalog, title, text), status)

    def handled(draw: Callable[[Request], Response]) -> Callable[[Request], Response]:
        """Turn errors into pages that say what to do."""

        @functools.wraps(draw)
        def handler(request: Request) -> Response:
            try:
                return draw(request)
            except RlmRayError as error:
                return message("This cannot be shown", str(error), 502)
            except BROKEN as error:
                text = f"A file of the run is not what this version writes ({type(error).__name__}: {error})."
                return message("This run cannot be read", f"{text[:1_000]} `rlm-ray show` may say more.", 500)

        return handler

    def run_of(name: str, then: Callable[[ListedRun], Response]) -> Response:
        run = catalog.find(name)
        if run is None:
            return message("There is no such run", f"No run under {catalog.base} has the id {name[:200]}.", 404)
        return then(run)

    def one_list(request: Request) -> Response:
        given = request.query_params
        text, state, job, page = (given.get(name, "")[:MAX_TEXT] for name in ("q", "state", "job", "page"))
        number = int(page) if page.isdecimal() and len(page) < 10 else 1
        return HTMLResponse(pages.list_page(catalog, text, state if state in STATES else "", job, number))

    def one_run(request: Request) -> Response:
        return run_of(request.path_params["run"], lambda run: HTMLResponse(pages.run_page(catalog, run)))

    def going(request: Request) -> Response:
        return run_of(request.path_params["run"], lambda run: HTMLResponse(pages.fragment(run)))

    def one_report(request: Request) -> Response:
        def draw(run: ListedRun) -> Response:
            # a report is a document of its own: its scripts have no origin, and see neither cookie nor page of this server
            headers = {"content-security-policy": f"{policy()}; frame-ancestors 'none'; sandbox allow-scripts allow-downloads"}
            if "save" in request.query_params:
                headers["content-disposition"] = f"attachment; filename*=UTF-8''{quote(run.id, safe='')}.html"
            return HTMLResponse(reports.of(run), headers=headers)

        return run_of(request.path_params["run"], draw)

    def compared(request: Request) -> Response:
        names = request.query_params.getlist("run")
        if len(names) != 2:
            return message("Choose two runs", "Tick two runs of the list, then compare them.", 400)
        left, right = sorted((catalog.find(name) for name in names), key=lambda run: (run.made, run.id) if run else ("", ""))
        if left is None or right is None:
            missing = next(name for name in names if catalog.find(name) is None)
            return message("There is no such run", f"No run under {catalog.base} has the id {missing[:200]}.", 404)
        return HTMLResponse(pages.compare_page(catalog, left, right))

    def all_jobs(_: Request) -> Response:
        return HTMLResponse(pages.jobs_page(catalog))

    def one_job(request: Request) -> Response:
        name = request.query_params.get("name", "")
        page = pages.job_page(catalog, name)
        if page is None:
            return message("There is no such job", f"No run under {catalog.base} belongs to a job {name[:200]!r}.", 404)
        return HTMLResponse(page)

    def static(request: Request) -> Response:
        name = request.path_params["name"]
        text = pages.static(name)
        return (
            message("Nothing here", "There is no such file.", 404)
            if text is None
            else Response(text, media_type=pages.STATIC[name])
        )

    def nothing(_: Request, __: Exception | None) -> Response:
        return message("Nothing here", "There is no such page. The list of runs has all of them.", 404)

    routes = {
        "/": one_list,
        "/run/{run}": one_run,
        "/run/{run}/live": going,
        "/run/{run}/report": one_report,
        "/compare": compared,
        "/jobs": all_jobs,
        "/job": one_job,
        "/static/{name}": static,
    }
    return Starlette(routes=[Route(path, handled(draw)) for path, draw in routes.items()], exception_handlers={404: nothing})


class _Reports:
    """The last few reports, each as long as its run does not change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: OrderedDict[tuple[str, int], str] = OrderedDict()

    def of(self, run: ListedRun) -> str:
        """Return the report of a run. Reads its directory and the records that it cites."""
        key = (run.id, run.inventory.stamp)
        with self._lock:  # one at a time: a large one takes memory
            made = self._made.pop(key, None)
            made = report(run.inventory.uri) if made is None else made
            self._made[key] = made
            while len(self._made) > REPORTS:
                self._made.popitem(last=False)
        return made
