"""The receiver's loop without any window."""

from __future__ import annotations

import threading

from scopecast_viewers.headless import HeadlessDisplay
from scopecast_viewers.process import Receiver


def test_a_receiver_without_publishers_sleeps_between_its_looks_at_the_run_directory():
    turns, scans = [0], [0]
    enough = threading.Event()

    class Counting(Receiver):
        def _open(self):
            turns[0] += 1
            return super()._open()

        def _scan(self):
            super()._scan()
            scans[0] += 1
            if scans[0] == 4:
                enough.set()

    display = HeadlessDisplay()
    receiver = Counting(display)
    try:
        receiver.start()
        assert enough.wait(20)
        assert turns[0] <= 10 * scans[0], f"{turns[0]} turns of the loop for {scans[0]} looks: it does not wait"
    finally:
        receiver.close()
        display.pool.close()
