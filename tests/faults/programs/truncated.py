"""Publishes ten frames whenever it is told to, whatever happens to its shared memory meanwhile."""

import itertools
import json
import sys

from peers import entry_of
from receivers import stamped
from scopecast import Publisher


def tell(what):
    print(json.dumps(what), flush=True)


numbers = itertools.count()
with Publisher("headless", policy=sys.argv[1], title="scope") as publisher:
    publisher.open((64, 48), wait=10)
    tell("open")
    for line in sys.stdin:
        word = line.strip()
        if word == "publish":
            for _ in range(10):
                t = next(numbers)
                # Until there is a new ring, only the newest frame is kept under "latest".
                while publisher.publish(stamped(t), axes={"t": t % 500}) < 0 or not publisher.session.slot_bytes:
                    pass
            tell("published")
        elif word == "segment":
            tell(entry_of(publisher).segments[-1])
        else:
            break
    publisher.flush(10)
    tell({"balanced": publisher.stats().balanced, "keeper_errors": publisher.session.keeper.errors})
