"""Ray Jobs: submits a command to a cluster from outside, follows its log, and reports how it ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_ray.errors import ClusterError, CredentialsError, InputError
from rlm_ray.types.json import JsonObject

#: Seconds between two looks at a job whose log has ended, or whose log cannot be followed.
LOOK_SECONDS = 0.5
#: Failed polls in a row after which following ends; the job goes on.
MAX_LOST = 60
#: Ray's loggers that report what was packed and uploaded.
_TALKERS = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
_ENDED = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})


@dataclass(frozen=True, slots=True)
class Job:
    """A job on a cluster.

    Attributes
    ----------
    id : str
    status : str
        Ray's word: PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED.
    exit_code : int or None
        Of its command; None where it has none yet, or was ended from outside.
    message : str
        Ray's own words about it.
    """

    id: str
    status: str
    exit_code: int | None
    message: str

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.status in _ENDED


class JobServer:
    """The jobs of a cluster, at its head's dashboard.

    Parameters
    ----------
    address : str
        As in ``http://HEAD:8265``.

    Raises
    ------
    InputError
        The address is no http address.
    CredentialsError
        The cluster wants a token, and there is none or another.
    ClusterError
        The head cannot be reached, or serves no jobs.
    """

    def __init__(self, address: str) -> None:
        if not address.startswith(("http://", "https://")):
            raise InputError(f"The address {address!r} is no head of a cluster. Give its dashboard's, as http://HEAD:8265.")
        self.address = address.rstrip("/")
        from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
        from ray.job_submission import JobSubmissionClient

        for name in _TALKERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        self._client: Any = self._asked(lambda: JobSubmissionClient(self.address))

    def find(self, job: str) -> Job | None:
        """Return a job by its id, or None."""
        return next((known for known in self.all() if known.id == job), None)

    def all(self) -> list[Job]:
        """Return the jobs that were submitted."""
        details = self._asked(self._client.list_jobs)
        return [
            Job(item.submission_id, str(item.status.value), item.driver_exit_code, item.message or "")
            for item in details
            if item.submission_id
        ]

    def submit(
        self,
        job: str,
        command: str,
        folder: Path,
        environment: Mapping[str, str],
        packages: Sequence[str],
        about: Mapping[str, str],
    ) -> bool:
        """Submit a command that runs in a copy of a folder; False where a job of this id is there already.

        Parameters
        ----------
        job : str
            The job's id.
        command : str
            For a shell, on the head.
        folder : Path
            Its files are uploaded.
        environment : mapping of str to str
            Variables, which the dashboard shows.
        packages : sequence of str
            What pip installs on each node before it.
        about : mapping of str to str
            What the dashboard says of it.
        """
        runtime: JsonObject = {"working_dir": str(folder)}
        if environment:
            runtime["env_vars"] = dict(environment)
        if packages:
            runtime["pip"] = list(packages)

        def send() -> bool:
            try:
                self._client.submit_job(entrypoint=command, submission_id=job, runtime_env=runtime, metadata=dict(about))
            except RuntimeError as error:
                if self.find(job) is None:
                    raise ClusterError(f"The cluster at {self.address} takes no job: {_brief(error)}. See its dashboard.") from None
                return False
            return True

        return bool(self._asked(send))

    def follow(self, job: str, write: Callable[[str], Any]) -> Job:
        """Hand on what a job prints, until it has ended. A broken connection is made again; no line is written twice.

        Raises
        ------
        KeyboardInterrupt
            The job goes on.
        ClusterError
            The head could not be reached for some time; the job may go on.
        """
        written, lost = 0, 0
        while True:
            try:
                written = asyncio.run(self._tail(job, written, write))
            except (RuntimeError, OSError, _no_connection()):
                pass  # how it stands is what `find` says
            try:
                found = self.find(job)
                lost = 0
            except ClusterError:
                lost += 1
                if lost >= MAX_LOST:
                    raise
                found = None
            if found is not None and found.ended:
                return found
            time.sleep(LOOK_SECONDS)

    async def _tail(self, job: str, written: int, write: Callable[[str], Any]) -> int:
        lines: AsyncIterator[str] = self._client.tail_job_logs(job)
        seen = 0
        async for text in lines:
            seen += len(text)
            if seen > written:
                write(text[-(seen - written) :])
                written = seen
        return written

    def _asked(self, call: Callable[[], Any]) -> Any:
        """Call the client, and tell its errors as ours: it raises what its HTTP library and its server say."""
        from ray.exceptions import AuthenticationError

        try:
            return call()
        except AuthenticationError:
            raise CredentialsError(
                f"The cluster at {self.address} wants its token. Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or "
                "RAY_AUTH_TOKEN_PATH) to what its head has."
            ) from None
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            raise ClusterError(
                f"The cluster at {self.address} cannot be reached: {_brief(error)}. Check the address, and that the port is open."
            ) from None
        except RuntimeError as error:
            raise ClusterError(
                f"The head at {self.address} serves no jobs: {_brief(error)}. Install ray[default] there, and start it with its "
                "dashboard."
            ) from None


def _no_connection() -> type[Exception]:
    from aiohttp import ClientError

    return ClientError


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
