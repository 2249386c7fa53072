"""The errors of rlm_ray: one tree, drawn here.

::

    RlmRayError
    ├── InputError (ValueError)            a question, URI, flag, column or pattern that cannot work
    │   ├── SettingsError                  a setting that cannot work, or a settings file that cannot be read
    │   ├── SpecError                      the specification of a job; names the line
    │   └── DepthExceeded                  a recursive call below the deepest level, on a part too large for one call
    ├── CredentialsError (PermissionError) a key or role that is missing or refused
    ├── MissingExtra (ImportError)         an optional dependency; names the extra that brings it
    ├── StorageError (OSError)             object storage did not do what was asked
    │   ├── ObjectChanged                  an object is no longer the version in the manifest
    │   └── ObjectUnreadable               an object that its format's reader refuses
    ├── BudgetExceeded (RuntimeError)      a limit of the run would be passed; nothing was spent
    ├── ModelError (RuntimeError)          a chat completion that did not come to a usable reply
    │   ├── ModelRefused                   the endpoint refused the request itself; asking again is no use
    │   └── ReplyInvalid                   the reply does not fit its schema, after being asked again
    ├── SubcallFailed (RuntimeError)       one sub-call of root code failed for good
    ├── FunctionFailed (RuntimeError)      a function of root code failed on too many of its records
    ├── SubcallsFailed (RuntimeError)      some of a batch failed; `.answers` and `.errors` hold all of it
    ├── SandboxError (RuntimeError)        the process that runs root code
    │   ├── SandboxUnavailable             the walls cannot be built on this machine
    │   ├── SandboxRestarted               the process ended and was replaced
    │   └── ProtocolError                  bytes from the sandbox that are not a frame
    ├── RunError (RuntimeError)            a run directory
    │   ├── RunNotFound (LookupError)      no run of that name
    │   ├── RunBusy                        another driver holds the run
    │   └── AssumptionBroken               a program was made for data of another shape
    ├── RunPaused (RuntimeError)           the run has stopped on purpose; `rlm-ray resume` goes on with it
    │   ├── ConfirmationNeeded             a batch would cost more than may be spent without asking
    │   └── PlanMade                       only a plan was asked for, and a batch came
    ├── TraceNotSent (RuntimeError)        a collector of OpenTelemetry did not take the trace of a run
    └── ClusterError (RuntimeError)        Ray could not be started, reached or used

Every message names the object and the value, and ends with what to do next. Every error survives pickling
(Ray carries exceptions between processes; one that cannot be rebuilt arrives as another class).
"""

from __future__ import annotations

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any

    from rlm_ray.types.usage import Usage


def _rebuild(kind: type[RlmRayError], args: tuple[Any, ...], state: dict[str, Any]) -> RlmRayError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class RlmRayError(Exception):
    """Root of every error that rlm_ray raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class InputError(ValueError, RlmRayError):
    """What was asked for cannot work; nothing was read or spent because of it."""


class SettingsError(InputError):
    """A setting that cannot work, or a settings file that cannot be read."""


class SpecError(InputError):
    """The specification of a job cannot work; names the file, the line and the key."""


class DepthExceeded(InputError):
    """A recursive call below the deepest level whose part does not fit one model call."""


class CredentialsError(PermissionError, RlmRayError):
    """A key or role that is missing, or that the other side refused."""


class MissingExtra(ImportError, RlmRayError):
    """An optional dependency is not installed.

    Parameters
    ----------
    what : str
        What the person wanted to do.
    extra : str
        The extra of rlm-ray that brings what is missing.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}', which is not installed. Run: pip install 'rlm-ray[{extra}]'")
        self.extra = extra

    __reduce__ = RlmRayError.__reduce__  # ImportError has one of its own, which calls __init__ with the message


class StorageError(OSError, RlmRayError):
    """Object storage did not do what was asked, after retries.

    Attributes
    ----------
    ends_run : bool
        What could not be written is the run's own record: it cannot go on.
    """

    ends_run: bool = False


