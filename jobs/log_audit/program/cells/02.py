# A model reads up to three lines of each form, or one of each variant, and says what each tells.
form_of = {}
for form, variants in forms.items():
    for variant, entry in variants.items():
        samples = entry["samples"] if len(variants) == 1 or variant == "…" else entry["samples"][:1]
        form_of |= dict.fromkeys(samples, (form, variant))


def line_of(record):
    if record["_address"] not in form_of:
        return None
    from rlm_ray.audit.logs import forms as reading

    text = reading.text_of(record, column) or ""
    return {"line": reading.excerpt(text), **reading.beside(record, column)}


shown = logs.map(line_of)
judged = llm_each(
    """Does this log line tell of trouble: harm to customers, money, data or machines, an outage, or a breach of security?
Severity: none (normal work, or a notice that all is well), low (worth a look), medium (somebody should act),
high (harm is done or near).
Kind: what it is about; "other" where severity is none.""",
    shown,
    schema={
        "severity": ["none", "low", "medium", "high"],
        "kind": ["outage", "data loss", "failing hardware", "security", "money", "other"],
    },
)
print(judged.count_by("severity"), "failed:", judged.failed.count())
