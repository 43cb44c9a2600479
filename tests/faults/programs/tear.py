"""Writes stamped frames into the slots of a ring, round and round, and never waits for a reader."""

import itertools
import json
import select
import sys

import numpy as np

from receivers import stamped
from scopecast.memory.ring import Ring, RingLayout

name, token = sys.argv[1:]
ring = Ring(name, RingLayout(8, 512 * 512 * 2), token, 0)
frames = [stamped(t, shape=(512, 512)) for t in range(16)]
print(json.dumps("writing"), flush=True)
for number in itertools.count():
    slot = number % 8
    ring.begin(slot)
    ring.array(slot, (512, 512), np.dtype("uint16"))[:] = frames[number * 5 % 16]
    ring.commit(slot, number, 512 * 512 * 2)
    if number % 64 == 0 and select.select([sys.stdin], [], [], 0)[0]:
        break
ring.close()