class ObjectChanged(StorageError):
    """An object is no longer the version that the manifest recorded."""


class ObjectUnreadable(StorageError):
    """An object that its format's reader refuses."""


class UnreadShard(UserWarning):
    """A shard could not be read and is not part of what a verb gave, outside of a run that reports it in its answer."""


class BudgetExceeded(RuntimeError, RlmRayError):
    """A limit of the run would be passed. Raised before anything is spent.

    Attributes
    ----------
    passing : bool
        Whether the amount fits once calls in flight have settled for less than was set aside for them.
    usage : Usage or None
        What earlier attempts of the same call were charged.
    """

    passing: bool = False
    usage: Usage | None = None


class ModelError(RuntimeError, RlmRayError):
    """A chat completion that did not come to a usable reply, after its attempts.

    Attributes
    ----------
    usage : Usage or None
        What its attempts were charged.
    """

    usage: Usage | None = None


class ModelRefused(ModelError):
    """The endpoint refused the request itself (HTTP 400, 404, 422): asking again is no use.

    Attributes
    ----------
    too_long : bool
        Whether the endpoint says that the request is longer than the model's context.
    status : int or None
        The HTTP status; None where the model declined to answer.
    """

    too_long: bool = False
    status: int | None = None


class ReplyInvalid(ModelError):
    """The model's reply does not fit the schema, after being asked again."""


class SubcallFailed(RuntimeError, RlmRayError):
    """One sub-call of root code failed for good."""


class FunctionFailed(RuntimeError, RlmRayError):
    """A function of root code failed on all records that it was given, or on more than `max_failed_share` of them."""


class SubcallsFailed(RuntimeError, RlmRayError):
    """Some sub-calls of a batch failed.

    Attributes
    ----------
    answers : list of str or None
        One per prompt, in order; None where the call failed.
    errors : dict of int to str
        The reason, by the prompt's index.
    """

    def __init__(self, message: str, answers: list[Any] | None = None, errors: dict[int, str] | None = None) -> None:
        super().__init__(message)
        self.answers = answers if answers is not None else []
        self.errors = errors if errors is not None else {}


class SandboxError(RuntimeError, RlmRayError):
    """Something about the process that runs root code."""


class SandboxUnavailable(SandboxError):
    """The walls that the isolation level asks for cannot be built on this machine."""


class SandboxRestarted(SandboxError):
    """The sandbox ended (time, memory, a crash) and was replaced from its last snapshot."""


class ProtocolError(SandboxError):
    """Bytes from the sandbox that are not a well-formed frame."""


class RunError(RuntimeError, RlmRayError):
    """Something about a run directory."""


class RunNotFound(LookupError, RunError):
    """No run of that id or directory."""


class RunBusy(RunError):
    """Another driver holds the run."""


class AssumptionBroken(RunError):
    """A program was made for data, or an answer, of another shape; says what changed."""


class RunPaused(RuntimeError, RlmRayError):
    """The run has stopped on purpose, with nothing lost: `rlm-ray resume` goes on with it."""


class ConfirmationNeeded(RunPaused):
    """A batch of sub-calls would cost more than `confirm_over_usd`, and nobody is there to ask."""


class PlanMade(RunPaused):
    """A batch of sub-calls was planned, and not asked.

    Attributes
    ----------
    plan : dict or None
        A `types.estimate.BatchPlan`.
    """

    plan: dict[str, Any] | None = None


class TraceNotSent(RuntimeError, RlmRayError):
    """A collector of OpenTelemetry did not take the trace of a run."""


class ClusterError(RuntimeError, RlmRayError):
    """Ray could not be started, reached or used.

    Attributes
    ----------
    ends_run : bool
        Whether nothing that root code could do would help.
    worker_lost : bool
        Whether a worker ended while it ran the task.
    """

    ends_run: bool = False
    worker_lost: bool = False
