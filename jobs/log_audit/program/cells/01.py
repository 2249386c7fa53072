# Near the data, what varies in a line (numbers, names, times, paths) is dropped; what can decide (a level, a status, an exit code,
# a word of state) is not. What is left is its form. A form has variants, which differ in a word; of each: how many lines, up to
# three of them as samples, when it was first and last seen, how often in each hour, on which hosts.
COLUMNS = ("text", "message", "msg", "MESSAGE", "Message", "log", "raw", "line", "event", "body", "@message")
column = next((name for name in COLUMNS if name in logs.schema), None)
assert column is not None, f"None of the columns {sorted(logs.schema)} holds a log line. Call it `message`."
TIMES = (
    "ts",
    "time",
    "timestamp",
    "@timestamp",
    "date",
    "datetime",
    "asctime",
    "__REALTIME_TIMESTAMP",
    "_SOURCE_REALTIME_TIMESTAMP",
)
timed_by = next((name for name in TIMES if name in logs.schema), None)
placed_by = next((name for name in ("host", "hostname", "_HOSTNAME", "node", "server", "pod") if name in logs.schema), None)
MOST_FORMS = 20_000  # logs that have more are no logs, or need masks of their own
MOST_VARIANTS = 8  # where a word has more values it is a name


def mined(records):
    from drain3 import TemplateMiner
    from drain3.template_miner_config import TemplateMinerConfig

    from rlm_ray.audit.logs import forms as reading
    from rlm_ray.audit.logs import hosts, times

    config = TemplateMinerConfig()
    config.drain_sim_th = 0.9  # the beginnings of lines are alike whatever they say: nearly all words must be the same
    miners = {}
    found = {}
    empty = cut = 0
    for record in records:
        text = reading.text_of(record, column)
        if text is None:
            empty += 1
            continue
        masked = reading.masked(text[: reading.LOOKED_AT])
        cut += len(text) > reading.LOOKED_AT
        level = " ".join(f"{name}={value}" for name, value in sorted(reading.beside(record, column).items()))
        sign = f"{level} {reading.deciding(masked)}"
        masked = masked[:4000]
        if sign not in miners:
            miners[sign] = TemplateMiner(config=config)
        number = miners[sign].add_log_message(masked)["cluster_id"]
        time = times.of_value(record.get(timed_by)) if timed_by is not None else None
        time = time or times.find(text)
        host = hosts.of_value(record.get(placed_by)) if placed_by is not None else hosts.find(text)
        variants = found.setdefault((sign, number), {"level": level, "variants": {}})["variants"]
        name = masked if masked in variants or len(variants) < MOST_VARIANTS else "…"
        entry = variants.setdefault(name, {"lines": 0, "samples": [], "spans": {}, "hours": {}, "hosts": [], "plain": True})
        entry["lines"] += 1
        entry["plain"] = entry["plain"] and record.get(column) == text  # else the line is made of other values, and no quote
        if time is not None:
            times.add(entry["spans"], time)
            hour = time.hour if time.hour in entry["hours"] or len(entry["hours"]) < 1000 else "other"
            known = entry["hours"].setdefault(hour, [0, time.key])
            entry["hours"][hour] = [known[0] + 1, min(known[1], time.key)]
        if host is not None and host not in entry["hosts"] and len(entry["hosts"]) < 20:
            entry["hosts"].append(host)
        entry["samples"] = [*entry["samples"][:2], record["_address"]]  # the first two and the last
    forms = {}
    for sign, miner in miners.items():
        for cluster in miner.drain.clusters:
            form = found[sign, cluster.cluster_id]
            template = cluster.get_template()
            missing = [word for word in sign.split() if word not in template.lower()] if "<*>" in template else []
            name = " ".join(
                [*([f"[{form['level']}]"] if form["level"] else []), template, *([f"({' '.join(missing)})"] if missing else [])]
            )
            forms = joined(forms, {name: form["variants"]})
    return joined(forms, {"": {"": {"lines": empty, "cut": cut}}}) if empty or cut else forms


def merged(one, other):
    from rlm_ray.audit.logs import times

    if one is None or "samples" not in other:
        return other if one is None else {name: one[name] + other[name] for name in other}
    samples = [*one["samples"], *other["samples"]]
    hours = dict(one["hours"])
    for hour, (lines, key) in other["hours"].items():
        known = hours.get(hour, [0, key])
        hours[hour] = [known[0] + lines, min(known[1], key)]
    return {
        "lines": one["lines"] + other["lines"],
        "samples": [samples[0], samples[len(samples) // 2], samples[-1]] if len(samples) > 3 else samples,
        "spans": times.joined(one["spans"], other["spans"]),
        "hours": hours,
        "plain": one["plain"] and other["plain"],
        "hosts": list(dict.fromkeys([*one["hosts"], *other["hosts"]]))[:20],
    }


def joined(one, other):
    for form, variants in other.items():
        known = one.setdefault(form, {})
        for name, entry in variants.items():
            name = name if name in known or len(known) < MOST_VARIANTS else "…"
            known[name] = merged(known.get(name), entry)
    return one


forms = logs.aggregate(mined, joined) or {}
skipped = forms.pop("", {"": {"lines": 0, "cut": 0}})[""]
assert forms, "There is no line to audit."
assert len(forms) <= MOST_FORMS, f"{len(forms):,} forms: these are no logs whose lines repeat. Read them by llm_each instead."
lines = sum(entry["lines"] for variants in forms.values() for entry in variants.values())
print(len(forms), "forms of", lines, "lines;", skipped["lines"], "empty records;", skipped["cut"], "lines read in part")
