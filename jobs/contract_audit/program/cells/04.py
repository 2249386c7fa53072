# Contracts with a common party that may contradict each other: found by code, judged by a model that reads both clauses.
MOST_PAIRS = 20_000
ENDS = {"inc", "llc", "ltd", "corp", "co", "company", "corporation", "limited", "incorporated", "lp", "plc", "gmbh", "ag", "the"}


def plain_name(name):
    words = "".join(letter if letter.isalnum() else " " for letter in name.lower()).split()
    return " ".join(word for word in words if word not in ENDS)


def first_of(key, clause):
    places = matrix[key].get(clause, [])
    return next((place for place in places if place["there"]), None)


of_party = {}
for key in matrix:
    parties = first_of(key, "Parties")
    for name in ((parties or {}).get("value") or "").split(";"):
        if plain_name(name):
            of_party.setdefault(plain_name(name), []).append(key)

pairs = {}
for keys in of_party.values():
    for one in keys:
        for entry in clauses if len(keys) > 1 else ():
            if entry["conflicts"] and first_of(one, entry["name"]) is not None:
                for clause in entry["conflicts"]:
                    for two in keys:
                        # a clause against itself is one pair, not two
                        if (one < two or (one != two and clause != entry["name"])) and first_of(two, clause) is not None:
                            pairs[one, entry["name"], two, clause] = True
    assert len(pairs) <= MOST_PAIRS, f"More than {MOST_PAIRS:,} pairs are to be compared. Name fewer `conflicts` in the list."

beside = {}
for one, clause, two, other in pairs:
    beside.setdefault(one, []).append(
        {
            "first": f"{all_contracts[one]['name']}: {clause}: {first_of(one, clause)['quote']}",
            "second": f"{all_contracts[two]['name']}: {other}: {first_of(two, other)['quote']}",
            "clause": clause,
            "with": two,
        }
    )
conflicts = []
if pairs:
    compared = read_from.select(named_by).map(lambda record: beside.get(record["_address"]))
    judged = llm_each(
        """Each record has two clauses of two contracts that have a party in common. Can that party keep both?
conflict: yes where keeping one breaks the other; no where both can be kept, or where it cannot be seen. why: one sentence.""",
        compared,
        schema={"conflict": ["yes", "no"], "why": "string"},
    )
    conflicts = list(judged.ok.where([("conflict", "==", "yes")]))
    assert not judged.failed.count(), f"{judged.failed.count()} pairs could not be compared: {judged.failed.head(1)[0]['_error']}"
print(len(pairs), "pairs compared,", len(conflicts), "conflict")
