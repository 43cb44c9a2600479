"""Write a file in two halves: each half when it is told to; then close it. argv: where to, where from, bytes first."""

import json
import sys
from pathlib import Path

target, source, first = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), int(sys.argv[3])
with target.open("wb", buffering=0) as file:
    for part in (source[:first], source[first:]):
        sys.stdin.readline()
        file.write(part)
        print(json.dumps(file.tell()), flush=True)
    sys.stdin.readline()
print(json.dumps("closed"), flush=True)
