# What the program takes for granted: a list of clauses, and contracts with a text and a name. Where that does not hold, it ends.
assert clauses, "The list of clauses is empty. Give values.clauses a file like clauses.yaml."
assert isinstance(clauses, list), "values.clauses is no list. Give it a file like clauses.yaml."
listed = {}
for entry in clauses:
    assert isinstance(entry, dict), f"{entry!r} is no clause. Write it as {{name: …, question: …}}."
    assert {"name", "question"} <= set(entry), f"{entry!r} has no name or no question."
    assert entry["name"] not in listed, f"The clause {entry['name']!r} is on the list twice."
    for key in ("missing", "present"):
        assert entry.get(key) in (None, "low", "medium", "high"), f"{entry['name']}: {key} is {entry[key]!r}; low, medium or high."
    listed[entry["name"]] = entry
for entry in clauses:
    others = entry.get("conflicts") or []
    entry["conflicts"] = others if isinstance(others, list) else [part.strip() for part in others.split(";")]
    unknown = set(entry["conflicts"]) - set(listed)
    assert not unknown, f"{entry['name']}: conflicts names {sorted(unknown)}, which are not on the list."

texts = [name for name, kind in contracts.schema.items() if kind == "string"]
column = next((name for name in ("text", "contract", "content", "body") if name in texts), None)
assert column is not None, f"None of the columns {sorted(contracts.schema)} holds a contract's text. Call it `text`."
named_by = next((name for name in ("path", "file", "name", "title", "id") if name in contracts.schema), None)
assert named_by is not None, f"None of the columns {sorted(contracts.schema)} names a contract. Call it `file`."

# of a mailbox the contracts are what is attached
read_from = contracts
if {"kind", "thread", "message_id"} <= set(contracts.schema):
    read_from = contracts.where([("kind", "==", "attachment"), (column, "!=", None)])

# every contract with its name and length; its address is the key of what follows
lengths = read_from.map(lambda record: {"name": str(record[named_by]), "characters": len(record[column] or "")})
all_contracts = {row["_address"]: row for row in lengths}
# the others could not be parsed: nothing is known of their clauses
unparsed = {}  # address -> name and reason
for entry in (contracts.info.get("failed") or []) + (lengths.info.get("unread") or []):
    address = entry.get("address") or f"{entry['object']}@#bytes=0-0"
    unparsed[address] = {"name": entry["object"].rpartition("/")[2], "reason": entry["reason"]}
assert all_contracts or unparsed, "There is no contract."
print(
    len(all_contracts),
    "contracts,",
    sum(row["characters"] for row in all_contracts.values()),
    "characters,",
    len(listed),
    "clauses;",
    len(unparsed),
    "not parsed",
)
