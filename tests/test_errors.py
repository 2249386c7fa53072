"""The whole tree of errors: Ray carries them between processes, so each must survive pickling as itself."""

from __future__ import annotations

import builtins
import copy
import pickle
import re
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest

from rlm_ray import errors
from rlm_ray.errors import MissingExtra, RlmRayError, SubcallsFailed
from rlm_ray.types.usage import Usage


def tree(kind: type[RlmRayError] = RlmRayError) -> Iterator[type[RlmRayError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from tree(below)


KINDS = list(dict.fromkeys(tree()))

#: Where the arguments of making one are not just a message.
ARGUMENTS: dict[type[RlmRayError], tuple[Any, ...]] = {
    MissingExtra: ("Reading Delta tables", "tables"),
    SubcallsFailed: ("1 of 2 calls failed", ["a", None], {1: "HTTP 500"}),
}


def made(kind: type[RlmRayError]) -> RlmRayError:
    return kind(*ARGUMENTS.get(kind, ("s3://lake/a.parquet cannot be read: it is gone. Open the corpus again.",)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_an_error_survives_pickling_with_its_attributes(kind: type[RlmRayError], pickler: Any) -> None:
    error = made(kind)
    error.extra_word = {"a": [1]}  # type: ignore[attr-defined]
    again = pickle.loads(pickler.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.args == error.args
    assert again.__dict__ == error.__dict__
    assert again.extra_word == {"a": [1]}


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_can_be_copied_and_raised_again(kind: type[RlmRayError]) -> None:
    with pytest.raises(kind) as caught:
        raise copy.copy(made(kind)) from None
    assert str(caught.value) == str(made(kind))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(protocol: int) -> None:
    again = pickle.loads(pickle.dumps(made(SubcallsFailed), protocol))
    assert (again.answers, again.errors) == (["a", None], {1: "HTTP 500"})


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InputError", ValueError),
        ("SettingsError", ValueError),
        ("DepthExceeded", ValueError),
        ("CredentialsError", PermissionError),
        ("MissingExtra", ImportError),
        ("StorageError", OSError),
        ("ObjectChanged", OSError),
        ("BudgetExceeded", RuntimeError),
        ("ModelError", RuntimeError),
        ("SubcallFailed", RuntimeError),
        ("SubcallsFailed", RuntimeError),
        ("SandboxError", RuntimeError),
        ("RunNotFound", LookupError),
        ("RunBusy", RuntimeError),
        ("ClusterError", RuntimeError),
    ],
)
def test_errors_are_the_builtin_ones_that_people_catch(name: str, builtin: type[Exception]) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, builtin)
    assert issubclass(kind, RlmRayError)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_shows_its_message_and_nothing_else(kind: type[RlmRayError]) -> None:
    """OSError and KeyError have ways of their own to show themselves."""
    message = made(kind).args[0]
    assert str(made(kind)) == message
    assert "\n" not in message


def test_the_drawing_is_the_tree() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    (?P<lead>[│ ├└─]*)(?P<name>\w+)(?: \((?P<builtin>\w+)\))?(?: |$)", line)
        if match is None or not hasattr(errors, match["name"]):
            continue
        level = len(match["lead"]) // 4
        path[level:] = [match["name"]]
        drawn[match["name"]] = path[level - 1] if level else ""
        if match["builtin"]:
            assert issubclass(getattr(errors, match["name"]), getattr(builtins, match["builtin"]))
    assert set(drawn) == {kind.__name__ for kind in KINDS}
    for name, parent in drawn.items():
        assert not parent or issubclass(getattr(errors, name), getattr(errors, parent))
        assert not parent or getattr(errors, parent) in getattr(errors, name).__bases__


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_says_what_it_is(kind: type[RlmRayError]) -> None:
    assert kind.__doc__
    assert kind.__doc__ != RlmRayError.__doc__ or kind is RlmRayError


def test_a_missing_extra_names_the_command() -> None:
    error = MissingExtra("Reading Delta tables", "tables")
    assert str(error).endswith("Run: pip install 'rlm-ray[tables]'")
    assert pickle.loads(pickle.dumps(error)).extra == "tables"


def test_declared_fields_stand_on_the_class_and_travel_when_set() -> None:
    refused = errors.ModelRefused("the request is too long")
    assert (refused.too_long, refused.usage) == (False, None)
    refused.too_long, refused.usage = True, Usage(1, 20, usd=0.5)
    lost = errors.ClusterError("a worker was lost")
    lost.worker_lost = True
    passing = errors.BudgetExceeded("up to 9 tokens may be needed and 3 are left")
    passing.passing = True
    again = [pickle.loads(pickle.dumps(error)) for error in (refused, lost, passing)]
    assert (again[0].too_long, again[0].usage, again[1].worker_lost, again[2].passing) == (True, Usage(1, 20, usd=0.5), True, True)
    assert (again[1].ends_run, again[2].usage) == (False, None)


def test_a_cause_is_no_part_of_the_pickle() -> None:
    """A cause may hold anything; what travels is the message."""
    with pytest.raises(errors.StorageError) as caught:
        raise errors.StorageError("a.log cannot be read") from OSError(2, "no such file")
    assert pickle.loads(pickle.dumps(caught.value)).__cause__ is None
