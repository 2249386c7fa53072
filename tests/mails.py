"""Mails for tests: written with Python's email package, or by hand where that would refuse."""

from __future__ import annotations

import datetime
import email.utils
import io
import random
import zipfile
from email.message import EmailMessage

from tests.documents import docx

PEOPLE = ("Änne Müller <anne@north.example>", "Bob Stone <bob@south.example>", "周杰 <zhou@east.example>")


def mail(number: int, *, parent: int | None = None, text: str | None = None) -> EmailMessage:
    """Return a mail of a thread, whose text is known."""
    made = EmailMessage()
    made["From"], made["To"] = PEOPLE[number % 3], PEOPLE[(number + 1) % 3]
    made["Cc"] = "all@south.example"
    made["Subject"] = ("Re: " if parent is not None else "") + f"Angebot {number if parent is None else parent}: größer"
    moment = datetime.datetime(2024, 3, 1 + number % 28, 9, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    made["Date"] = email.utils.format_datetime(moment)
    made["Message-ID"] = f"<m{number}@north.example>"
    if parent is not None:
        made["In-Reply-To"] = made["References"] = f"<m{parent}@north.example>"
    made.set_content(text if text is not None else own_text(number) + ("" if parent is None else quoted_text(parent)))
    return made


def own_text(number: int) -> str:
    """Return what the author of a mail wrote."""
    return f"Dear all,\nFrom our side we promise to deliver lot {number} by May – größer.\n"


def quoted_text(number: int) -> str:
    """Return how a mail quotes another."""
    return f"\nOn Fri, 1 Mar 2024 at 09:30, Änne <anne@north.example> wrote:\n> lot {number}?\n> please\n"


def with_attachments(number: int) -> EmailMessage:
    """Return a mail with a contract, a table, a picture, an archive and a mail in it."""
    made = mail(number)
    made.add_alternative(f"<p>{own_text(number)}</p>", subtype="html")
    word = "vnd.openxmlformats-officedocument.wordprocessingml.document"
    made.add_attachment(
        docx([[f"Contract {number}"]]), maintype="application", subtype=word, filename=f"Vertrag größer {number}.docx"
    )
    made.add_attachment(f"lot;price\n{number};10\n".encode("cp1252"), maintype="text", subtype="csv", filename="prices.csv")
    made.add_attachment(random.Random(number).randbytes(300), maintype="image", subtype="png", filename="logo.png")
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("terms/secret.txt", f"the secret of lot {number}\n")
        archive.writestr("../out.txt", "x")
    made.add_attachment(sink.getvalue(), maintype="application", subtype="zip", filename="terms.zip")
    made.add_attachment(mail(number + 1_000))
    return made


def mbox(mails: list[bytes]) -> bytes:
    """Return mails as an mbox, lines of texts that begin with "From " escaped as most programs do."""
    parts = []
    for data in mails:
        lines = [b">" + line if line.lstrip(b">").startswith(b"From ") else line for line in data.split(b"\n")]
        parts.append(b"From anne@north.example Fri Mar  1 09:30:00 2024\n" + b"\n".join(lines).rstrip(b"\n") + b"\n\n")
    return b"".join(parts)
