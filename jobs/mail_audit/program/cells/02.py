# A model reads what each mail and each attachment says (not what a mail quotes: that is read where it was written), short ones
# several in one call, with who wrote it to whom and when.
wanted = "\n".join(f"- {entry['name']}: {entry['question']}" for entry in acts)
columns = ("from", "to", "cc", "date", "subject", "name", "thread", "text")
pieces = mails.where(("text", "!=", None)).select(*columns).split("text", by="paragraph", max_chars=16_000)
read = llm_each(
    f"""Each record is a mail, an attachment of one (then it has a name), or a piece of either. Which of these acts are in its text?
{wanted}
For each act: its name as it stands above; who did it and to whom, as names or addresses from the record (null where not said);
what, in one sentence; and a quote: the words of the text that show it, exactly as they stand there, at most some 300 characters.
Leave out greetings, signatures, boilerplate and what the text only asks for.""",
    pieces,
    schema={
        "acts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "act": {"enum": list(severities)},
                    "who": {"type": ["string", "null"]},
                    "whom": {"type": ["string", "null"]},
                    "what": {"type": "string"},
                    "quote": {"type": "string"},
                },
            },
        }
    },
)
print(read.ok.count(), "pieces read,", read.failed.count(), "failed")
