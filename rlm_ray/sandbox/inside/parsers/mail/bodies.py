"""The text that somebody wrote in a message, apart from the mails that it quotes."""

from __future__ import annotations

import re

#: Lines that say that a quotation follows, in the languages of common programs.
_ATTRIBUTION = re.compile(
    r"^\s*(?:On\b.{4,300}\bwrote|Am\b.{4,300}\bschrieb\b.{0,200}|Le\b.{4,300}\ba écrit|El\b.{4,300}\bescribió"
    r"|Il\b.{4,300}\bha scritto|Op\b.{4,300}\bschreef\b.{0,200}|Em\b.{4,300}\bescreveu|Den\b.{4,300}\bskrev\b.{0,200}"
    r"|.{3,200}<[^<>\s]+@[^<>\s]+>\s*(?:wrote|writes|schrieb))\s*:\s*$",
    re.IGNORECASE,
)
_DIVIDER = re.compile(
    r"^\s*(?:-{2,}\s*(?:Original Message|Forwarded message|Ursprüngliche Nachricht|Originalnachricht"
    r"|Weitergeleitete Nachricht"
    r"|Message d'origine|Mensaje original|Messaggio originale|Forwarded by\b.*|Original-Nachricht)\s*-{2,}"
    r"|Begin forwarded message:)\s*$",
    re.IGNORECASE,
)
_HEADER = re.compile(r"^\s*\*?(?:From|Von|De|Da|Van)\s*:\*?\s*\S", re.IGNORECASE)
_SECOND = re.compile(
    r"^\s*\*?(?:Sent|Date|Gesendet|Datum|Envoyé|Enviado|Inviato|Verzonden|To|An|À|Para|A|Aan|Subject|Betreff)\s*:\*?\s*\S",
    re.IGNORECASE,
)
_RULE = re.compile(r"^\s*_{10,}\s*$")


def parted(text: str) -> tuple[str, str]:
    """Return what was written and what is quoted, both as they stand.

    Lines that begin with `>` are quoted; so is all behind a line that says that an older message follows, unless marked lines
    follow it, between which somebody may have answered.

    Examples
    --------
    >>> parted("Yes.\\n\\nOn Mon, 1 Jan 2024, A <a@b.c> wrote:\\n> Shall we?\\nWe shall.\\n")
    ('Yes.\\n\\nWe shall.', 'On Mon, 1 Jan 2024, A <a@b.c> wrote:\\n> Shall we?')
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    own: list[str] = []
    quoted: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(">") and not line.startswith(">From "):
            quoted.append(line)
            at += 1
            continue
        length = _attributes(lines, at)
        if length and _is_marked(lines, at + length):
            quoted += lines[at : at + length]
            at += length
            continue
        if length or _begins_history(lines, at):
            quoted += lines[at:]
            break
        own.append(line)
        at += 1
    return "\n".join(own).strip("\n"), "\n".join(quoted).strip("\n")


def _attributes(lines: list[str], at: int) -> int:
    """Return how many lines say that a quotation follows: one, or two that a program has wrapped."""
    line = lines[at]
    if not line.strip() or len(line) > 400:
        return 0
    if _ATTRIBUTION.match(line):
        return 1
    if at + 1 < len(lines) and lines[at + 1].rstrip().endswith(":") and len(lines[at + 1]) < 200:
        return 2 if _ATTRIBUTION.match(f"{line.rstrip()} {lines[at + 1].strip()}") else 0
    return 0


def _is_marked(lines: list[str], at: int) -> bool:
    following = next((line for line in lines[at : at + 4] if line.strip()), "")
    return following.startswith(">")


def _begins_history(lines: list[str], at: int) -> bool:
    line = lines[at]
    if _DIVIDER.match(line):
        return True
    if _RULE.match(line):
        following = [text for text in lines[at + 1 : at + 4] if text.strip()]
        return bool(following) and _HEADER.match(following[0]) is not None
    if _HEADER.match(line):
        return sum(_SECOND.match(text) is not None for text in lines[at + 1 : at + 5]) >= 2
    return False
