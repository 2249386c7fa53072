# Near the data: one row for each clause that was found, and whether its quote is in the piece.
def unpacked(record):
    import json
    import unicodedata

    def normalised(text):
        forms = dict.fromkeys(map(ord, "‐‑‒–—―−﹘﹣－⁃"), "-") | dict.fromkeys(map(ord, "‘’‚‛′`´ʼ‹›"), "'")
        forms |= dict.fromkeys(map(ord, "“”„‟″«»"), '"') | dict.fromkeys([0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF], None)
        return " ".join(unicodedata.normalize("NFKC", text).translate(forms).split())

    found = record["found"] if isinstance(record["found"], list) else json.loads(record["found"] or "[]")
    text = normalised(record[column])
    rows = []
    for item in found:
        quote = normalised(item["quote"])
        rows.append(
            {
                "clause": item["clause"],
                "value": item["value"],
                "quote": item["quote"][:2_000],
                "there": bool(quote) and quote in text,
            }
        )
    return rows


matrix = {key: {} for key in all_contracts}  # contract -> clause -> its places, in order
for row in read.ok.map(unpacked):
    matrix[row["_address"].partition("&column=")[0]].setdefault(row["clause"], []).append(row)
unread = {}  # contract -> why a piece of it was not read
for row in read.failed.select(named_by):
    unread.setdefault(row["_address"].partition("&column=")[0], row["_error"])
print(sum(map(len, matrix.values())), "clauses in", sum(map(bool, matrix.values())), "contracts;", len(unread), "not read whole")
