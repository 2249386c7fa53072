"""Names of members: which of them stay inside of their archive."""

from __future__ import annotations

import re

MAX_NAME = 4_096
_DRIVE = re.compile(r"[A-Za-z]:")


def checked(name: str) -> tuple[str, str]:
    """Return a member's name as it is shown, and what is wrong with it; nothing is empty.

    Examples
    --------
    >>> checked("./logs//a.log"), checked("../etc/passwd")[1], checked("C:\\\\a.txt")[1]
    (('logs/a.log', ''), 'its name leads out of the archive', 'its name is absolute')
    """
    if len(name) > MAX_NAME:
        return name[:200], f"its name has more than {MAX_NAME:,} characters"
    if "/" not in name:
        name = name.replace("\\", "/")  # as some writers on Windows do
    parts = [part for part in name.split("/") if part not in ("", ".")]
    shown = "/".join(parts)
    if not shown.isprintable() and any(0xD800 <= ord(char) < 0xE000 for char in shown):
        return shown.encode("utf-8", "backslashreplace").decode(), "its name is not UTF-8"
    if ".." in parts:
        return shown, "its name leads out of the archive"
    if name.startswith("/") or _DRIVE.match(name):
        return shown, "its name is absolute"
    if not shown or "\0" in shown:
        return shown.replace("\0", "?"), "it has no name"
    return shown, ""
