# Near the data: one row for each act, with its mail; threads in the order of their first finding, in a thread by time.
def unpacked(record):
    import json

    found = record["acts"] if isinstance(record["acts"], list) else json.loads(record["acts"] or "[]")
    mail = {name: record[name] for name in ("from", "to", "date", "subject", "thread", "name")}
    return [mail | {"act": item["act"], "said": item} for item in found]


rows = []
for row in read.ok.map(unpacked):
    said = row["said"]
    rows.append(
        {
            "severity": severities[row["act"]],
            "kind": row["act"],
            "thread": row["thread"] or "",
            "subject": row["subject"] or "",
            "date": row["date"] or "",
            "who": said["who"] or row["from"] or "",
            "whom": said["whom"] or row["to"] or "",
            "what": said["what"],
            "place": row["name"] or "mail",
            "address": row["_address"],
            "quote": said["quote"][:2_000],
        }
    )
order = ["high", "medium", "low", "none"]
worst = {}
for row in rows:
    worst[row["thread"]] = min(worst.get(row["thread"], 9), order.index(row["severity"]))
Final = sorted(rows, key=lambda row: (worst[row["thread"]], row["thread"], row["date"], row["place"]))
