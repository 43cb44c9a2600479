"""A producer of the soak: ``python -m soak.producer NAME KIND POLICY SEED``.

Publishes stamped frames of changing shapes and dtypes, and looks at its accounts after every few. Prints a line of JSON
twice a second, and a last one when a line comes on its standard input, after which it ends.
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

from receivers import stamped
from scopecast import Publisher, ViewerLagging

SHAPES = ((64, 48), (128, 96), (256, 256), (96, 64, 3), (512, 512))
DTYPES = ("uint16", "uint8", "int16", "float32", "float16", "int32", "complex64")
#: Signatures of which a producer has a few: costs are compared between frames of one kind.
_SIGNATURES = 3
#: Frames between two looks at the accounts, and to the next run.
_LOOK, _RUN = 10, 400
_REPORT_S = 0.5
#: Seconds that a publish() of the policy "latest" may take, whatever happens; it takes less than a millisecond.
LIMIT_S = 1.0
_FIRST = 8  # frames of a signature whose cost is not counted: the ring may be made anew, the caches are cold


def open_files() -> list[str]:
    """What this process has open, for a leak to have a name."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(entry))  # noqa: PTH115 - a socket has no path
        except OSError:
            continue  # the directory's own
    return sorted(found)


class Producer:
    """Publishes until it is told to end."""

    def __init__(self, name: str, kind: str, policy: str, seed: int) -> None:
        self.draw = random.Random(seed)
        self.policy = policy
        self.publisher = Publisher(
            kind,
            title=name,
            policy=policy,
            budget=2**25,
            timeout=30.0,
            linger=20.0,  # type: ignore[arg-type]
        )
        self.wrong: list[str] = []
        self.looks = self.frames = 0
        self.longest = 0.0
        self.costs: dict[tuple[Any, bool], list[float]] = {}
        self.attached = False
        self.ending = threading.Event()
        self.continued = 0
        self.signatures = [(self.draw.choice(SHAPES), self.draw.choice(DTYPES)) for _ in range(_SIGNATURES)]
        # A colour frame of 16-bit floats or complex numbers is none: such planes are axes of their own.
        self.signatures = [(s, d if len(s) == 2 else "uint8") for s, d in self.signatures]
        self.begun: dict[Any, int] = {}

    def run(self) -> None:
        """Publish, at a rate that changes."""
        signal.signal(signal.SIGCONT, self._went_on)
        threading.Thread(target=self._wait_for_the_end, daemon=True).start()
        next_report = 0.0
        rate = 0.0
        while not self.ending.is_set():
            if self.frames % 100 == 0:
                rate = self.draw.choice((30.0, 100.0, 300.0, 1000.0))
            if self.frames % _RUN == _RUN - 1:
                self.publisher.new_stream(f"run {self.frames // _RUN + 2}")
            self._publish()
            if self.frames % _LOOK == 0:
                self.look()
            if time.monotonic() >= next_report:
                self.report()
                next_report = time.monotonic() + _REPORT_S
            self.ending.wait(self.draw.uniform(0.5, 1.5) / rate)

    def _publish(self) -> None:
        t, c = self.frames, self.frames % 2
        signature = self.signatures[t // 25 % len(self.signatures)]
        frame = stamped(t, c, 0, *signature)
        before = self.continued
        began = time.perf_counter()
        try:
            self.publisher.publish(frame, axes={"t": t, "c": c})
        except ViewerLagging as error:
            self.wrong.append(f"frame {t}: {error}")  # a viewer that is stopped is given up long before
        took = time.perf_counter() - began
        self.frames += 1
        if self.policy != "latest":
            return
        if took > LIMIT_S / 10:
            time.sleep(0.01)  # the handler of a SIGCONT comes between two lines of Python, maybe only now
            if self.continued != before:
                return  # this process was stopped meanwhile
        self.longest = max(self.longest, took)
        if took > LIMIT_S:
            self.wrong.append(f"frame {t}: publish() took {took:.2f} s")
        self.begun[signature] = self.begun.get(signature, 0) + 1
        if self.begun[signature] > _FIRST:
            self.costs.setdefault((signature, self.attached), []).append(took)

    def look(self) -> Any:
        """Look at the accounts: every frame must be in them, for each receiver, at any moment."""
        stats = self.publisher.stats()
        self.looks += 1
        self.attached = any(row.attached for row in stats)
        for who, frames in (("all", stats.frames), *((row.token, row.frames) for row in stats)):
            if not frames.balanced:
                rows = {row.token: tuple(row.frames) for row in stats}
                self.wrong.append(f"accounts of {who} do not add up: {frames}; {rows}, {stats.skipped}")
        # Frames that publish() refused with an error would be in no account; there are none.
        if stats.frames.published != self.frames:
            self.wrong.append(f"{self.frames} frames were published, and {stats.frames.published} counted")
        return stats

    def report(self, **more: Any) -> None:
        """Print how it stands."""
        stats = self.look()
        value = {
            "frames": stats.frames._asdict(),
            "delivered": {},
            "looks": self.looks,
            "longest_s": self.longest,
            "ratio": self.ratio(),
            "wrong": self.wrong[:20],
            **more,
        }
        for row in stats:
            value["delivered"][row.token] = value["delivered"].get(row.token, 0) + row.frames.delivered
        print(json.dumps(value), flush=True)

    def ratio(self) -> list[float]:
        """Cost of publish() with viewers by that without, for each kind of frame that was published both ways."""
        found = []
        for signature in {signature for signature, _ in self.costs}:
            alone, watched = (self.costs.get((signature, attached), []) for attached in (False, True))
            if min(len(alone), len(watched)) >= 30:
                found.append(statistics.median(watched) / statistics.median(alone))
        return found

    def _went_on(self, *_: object) -> None:
        self.continued += 1

    def _wait_for_the_end(self) -> None:
        sys.stdin.readline()
        self.ending.set()

    def end(self, before: list[str]) -> None:
        """Wait for what is in flight, close, and tell what is left."""
        flushed = self.publisher.flush(20.0)
        stats = self.look()
        flying = {row.token: row.frames.in_flight for row in stats if row.frames.in_flight}
        if not flushed or flying or stats.frames.in_flight:
            self.wrong.append(f"in flight at the end: {stats.frames.in_flight}, by receiver {flying}")
        last = time.monotonic()
        self.publisher.close()
        seconds = time.monotonic() - last
        # ZeroMQ's own threads close what they had in their own time.
        deadline = time.monotonic() + 10.0
        while (left := [name for name in open_files() if name not in before]) and time.monotonic() < deadline:
            time.sleep(0.02)
        maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if "/dev/shm/" in line]
        if left or maps:
            self.wrong.append(f"left open: {left[:5]}, mapped: {maps[:3]}")
        self.report(ended=True, close_s=round(seconds, 3))


if __name__ == "__main__":
    already = open_files()
    producer = Producer(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
    producer.run()
    producer.end(already)
