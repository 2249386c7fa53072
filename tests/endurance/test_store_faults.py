"""A store that throttles, resets and cuts, for the data and for the run directory: the same answer, and nothing asked twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from rlm_ray.testing import ModelServer, each

FILES, LINES = 4, 20

RUN = """
import json, sys
import rlm_ray
lake, runs, url = sys.argv[1:]
settings = rlm_ray.Settings(
    root_model="root", sub_model="leaf", base_url=url, run_dir=runs, num_cpus=2, records_per_call=1, calls_per_group=40
)
answer = rlm_ray.ask(rlm_ray.open(lake), "q", settings)
print(json.dumps({"value": answer.value, "complete": answer.complete, "failures": answer.failures, "said": answer.message}))
"""

CELLS = [
    "```repl\nfound = llm_each('Which?', context, schema={'n': 'integer'})\nprint(found.count())\n```",
    "```repl\nwide = context.map(lambda record: {'size': len(record['text'])})\nsizes = [row['size'] for row in wide]\n```",
    "```repl\nFinal = [found.ok.count(), found.failed.count(), sum(row['n'] for row in found.ok), sum(sizes)]\n```",
]

#: Of the requests to the store, by the names that the proxy gives to what it did.
RULES = [
    {"service": "s3", "operation": "GetObject", "probability": 0.08, "error": {"code": "SlowDown", "status": 503}},
    {"service": "s3", "operation": "GetObject", "probability": 0.08, "response": {"abort_frac": 0.5}},
    {"service": "s3", "operation": "PutObject", "probability": 0.08, "error": {"code": "SlowDown", "status": 503}},
    {"service": "s3", "operation": "PutObject", "probability": 0.05, "response": {"abort_frac": 0.0}},  # done, but not told
    {"service": "s3", "operation": "ListObjectsV2", "probability": 0.08, "error": {"code": "InternalError", "status": 500}},
    {"service": "s3", "probability": 0.06, "reset": True},
]


def reads(text: str) -> dict[str, int]:
    return {"n": int(text.split()[1])}


def test_data_and_ledger_on_a_store_that_fails(
    faulty_s3: Any, model_server: Callable[..., ModelServer], program: Callable[..., Any]
) -> None:
    bucket = faulty_s3.s3.bucket()
    lines = [f"number {number} here\n" for number in range(FILES * LINES)]
    for file in range(FILES):
        faulty_s3.s3.put(f"s3://{bucket}/lake/{file}.log", "".join(lines[file * LINES : (file + 1) * LINES]))
    server = model_server(root=CELLS, leaf=each(reads))
    faulty_s3.rules(RULES)
    ended = program(RUN, f"s3://{bucket}/lake", f"s3://{bucket}/runs", server.base_url, **faulty_s3.environment)
    out, err = ended.communicate(timeout=400)
    assert ended.returncode == 0, err[-4000:]
    told = json.loads(out)
    total = FILES * LINES
    sizes = sum(len(line) - 1 for line in lines)
    assert told["value"] == [total, 0, sum(range(total)), sizes], told["said"]
    assert (told["complete"], told["failures"]) == (True, [])
    fired = Counter((item["operation"], item["action"].split(":")[0]) for item in faulty_s3.fired())
    actions = {action for _, action in fired}
    assert len(fired) >= 4, fired
    assert {"error", "reset"} <= actions, fired
    assert {"GetObject", "PutObject"} <= {operation for operation, _ in fired}, fired
    prompts = Counter(request["prompt"] for request in server.requests)
    assert set(prompts.values()) == {1}, "no prompt was asked twice"
    assert len(prompts) == total + len(CELLS)
