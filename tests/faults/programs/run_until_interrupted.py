"""A user's script: Ctrl-C ends it."""

import json
import os
import sys

from receivers import stamped
from scopecast import Publisher

launch = len(sys.argv) > 1
if launch:  # a viewer, which is never waited for, and looks for its modules there first
    os.environ["PYTHONPATH"] = sys.argv[1]
with Publisher("headless", title="a script", launch=launch) as publisher:
    t = 0
    while True:
        publisher.publish(stamped(t), axes={"t": t % 100}, policy="every" if t == 0 and not launch else "latest")
        t += 1
        if t == 50:
            print(json.dumps("running"), flush=True)
