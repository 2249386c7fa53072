#!/usr/bin/env bash
# deltalake 1.6.6 stores an unsigned column in the signed type of the same width: a uint8 column is written while its values are at most 127, and refused at 128, so that the same job works until the day of a larger value.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/pip install -q deltalake==1.6.6 pyarrow==26.0.1
env/bin/python - <<'END'
import deltalake
import pyarrow
from deltalake.exceptions import DeltaError

def written(value, kind):
    folder = f"{kind}-{value}"
    try:
        deltalake.write_deltalake(folder, pyarrow.table({"u": pyarrow.array([value], kind)}))
    except DeltaError as error:
        return "refused: " + " ".join(str(error).split())[-60:]
    return deltalake.DeltaTable(folder).schema().fields[0].type.type

for kind, most, stored in ((pyarrow.uint8(), 127, "byte"), (pyarrow.uint16(), 2**15 - 1, "short"), (pyarrow.uint32(), 2**31 - 1, "integer")):
    seen = written(most, kind), written(most + 1, kind)
    print(kind, most, "->", seen[0], "|", most + 1, "->", seen[1])
    assert seen[0] == stored and seen[1].startswith("refused"), "deltalake changed"
END
