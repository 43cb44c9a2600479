"""Publishes without a pause, is interrupted again and again, and says after each time whether all is in order."""

import json
import signal
import sys
import time

from receivers import stamped
from scopecast import Publisher
from scopecast.memory.ring import RingLayout

rounds, policy = int(sys.argv[1]), sys.argv[2]
frames = [stamped(t, shape=(128, 128)) for t in range(8)]
with Publisher("headless", policy=policy, budget=RingLayout(16, 32768).size) as publisher:
    publisher.publish(frames[0], axes={"t": 0}, policy="every")
    for number in range(rounds):
        try:
            print(json.dumps(number), flush=True)
            while True:
                for t, frame in enumerate(frames):
                    publisher.publish(frame, axes={"t": t})
        except KeyboardInterrupt:
            assert publisher.stats().balanced
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A slot that the last interruption left to the garbage collector is given back by the next frame.
    publisher.publish(frames[0], axes={"t": 0}, policy="every")
    assert publisher.flush(20), publisher.stats()
    slots = publisher.session.slots
    deadline = time.monotonic() + 20
    # On a busy machine it may have been given up, and comes back.
    while not (attached := sum(row.attached for row in publisher.stats())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert publisher.flush(20), publisher.stats()
    print(json.dumps({"free": slots.free, "pinned": slots.pinned, "attached": attached}))
