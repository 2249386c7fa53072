"""Every verb of root code is logged, so that a resumed cell gets its reply again, or is listed here with the reason."""

from __future__ import annotations

from rlm_ray.recursion.verbs import dispatch

#: Verbs whose reply the log does not keep: they cost no scan and always say the same.
NOT_LOGGED = {
    "reading",  # an estimate from the manifest
    "check_pattern",  # depends on its argument alone
    "cite",  # citations have a log of their own
}


def test_every_verb_is_logged_or_listed() -> None:
    computed = {name for name, verb in dispatch.VERBS.items() if verb.on_rerun == "compute"}
    assert computed == NOT_LOGGED, "log the verb's reply (on_rerun in recursion/verbs/dispatch.py), or list it here with the reason"


def test_every_method_of_a_verb_has_its_row() -> None:
    methods = {name.removeprefix("_verb_") for name in vars(dispatch.Dispatcher) if name.startswith("_verb_")}
    assert set(dispatch.VERBS) == methods
