"""The names that root code finds in its REPL, made from a backend: the handles and the sub-call functions.

A person in a notebook has the same functions (`rlm_ray.llm_map` and the others), made here with another backend.
Imports only the standard library and the handle, because root code's process imports it.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlm_ray.errors import BudgetExceeded, FunctionFailed, InputError, SubcallFailed, SubcallsFailed
from rlm_ray.handle.arguments import error_choice
from rlm_ray.handle.chunks import Chunks
from rlm_ray.handle.corpus import Backend, Corpus
from rlm_ray.handle.parts import parts_to_json
from rlm_ray.handle.plan import Plan
from rlm_ray.handle.values import Budget

TYPE_CHECKING = False  # see rlm_ray/__init__.py
if TYPE_CHECKING:
    from typing import Any

    from rlm_ray.types.json import JsonObject


class Verbs:
    """The sub-call functions over one backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def llm_query(self, prompt: str, part: Corpus | str | None = None, model: str | None = None) -> str:
        """Ask a model once and return its answer.

        Parameters
        ----------
        prompt : str
            The instruction.
        part : Corpus or str, optional
            Its records are put below the prompt; must fit one call.
        model : str, optional
            One of the run's models; the sub-model where not given.

        Raises
        ------
        SubcallFailed
            The call failed for good.
        BudgetExceeded
            A limit of the run would be passed.
        """
        answer: str = self._call("llm_query", prompt=_prompt(prompt), part=_part(part), model=model)
        return answer

    def llm_query_batched(self, prompts: Sequence[str], model: str | None = None) -> list[str]:
        """Ask many prompts at once; the answers come in the prompts' order.

        Raises
        ------
        SubcallsFailed
            Some failed: `.answers` has the others (None where failed), `.errors` the reasons by index.
        """
        reply = self._call("llm_query_batched", prompts=[_prompt(prompt) for prompt in _sequence(prompts, "prompts")], model=model)
        return _answers(reply)

    def llm_map(
        self,
        prompt: str,
        chunks: Chunks | Sequence[Corpus | str],
        schema: dict[str, Any] | None = None,
        model: str | None = None,
        votes: int | str = 1,
        on_error: str = "raise",
    ) -> Corpus:
        """Ask the same about every chunk: one answer, one row per chunk. Starts at once; reading the result waits.

        Parameters
        ----------
        prompt : str
            The instruction; each chunk's records are put below it.
        chunks : sequence of Corpus or str
            What `.chunks()` returns, or a list.
        schema : dict, optional
            `{"label": ["spam", "ham"], "amount": "number"}` or a JSON Schema: the columns of the result. Without it
            the answer is the column `answer`. The type "quote" is words that stand in one record of what the model was
            shown: an answer with others is asked again. Then `_quote` has the first, and `_address` names its record.
        votes : int or str
            Calls per chunk; the majority is the answer. "2+1": two, and a third only where they differ.
        on_error : {"raise", "keep"}
            Reading a result of which more than the run's `max_failed_share` failed raises; with "keep" it does not.

        Returns
        -------
        Corpus
            A row per chunk that was answered, in order: `_address` and the answer. Failed ones are in `.failed`, with `_error`.
        """
        if isinstance(chunks, Corpus):
            raise InputError("llm_map takes chunks: give corpus.chunks(tokens=…). For one answer per record use llm_each.")
        parts = parts_to_json(_sequence(chunks, "chunks"))
        return self._result(
            "llm_map", prompt=_prompt(prompt), parts=parts, schema=schema, model=model, votes=votes, **error_choice(on_error)
        )

    def llm_each(
        self,
        prompt: str,
        context: Corpus,
        schema: dict[str, Any] | None = None,
        model: str | None = None,
        votes: int | str = 1,
        on_error: str = "raise",
        show: Sequence[str] | None = None,
        dry: bool = False,
    ) -> Corpus | JsonObject:
        """Ask the same about every record; many records are packed into each call. Exactly one row per record.

        Starts at once; reading the result waits. The columns of the input are kept beside the answer. A record that
        stays without a valid answer is a row of `.failed`, and is not among the others. `on_error` as in `llm_map`.

        Records of which the model is shown the same are asked about once: each has the one answer, or shares the one error, and
        the column `_shared` says how many they are, where there are any. A wrong answer is wrong for all that share it, so
        check a sample of different contents. `show` names the columns that the model is shown, so that a time stamp does not
        make equal messages different. Where it is not given, these are all columns but those that models wrote in an earlier
        batch: a reader that sees an earlier verdict repeats it. With `dry` nothing is asked, and a dict says what it would
        take: `records`, `distinct`, `answered`, `calls`, `prompt_tokens`, `completion_tokens`, `usd`, `usd_batch`, `rests_on`.
        """
        if not isinstance(context, Corpus):
            raise InputError(f"llm_each takes a Corpus, not {type(context).__name__}. For texts use llm_query_batched or llm_map.")
        args = {"prompt": _prompt(prompt), "plan": context.plan.to_json(), "schema": schema, "model": model, "votes": votes}
        args |= error_choice(on_error) | ({} if show is None else {"show": list(_sequence(show, "show"))})
        if dry:
            plan: JsonObject = self._call("llm_each_plan", **args)
            return plan
        return self._result("llm_each", **args)

    def rlm_query(self, question: str, part: Corpus | str | None = None, model: str | None = None) -> str:
        """Ask a fresh Recursive Language Model, one level deeper, whose context is `part`. It costs several calls.

        Alone, the question is also its context. At the deepest level it becomes one plain call where the part fits one.
        """
        answer: str = self._call(
            "rlm_query", question=_prompt(question), part=_part(question if part is None else part), model=model
        )
        return answer

    def rlm_query_batched(self, questions: Sequence[str], parts: Sequence[Corpus | str] | None = None) -> list[str]:
        """Ask many recursive calls at once; the answers come in order.

        Raises
        ------
        SubcallsFailed
            As `llm_query_batched`.
        """
        asked = [_prompt(question) for question in _sequence(questions, "questions")]
        given = asked if parts is None else _sequence(parts, "parts")
        if len(given) != len(asked):
            raise InputError(f"{len(asked)} questions need as many parts, and were given {len(given)}. Give one for each.")
        return _answers(self._call("rlm_query_batched", questions=asked, parts=parts_to_json(given)))

    def rlm_map(
        self,
        question: str,
        parts: Chunks | Sequence[Corpus | str],
        schema: dict[str, Any] | None = None,
        on_error: str = "raise",
    ) -> Corpus:
        """Ask the same question of a recursive call per part: one row per part. Starts at once; reading waits.

        Failed parts are in `.failed`; `on_error` as in `llm_map`.
        """
        if isinstance(parts, Corpus):
            raise InputError("rlm_map takes parts: give corpus.chunks(tokens=…) or a list of Corpus.")
        given = parts_to_json(_sequence(parts, "parts"))
        return self._result("rlm_map", question=_prompt(question), parts=given, schema=schema, **error_choice(on_error))

    def cite(self, record: dict[str, Any] | str, quote: str | None = None) -> dict[str, Any]:
        """Name a record (its dict or `_address`) as evidence for the answer, with the words that matter, if any.

        Reads that record. White space and Unicode forms do not matter to a quote; all else does. A row whose schema has a
        "quote" is cited with its words where no others are given.

        Raises
        ------
        InputError
            There is no such record, or the quote is not in it; that is shown with the answer.
        """
        address = record.get("_address") if isinstance(record, dict) else record
        if not isinstance(address, str):
            raise InputError("cite takes a record with its '_address', or the address itself.")
        if quote is None and isinstance(record, dict):
            quote = record.get("_quote")
        citation: dict[str, Any] = self._call("cite", address=address, quote=quote)
        return citation

    def budget(self) -> Budget:
        """Return what is left of the run's limits, and what was spent."""
        return Budget(self._call("budget"))

    def _call(self, verb: str, **args: Any) -> Any:
        return self._backend.call(verb, args)[0]

    def _result(self, verb: str, **args: Any) -> Corpus:
        reply = self._call(verb, **args)
        return Corpus(Plan.from_json(reply["plan"]), reply["info"], self._backend)


