from rlm_ray.audit.logs import times

# A finding is a form of which a line tells of trouble. Its evidence is the worst of its lines that were read. Where only some
# variants of a form tell of trouble, each of those is a finding of its own: the other variants' lines are not counted with it.
order = {"high": 0, "medium": 1, "low": 2, "none": 3}
worst = {}
for row in judged.ok:
    place = form_of[row["_address"]]
    if place not in worst or order[row["severity"]] < order[worst[place]["severity"]]:
        worst[place] = row
unread = [place for place in dict.fromkeys(form_of.values()) if place not in worst]
assert not unread, f"{len(unread)} forms could not be judged, as this one: {unread[0][0]}: {judged.failed.head(1)[0]['_error']}"


# Times without a year that go over a new year begin in the month behind those of which the logs have none.
months = [month for variants in forms.values() for entry in variants.values() for month in entry["spans"]]
began = times.first_month(months)


def timeline(hours):
    busy = sorted(hours.items(), key=lambda item: -item[1][0])[:24]
    shown = ", ".join(f"{hour}h {lines}" for hour, (lines, key) in sorted(busy, key=lambda item: times.order(item[1][1], began)))
    return shown + (f", and {len(hours) - len(busy)} more hours" if len(hours) > len(busy) else "") or None


def finding(form, row, entry):
    first, last = times.ends(entry["spans"], began)
    return {
        "severity": row["severity"],
        "kind": row["kind"],
        "form": form,
        "lines": entry["lines"],
        "first": first,
        "last": last,
        "hosts": entry["hosts"],
        "timeline": timeline(entry["hours"]),
        "address": row["_address"],
        "quote": row["line"][:3000] if entry["plain"] else None,
    }


def findings():
    for form, variants in forms.items():
        troubled = [name for name in variants if worst[form, name]["severity"] != "none"]
        if not troubled:
            continue
        if len(troubled) == len(variants):
            entry = None
            for other in variants.values():
                entry = merged(entry, other)
            yield finding(form, min((worst[form, name] for name in troubled), key=lambda row: order[row["severity"]]), entry)
        else:
            for name in troubled:
                yield finding(f"{form} …" if name == "…" else name, worst[form, name], variants[name])


def whole(record):
    from rlm_ray.audit.logs import forms as reading

    size = len(reading.text_of(record, column) or "")
    assert size <= reading.LOOKED_AT, f"only the first {reading.LOOKED_AT:,} of its {size:,} characters are read"


if skipped["cut"]:  # each is a record that failed: the answer is partial, and says how many there are
    logs.map(whole, on_error="keep").failed.count()

Final = sorted(findings(), key=lambda finding: (order[finding["severity"]], -finding["lines"], finding["form"]))
