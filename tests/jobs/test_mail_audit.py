"""The shipped audit of mail: with a reader that knows, the findings are what the mails and their attachments say, by thread."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from rlm_ray.testing import ModelServer
from rlm_ray.testing.leaves import asked
from tests.documents import docx
from tests.jobs.contracts import Known, Reader, found_cells, made_up
from tests.jobs.jobs import run_job
from tests.mails import mail, mbox

#: The sentences of the mails that are acts, and what they are.
ACTS = {
    "promise": re.compile(r"we promise to deliver lot \d+ by May"),
    "disclosure": re.compile(r"the secret of lot \d+"),
    "agreement": re.compile(r"We agree to the price of \d+"),
}


def reader(prompt: str, schema: dict[str, Any] | None = None) -> str:
    """A model that knows the acts, and quotes one wrongly."""
    question = asked(prompt, schema)
    replies = {}
    for number, text in question.texts.items():
        found = []
        for act, pattern in ACTS.items():
            for match in pattern.finditer(text):
                quote = match[0] + " for sure" if "lot 13" in match[0] else match[0]
                found.append({"act": act, "who": None, "whom": None, "what": f"{act}: {match[0]}.", "quote": quote})
        replies[number] = {"acts": found}
    return question.reply(replies)


def mailbox(count: int) -> bytes:
    mails: list[bytes] = []
    for number in range(count):
        made: EmailMessage = mail(number, parent=number - number % 3 if number % 3 else None)
        if number % 5 == 0:
            made.add_attachment(f"the secret of lot {number}\n".encode(), maintype="text", subtype="plain", filename="secret.txt")
        if number % 7 == 0:
            word = "vnd.openxmlformats-officedocument.wordprocessingml.document"
            contract = docx([[f"We agree to the price of {number}"]])
            made.add_attachment(contract, maintype="application", subtype=word, filename="terms.docx")
        mails.append(bytes(made))
    return mbox(mails)


def test_findings_are_what_mails_and_attachments_say(model_server: Callable[..., ModelServer], tmp_path: Path) -> None:
    box = tmp_path / "mails.mbox"
    box.write_bytes(mailbox(20))
    server = model_server(leaf=reader, models=("leaf",))
    audited = run_job("mail_audit", "mails", str(box), tmp_path, server.base_url)
    assert (audited.answer.complete, audited.broken) == (True, ""), audited.answer.message
    rows = audited.checked.standing
    threads = {number: f"m{number - number % 3}@north.example" for number in range(20)}
    expected = {
        ("promise", threads[number], f"we promise to deliver lot {number} by May", "mail") for number in range(20) if number != 13
    }
    expected |= {("disclosure", threads[number], f"the secret of lot {number}", "secret.txt") for number in range(0, 20, 5)}
    expected |= {("agreement", threads[number], f"We agree to the price of {number}", "terms.docx") for number in range(0, 20, 7)}
    assert {(row["kind"], row["thread"], row["quote"], row["place"]) for row in rows} == expected
    assert len(rows) == len(expected)  # what a mail quotes is found once, where it was written
    (rejected,) = audited.checked.rejected
    assert "is not in the record" in rejected["reason"]
    assert {row["severity"] for row in audited.failing} == {"high"}
    assert rows[0]["severity"] == "high" or rows[0]["thread"] in {row["thread"] for row in audited.failing}
    assert rows[0]["who"] == "Änne Müller <anne@north.example>"
    assert all("#bytes=" in row["address"] and "&column=text" in row["address"] for row in rows)


class RowReader(Reader):
    """The reader of contracts, of rows: they come as JSON."""

    def _found(self, record: str) -> Iterable[dict[str, Any]]:
        row = json.loads(record)
        return super()._found(f"{row['name']}\n{row['text']}")


def test_the_audit_of_contracts_takes_a_mailbox(model_server: Callable[..., ModelServer], tmp_path: Path) -> None:
    texts = made_up(4, filler=4)
    known = Known(dict(texts.texts), texts.clauses)
    mails = []
    for number, (name, text) in enumerate(known.texts.items()):
        made = mail(number)
        made.add_attachment(text.encode(), maintype="text", subtype="plain", filename=name)
        made.add_attachment(b"\x89PNG\r\n\x1a\n", maintype="image", subtype="png", filename="logo.png")
        mails.append(bytes(made))
    box = tmp_path / "deals.mbox"
    box.write_bytes(mbox(mails))
    server = model_server(leaf=RowReader(known), models=("leaf",))
    audited = run_job("contract_audit", "contracts", str(box), tmp_path, server.base_url, ["corpora.contracts.unit=row"])
    assert (audited.answer.complete, audited.broken, audited.checked.rejected) == (True, "", []), audited.answer.message
    assert found_cells(audited.checked.standing) == known.cells
    assert {row["contract"] for row in audited.checked.standing} == set(known.texts)


@pytest.mark.parametrize("acts", ["[]", "[{name: promise}]"])
def test_a_list_that_cannot_work_is_said(model_server: Callable[..., ModelServer], tmp_path: Path, acts: str) -> None:
    box = tmp_path / "mails.mbox"
    box.write_bytes(mailbox(1))
    file = tmp_path / "acts.yaml"
    file.write_text(acts)
    audited = run_job(
        "mail_audit", "mails", str(box), tmp_path, model_server(leaf=reader, models=("leaf",)).base_url, [f"values.acts={file}"]
    )
    assert not audited.answer.answered
    assert "acts.yaml" in audited.answer.message or "no name or no question" in audited.answer.message
