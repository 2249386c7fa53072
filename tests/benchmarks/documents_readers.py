"""Compares the words that the parsers of documents give with those of other readers, over folders of samples. Not part of CI.

    python tests/benchmarks/documents_readers.py FOLDER…

DOCX and ODT: LibreOffice (`soffice`), mammoth and python-docx; PDF: poppler (`pdftotext`) and pypdfium2; those that are installed.
For each reader: the share of its words that the parser gives too, the file with the lowest share, and the words that it lacks.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rlm_ray.ledger.citations import normalised
from rlm_ray.sandbox.inside.tasks.extracts import pages

KINDS = {".docx": "docx", ".docm": "docx", ".odt": "odt", ".pdf": "pdf"}


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", unicodedata.normalize("NFKC", normalised(text)).casefold()))


def soffice(path: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "soffice",
            f"-env:UserInstallation=file://{folder}/user",
            "--headless",
            "--convert-to",
            "txt:Text (encoded):UTF8",
        ]
        subprocess.run([*command, "--outdir", folder, str(path)], check=True, capture_output=True, timeout=120)
        return Path(folder, f"{path.stem}.txt").read_text("utf-8")


def mammoth(path: Path) -> str:
    import mammoth as reader

    with path.open("rb") as file:
        return str(reader.extract_raw_text(file).value)


def python_docx(path: Path) -> str:
    import docx

    document = docx.Document(str(path))
    cells = [cell.text for table in document.tables for row in table.rows for cell in row.cells if cell._tc is not None]
    return "\n".join([*(paragraph.text for paragraph in document.paragraphs), *dict.fromkeys(cells)])


def pdftotext(path: Path) -> str:
    return subprocess.run(
        ["pdftotext", "-enc", "UTF-8", str(path), "-"], check=True, capture_output=True, timeout=60
    ).stdout.decode()


def pdfium(path: Path) -> str:
    import pypdfium2

    document = pypdfium2.PdfDocument(str(path))
    return "\n".join(page.get_textpage().get_text_bounded() for page in document)


READERS: dict[str, list[Callable[[Path], str]]] = {
    ".docx": [soffice, mammoth, python_docx],
    ".odt": [soffice],
    ".pdf": [pdftotext, pdfium],
}


def main(folders: list[str]) -> None:
    shared: Counter[str] = Counter()
    total: Counter[str] = Counter()
    files: Counter[str] = Counter()
    worst: dict[str, list[tuple[float, str, list[str]]]] = {}
    for path in sorted(path for folder in folders for path in Path(folder).rglob("*") if path.suffix.lower() in KINDS):
        try:
            ours = words("\n".join(pages(KINDS[path.suffix.lower()], path.read_bytes())))
        except Exception as error:  # noqa: BLE001 - whatever a parser says of a sample
            print(f"not read: {path}: {type(error).__name__}: {error}")
            continue
        for reader in READERS.get(path.suffix.lower(), []):
            if reader in (soffice, pdftotext) and shutil.which(reader.__name__) is None:
                continue
            try:
                theirs = words(reader(path))
            except Exception as error:  # noqa: BLE001 - the other reader refuses it
                print(f"{reader.__name__} does not read {path.name}: {type(error).__name__}")
                continue
            name = f"{path.suffix.lower()} {reader.__name__}"
            common = (ours & theirs).total()
            files[name] += 1
            shared[name] += common
            total[name] += theirs.total()
            lacking = [word for word, _ in (theirs - ours).most_common(8)]
            worst.setdefault(name, []).append((common / max(1, theirs.total()), str(path), lacking))
    for name in sorted(total):
        print(
            f"{name}: {files[name]} files, {total[name]:,} words, {shared[name] / max(1, total[name]):.4f} of them given here too"
        )
        for share, file, lacking in sorted(worst[name])[:6]:
            print(f"    {share:.3f} {file} {lacking}")


if __name__ == "__main__":
    main(sys.argv[1:])
