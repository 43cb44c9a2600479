"""A publisher streams; then this process may open only a few more files, and later as many as it likes."""

import json
import resource
import sys
from pathlib import Path

from children import wait_until
from peers import entry_of
from receivers import stamped
from scopecast import Publisher

with Publisher("headless", title="first", policy="every") as first, Publisher("headless", title="second") as second:
    first.publish(stamped(0), axes={"t": 0})
    door = Path(entry_of(first).endpoint.removeprefix("ipc://"))
    first.stats()  # numpy imports what it needs for that
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + int(sys.argv[1]), hard))
    wait_until(lambda: not door.exists(), "the door is shut")
    print(json.dumps("limited"), flush=True)
    sys.stdin.readline()  # another viewer knocks in the meantime
    results = [second.publish(stamped(t), axes={"t": t}, policy="every") for t in range(5)]
    for t in range(1, 100):
        first.publish(stamped(t), axes={"t": t})
    flushed = first.flush(20)
    answer = {"results": results, "skipped": second.stats().skipped, "flushed": flushed}
    answer["balanced"] = first.stats().balanced and second.stats().balanced
    print(json.dumps(answer), flush=True)
    sys.stdin.readline()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: sum(row.attached for row in first.stats()) == 2, "the other viewer is let in")
    first.publish(stamped(100), axes={"t": 100})
    wait_until(lambda: second.publish(stamped(5), axes={"t": 5}, policy="every") >= 0, "what had failed is tried again")
    print(json.dumps(first.flush(20)), flush=True)
    sys.stdin.readline()
