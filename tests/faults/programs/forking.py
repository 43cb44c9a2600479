"""Uses a publisher of the parent's in a child that is forked or spawned, and ends that child like any other process."""

import json
import multiprocessing
import os
import sys
import warnings
from pathlib import Path

from peers import entry_of
from receivers import stamped
from scopecast import Publisher
from scopecast.errors import ForkedError

publisher = None


def refused(call):
    try:
        call()
    except ForkedError:
        return True
    return False


def in_the_child():
    """Return whether the publisher is inert; in a process that was not forked, stream for oneself."""
    if publisher is None:
        with Publisher("headless", title="child", policy="every") as own:
            own.publish(stamped(77), axes={"t": 77})
        return True
    inert = all(
        refused(call)
        for call in (
            lambda: publisher.publish(stamped(66), axes={"t": 66}),
            lambda: publisher.reserve((64, 48), "uint16"),
            lambda: publisher.flush(1),
            lambda: publisher.new_stream(),
            lambda: publisher.stats(),
            lambda: publisher.open((64, 48)),
        )
    )
    publisher.close()
    return inert


def child_main():
    sys.exit(0 if in_the_child() else 3)


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # forking a process with threads, from Python 3.12 on
    publisher = Publisher("headless", title="parent", policy="every")
    publisher.publish(stamped(0), axes={"t": 0})
    slot = publisher.reserve((64, 48), "uint16", axes={"t": 1})
    slot.array[:] = stamped(1)
    codes = []
    if sys.argv[1] == "os.fork":
        for _ in range(3):
            pid = os.fork()
            if not pid:
                child_main()
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    else:
        context = multiprocessing.get_context(sys.argv[1])
        for _ in range(1 if sys.argv[1] != "fork" else 3):
            process = context.Process(target=child_main)
            process.start()
            process.join(30)
            codes.append(process.exitcode)
    segment = Path("/dev/shm", *entry_of(publisher).segments)
    slot.commit()
    for t in range(2, 20):
        publisher.publish(stamped(t), axes={"t": t})
    flushed = publisher.flush(20)
    print(json.dumps({"codes": codes, "segment": segment.exists(), "flushed": flushed}), flush=True)
    sys.stdin.readline()
    publisher.close()
