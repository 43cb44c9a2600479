"""Publishes stamped frames one by one, each delivered before the next, and ends as it is told."""

import argparse
import atexit
import json
import os
import select
import sys


def tell():
    if options.ending != "_exit":
        print(json.dumps({"frames": publisher.stats().frames._asdict()}), flush=True)


atexit.register(tell)  # before scopecast registers its own, and so called after it

from receivers import stamped  # noqa: E402
from scopecast import Publisher  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("frames", type=int)
parser.add_argument("--ending", default="close", choices=["close", "none", "_exit", "exit", "raise", "wait"])
parser.add_argument("--policy", default="every")
parser.add_argument("--launch", action="store_true")
parser.add_argument("--title", default="produced")
parser.add_argument("--go", action="store_true", help="wait for a line before anything else")
parser.add_argument("--each", action="store_true", help="flush after every frame")
parser.add_argument("--grow", action="store_true", help="the last frame is larger than a slot")
parser.add_argument("--viewer-path", help="where the viewer that is started looks for its modules first")
parser.add_argument("--helper", action="store_true", help="have a resource tracker beside this process")
options = parser.parse_args()
if options.viewer_path:
    os.environ["PYTHONPATH"] = options.viewer_path
if options.helper:
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()

if options.go:
    print(json.dumps("ready"), flush=True)
    sys.stdin.readline()
publisher = Publisher("headless", title=options.title, policy=options.policy, launch=options.launch)
for t in range(options.frames):
    large = options.grow and t == options.frames - 1
    publisher.publish(stamped(t, shape=(2048, 2048)) if large else stamped(t), axes={"t": t})
    if options.each:
        publisher.flush()
if options.ending == "wait":
    publisher.flush()
    print(json.dumps([[row.token, row.frames.delivered] for row in publisher.stats()]), flush=True)
    # Ctrl-C that comes just before a read is noticed after it; so let no read wait for good.
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        pass
    sys.stdin.readline()
if options.ending in ("close", "wait"):
    publisher.close()
elif options.ending == "_exit":
    os._exit(0)
elif options.ending == "exit":
    sys.exit(7)
elif options.ending == "raise":
    raise LookupError("the user's mistake")
