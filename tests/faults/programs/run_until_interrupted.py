"""A user's script: Ctrl-C ends it."""

import json

from receivers import stamped
from scopecast import Publisher

with Publisher("headless", title="a script") as publisher:
    t = 0
    while True:
        publisher.publish(stamped(t), axes={"t": t % 100}, policy="every" if t == 0 else "latest")
        t += 1
        if t == 50:
            print(json.dumps("running"), flush=True)