NAMES = ("llm_query", "llm_query_batched", "llm_map", "llm_each", "rlm_query", "rlm_query_batched", "rlm_map", "cite", "budget")


#: Errors that root code catches by name.
ERRORS = (BudgetExceeded, FunctionFailed, InputError, SubcallFailed, SubcallsFailed)


def namespace(backend: Backend, setup: dict[str, Any]) -> dict[str, Any]:
    """Return the names of a REPL.

    Parameters
    ----------
    backend : Backend
        Where verbs go.
    setup : dict
        `text`: the context is this str. Else `corpora`: `{name: {"plan": …, "info": …}}`, each a variable by its name,
        and `main`: the one that is `context`, or None where `context` is the dict of them.
    """
    verbs = Verbs(backend)
    names: dict[str, Any] = {name: getattr(verbs, name) for name in NAMES} | {error.__name__: error for error in ERRORS}
    if setup.get("text") is not None:
        return names | {"context": setup["text"]}
    corpora = {name: Corpus(Plan.from_json(item["plan"]), item["info"], backend) for name, item in setup.get("corpora", {}).items()}
    main = setup.get("main")
    return names | corpora | {"context": corpora[main] if main is not None else corpora}


def explain(error: BaseException) -> str | None:
    """Return a hint for an error that root code runs into because a Corpus is not text, or None."""
    text = str(error)
    if not isinstance(error, TypeError) or "Corpus" not in text:
        return None
    if "bytes-like" in text:
        return "A Corpus is a handle, not text: use context.grep(pattern) to search it, context.text() to read a little of it."
    if "str" in text or "concatenate" in text:
        return "A Corpus is a handle, not text: pass it as `part` of llm_query, or read a little with .text()."
    return None


def _prompt(prompt: Any) -> str:
    if not isinstance(prompt, str):
        raise InputError(f"A prompt is a str, not {type(prompt).__name__}. Pass a Corpus as the second argument.")
    return prompt


def _part(part: Any) -> Any:
    return None if part is None else parts_to_json([part])[0]


def _sequence(values: Any, what: str) -> Any:
    if isinstance(values, str | bytes | dict) or not hasattr(values, "__iter__"):
        raise InputError(f"{what} is a {type(values).__name__}, not a list. Give a list, one entry per call.")
    return values if hasattr(values, "__len__") else list(values)


def _answers(reply: dict[str, Any]) -> list[str]:
    if reply["errors"]:
        errors = {int(index): reason for index, reason in reply["errors"].items()}
        first = min(errors)
        raise SubcallsFailed(
            f"{len(errors)} of {len(reply['answers'])} calls failed, the first at index {first}: {errors[first]}. "
            "The error's .answers has the others (None where failed), .errors the reasons by index.",
            reply["answers"],
            errors,
        )
    answers: list[str] = reply["answers"]
    return answers
