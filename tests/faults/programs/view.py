"""A viewer without a window that misbehaves on demand; answers every line with a JSON report.

It verifies the stamp of every plane that reached a stack.
"""

import argparse
import json
import signal
import sys
import threading
import time
from pathlib import Path

from receivers import WatchedDisplay, check_stamp
from scopecast_viewers.receiver import SWITCH_INTERVAL_S, Receiver

parser = argparse.ArgumentParser()
parser.add_argument("--slow", type=float, default=0.0, help="seconds that every frame takes")
parser.add_argument("--stop-at", type=int, default=-1, help="SIGSTOP between the copy of this frame and its re-check")
parser.add_argument("--hold-at", type=int, default=-1, help="say so, and never return from the copy of this frame")
parser.add_argument("--hung", action="store_true", help="the main thread never looks at anything again")
parser.add_argument("--title", default="")
options = parser.parse_args()


class Misbehaving(WatchedDisplay):
    def __init__(self):
        super().__init__()
        self.taken = []

    def take(self, view, *, magnitude):
        number = len(self.taken)
        if number == options.hold_at:
            print(json.dumps("holding"), flush=True)
            threading.Event().wait()
        time.sleep(options.slow)
        plane = super().take(view, magnitude=magnitude)
        self.taken.append(number)
        if number == options.stop_at:
            # To this very thread: sent to the process, it may stop another one first, and this one a moment later.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        return plane


def report(receiver):
    bad, places, sequences = 0, [], []
    for stream in receiver.streams:
        for stack in stream.stacks:
            for index in tuple(stack.layout.planes):
                plane, tag = stack.plane(index), stack.tag(index)
                if plane is not None and tag is not None:  # the stream may be removed at this moment
                    try:
                        places.append(check_stamp(plane))
                    except AssertionError:
                        bad += 1
                    sequences.append(tag.sequence)
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {
        "bad": bad,
        "places": sorted(places),
        "sequences": sorted(sequences),
        "states": [source.state for source in receiver.sources],
        "delivered": [source.delivered for source in receiver.sources],
        "rejected": sum(source.rejected for source in receiver.sources),
        "errors": sum(source.errors for source in receiver.sources),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "maps": len(lines),
        "segments": sum("/dev/shm/headless_" in line for line in lines),
        "threads": threading.active_count(),
    }


sys.setswitchinterval(SWITCH_INTERVAL_S)
display = Misbehaving()
with Receiver(display, title=options.title) as receiver:
    receiver.start()
    print(json.dumps(receiver.member.token), flush=True)
    if options.hung:
        threading.Event().wait()
    for _ in sys.stdin:
        print(json.dumps(report(receiver)), flush=True)
display.pool.close()
