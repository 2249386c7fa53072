# What the program takes for granted: a list of acts, and a corpus of mail. Where that does not hold, it ends.
assert isinstance(acts, list), "values.acts is no list. Give it a file like acts.yaml."
assert acts, "values.acts is empty. Give it a file like acts.yaml."
severities = {}
for entry in acts:
    assert isinstance(entry, dict), f"{entry!r} is no act. Write it as {{name: …, question: …}}."
    assert {"name", "question"} <= set(entry), f"{entry!r} has no name or no question."
    severity = entry.get("severity") or "low"
    assert severity in ("none", "low", "medium", "high"), f"{entry['name']}: severity is {severity!r}; none, low, medium or high."
    assert entry["name"] not in severities, f"The act {entry['name']!r} is on the list twice."
    severities[entry["name"]] = severity
needed = {"kind", "from", "to", "date", "subject", "thread", "text", "name", "note"}
assert needed <= set(mails.schema), f"The corpus has no {sorted(needed - set(mails.schema))}: it is no mail. Give a mailbox."
kinds = mails.count_by("kind")
unread = mails.where([("text", "==", None), ("note", "!=", None)]).count_by("note")
print(kinds, "of which not read:", unread)
