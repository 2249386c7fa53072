# A model reads every contract once, in pieces of some 4,000 tokens (several short ones in one call), for all clauses together.
wanted = "\n".join(
    f"- {entry['name']}: {entry['question']}" + (f" Value: {entry['value']}." if entry.get("value") else "") for entry in clauses
)
pieces = read_from.select(named_by, column).split(column, by=r"\f", max_chars=16_000)
read = llm_each(
    f"""Each record is a contract, or a piece of one. Which of these clauses are in it?
{wanted}
For each that is there: its name as it stands above, the value (null where none is asked for or none is said), and a quote: the
words that show it, exactly as they stand there, at most some 300 characters. Leave out what the record does not say.""",
    pieces,
    schema={
        "found": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "clause": {"enum": list(listed)},
                    "value": {"type": ["string", "null"]},
                    "quote": {"type": "string"},
                },
            },
        }
    },
)
print(read.ok.count(), "pieces read,", read.failed.count(), "failed")
