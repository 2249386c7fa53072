"""The sheet of records that people label: drawn, shuffled, without the machine's verdict; and the labels read back.

::

    RUN/validation/sheet.json    which record is of which part, and how many records each part has
    RUN/validation/labels.json   what people said
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Literal, TypedDict

from rlm_ray import storage
from rlm_ray.errors import InputError
from rlm_ray.ledger.rundir import RunDirectory
from rlm_ray.sure.validation import Stratum, Validation, needed, validated
from rlm_ray.types.run import Validated
from rlm_ray.validation.strata import FOUND, LEFT, UNREAD

#: Characters of one record on the page.
MAX_TEXT = 20_000
NAMES = (FOUND, LEFT, UNREAD)
Said = Literal["yes", "no", ""]


class Item(TypedDict):
    """A record on the sheet. What is shown to people is `id` and `text`."""

    id: str
    address: str
    text: str
    stratum: str


class Sheet(TypedDict):
    """What was drawn, and from how many records."""

    question: str
    seed: int
    sizes: dict[str, int]
    items: list[Item]


def save(run: RunDirectory, sheet: Sheet) -> None:
    """Keep a sheet with its run, without the records' texts: the page has those."""
    kept = {**sheet, "items": [{**item, "text": ""} for item in sheet["items"]]}
    storage.make_dirs(run.path("validation"))
    storage.write_bytes(run.path("validation", "sheet.json"), json.dumps(kept).encode())


def load(run: RunDirectory) -> Sheet:
    """Return the sheet of a run.

    Raises
    ------
    InputError
        None was drawn.
    """
    data = storage.find_bytes(run.path("validation", "sheet.json"))
    if data is None:
        raise InputError(f"No records of run {run.id} were drawn. First: rlm-ray validate {run.id} --sample 200 -o sheet.html")
    found: Sheet = json.loads(data)
    return found


def as_csv(sheet: Sheet) -> str:
    """Return the sheet as CSV: id, text and an empty label; without what the machine said.

    Examples
    --------
    >>> item = {"id": "1", "address": "a@1#row=3", "text": "a record", "stratum": "found"}
    >>> as_csv({"question": "?", "seed": 0, "sizes": {}, "items": [item]}).splitlines()
    ['id,label,text', '1,,a record']
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("id", "label", "text"))
    writer.writerows((item["id"], "", item["text"]) for item in sheet["items"])
    return out.getvalue()


def labels_of(text: str) -> dict[str, Said]:
    """Read labels: CSV with the columns `id` and `label`, where a label is yes or no (or y, n, 1, 0, true, false) or empty.

    Raises
    ------
    InputError
        A column is missing, or a label is none of these: it names the id.

    Examples
    --------
    >>> labels_of("id,label\\n1,yes\\n2,N\\n3,\\n")
    {'1': 'yes', '2': 'no', '3': ''}
    """
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    names = {str(name).strip().casefold(): name for name in rows.fieldnames or ()}
    if not {"id", "label"} <= names.keys():
        given = ", ".join(map(str, rows.fieldnames or ())) or "none"
        raise InputError(f"Labels need the columns id and label; these are: {given}. Give the sheet's CSV back.")
    found: dict[str, Said] = {}
    for row in rows:
        name, given = str(row[names["id"]]).strip(), str(row[names["label"]] or "").strip().casefold()
        if given not in _SAID:
            raise InputError(f"The label of {name!r:.40} is {given!r:.40}. Give yes, no, or nothing where it cannot be told.")
        found[name] = _SAID[given]
    return found


_SAID: Mapping[str, Said] = {
    **dict.fromkeys(("yes", "y", "1", "true"), "yes"),
    **dict.fromkeys(("no", "n", "0", "false"), "no"),
    **dict.fromkeys(("", "?", "unsure"), ""),
}


def judge(sheet: Sheet, labels: Mapping[str, Said], delta: float = 0.05) -> Validation:
    """Return what labels say of the run that the sheet was drawn from. A record without a label was not read.

    Raises
    ------
    InputError
        A label of no record of the sheet, or none at all.
    """
    strata = {item["id"]: item["stratum"] for item in sheet["items"]}
    if unknown := sorted(labels.keys() - strata.keys()):
        raise InputError(f"There is no record {unknown[0]!r} on the sheet. Give the labels of the sheet that was drawn last.")
    said = {name: [label for key, label in labels.items() if strata[key] == name and label] for name in NAMES}
    if not any(said.values()):
        raise InputError("No record has a label. Label some, and read them again.")
    parts = [Stratum(name, sheet["sizes"].get(name, 0), len(said[name]), said[name].count("yes")) for name in NAMES]
    return validated(parts, delta)


def keep(run: RunDirectory, labels: Mapping[str, Said], found: Validation) -> Validated:
    """Keep labels and what they show with the run."""
    told: Validated = {
        "read": found.read,
        "precision": (*found.precision,),
        "recall": (*found.recall,),
        "missed": (*found.missed,),
        "sentence": found.sentence(),
    }
    storage.write_bytes(run.path("validation", "labels.json"), json.dumps({"labels": dict(labels), "validated": told}).encode())
    return told


def forecast(sizes: Mapping[str, int], recall: float = 0.8) -> str:
    """Return, before people begin, how many of the unread they must read to show a recall, if they find no miss.

    Examples
    --------
    >>> forecast({"found": 340, "left": 3_000, "unread": 50_000})
    'To show a recall of 80 % people must read about 2,177 of the 50,000 unread without finding a miss.'
    """
    rest = sizes.get(UNREAD, 0) + sizes.get(LEFT, 0) if not sizes.get(UNREAD, 0) else sizes[UNREAD]
    if not sizes.get(FOUND) or not rest:
        return "Nothing is unread: what people read of the found and of the left tells the recall."
    return (
        f"To show a recall of {100 * recall:.0f} % people must read about {needed(sizes[FOUND], rest, recall):,} of the {rest:,} "
        "unread without finding a miss."
    )
