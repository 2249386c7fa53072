# A finding for each contract and clause, and one for each pair that conflicts; first what somebody has to look at.
def finding(key, clause, kind, severity, value=None, place=None, other=None):
    return {
        "severity": severity or "none",
        "kind": kind,
        "contract": (all_contracts.get(key) or unparsed[key])["name"],
        "clause": clause,
        "value": value,
        "other": other,
        "address": place["_address"] if place else key,
        "quote": place["quote"] if place else None,
    }


rows = []
for key, found in matrix.items():
    for entry in clauses:
        clause = entry["name"]
        place = first_of(key, clause)
        if place is not None:
            rows.append(finding(key, clause, "present", entry.get("present"), place["value"], place))
        elif clause in found:  # its quote is nowhere: the job rejects it, and says so
            rows.append(finding(key, clause, "present", entry.get("present"), found[clause][0]["value"], found[clause][0]))
        elif key in unread:
            rows.append(finding(key, clause, "unread", "medium" if entry.get("missing") else "low", unread[key]))
        elif entry.get("missing"):
            rows.append(finding(key, clause, "missing", entry["missing"]))
        else:
            rows.append(finding(key, clause, "absent", None))
for key, known in unparsed.items():
    for entry in clauses:
        rows.append(finding(key, entry["name"], "unread", "medium" if entry.get("missing") else "low", known["reason"]))
for row in conflicts:
    one, clause = row["_address"], row["clause"]
    rows.append(finding(one, clause, "conflict", "high", row["why"], first_of(one, clause), all_contracts[row["with"]]["name"]))
severities, kinds = ["high", "medium", "low", "none"], ["conflict", "missing", "unread", "present", "absent"]
Final = sorted(rows, key=lambda row: (severities.index(row["severity"]), kinds.index(row["kind"]), row["contract"]))
