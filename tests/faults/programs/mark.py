"""A program that listens for marks, and takes none; it says how many wait."""

from __future__ import annotations

import json
import time

import numpy as np

from scopecast import Publisher

with Publisher("headless", launch=False) as publisher, publisher.marks() as marks:
    publisher.open((64, 48), "uint16", wait=30)
    publisher.publish(np.zeros((64, 48), "uint16"))
    while not marks.waiting:
        time.sleep(0.01)
    print(json.dumps(marks.waiting), flush=True)
    time.sleep(60)
