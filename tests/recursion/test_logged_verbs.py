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
    verbs = {name.removeprefix("_verb_") for name in dir(dispatch.Dispatcher) if name.startswith("_verb_")}
    logged = dispatch._REPEATED | dispatch._BEGUN
    assert verbs - logged == NOT_LOGGED, "add the verb to _LOOKED in recursion/verbs/dispatch.py, or here with the reason"
    assert logged <= verbs
