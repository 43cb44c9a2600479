"""What a subscriber costs the acquisition, beside a viewer; and how fast one can look at frames."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scopecast.benchmarks.figures import LARGE, Memcpy, Row, Timing, median, name_of, timed
from scopecast.benchmarks.processes import Process, Viewer, wait_for
from scopecast.publishing.publisher import Publisher
from scopecast.subscribing.subscription import subscribe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast.benchmarks.figures import Bench

__all__ = ["measure"]

#: Frames per second at which publish() is compared; and those that a loop is to look at, at least.
_PACE = 100.0
_WANTED_PER_S = 1000.0
_SLACK_MS = 0.05


def measure(bench: Bench) -> Iterator[Row]:
    """Measure `publish` with a subscriber in place of a viewer, and the loop of a subscriber."""
    for side in bench.effort.sides:
        bench.say(f"publish(), {name_of(side)}, a subscriber")
        yield _cost(bench, Memcpy(side))
    bench.say("a subscriber's loop")
    yield _loop(bench)


@contextmanager
def _subscriber() -> Iterator[Process]:
    """Have a program look at every frame that it can, in a process of its own."""
    with Process(__name__, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process


def _cost(bench: Bench, memcpy: Memcpy) -> Row:
    count = bench.effort.paced
    found: dict[str, list[Timing]] = {"viewer": [], "subscriber": []}
    for _ in range(max(2, bench.effort.rounds)):
        for who, timings in found.items():
            receiver = Viewer(bench.directory) if who == "viewer" else _subscriber()
            with receiver, Publisher("headless", linger=5.0) as publisher:
                publisher.open((memcpy.side, memcpy.side), "uint16", wait=10.0)
                _await_one(publisher)
                timings.append(timed(lambda i: publisher.publish(memcpy.frames[i % len(memcpy.frames)]), count, _PACE))
    timing, base = median(found["subscriber"]), median(found["viewer"])
    return Row(
        figure="publish()",
        frame=name_of(memcpy.side),
        mode=f"{_PACE:g}/s, a subscriber",
        p50_ms=timing.p50,
        p99_ms=timing.p99,
        target="p50 ≤ with one headless viewer",
        met=timing.p50 <= base.p50 + _SLACK_MS,
        note=f"with one headless viewer: {base.p50:.3f} / {base.p99:.3f} ms",
    )


def _loop(bench: Bench) -> Row:
    """Have a subscriber look at frames that cost their publisher nothing: slots that it leaves as they are."""
    count = 10 * bench.effort.large
    with _subscriber() as process, Publisher("headless", policy="every", linger=5.0) as publisher:
        publisher.open((LARGE, LARGE), "uint16", wait=10.0)
        _await_one(publisher)
        for _ in range(count):
            publisher.reserve((LARGE, LARGE), "uint16").commit()
        publisher.flush(30.0)
        publisher.close()
        said, _ = process.process.communicate(b"", timeout=60.0)
    per_s = json.loads(said.splitlines()[-1])["per_s"]
    return Row(
        figure="subscribe()",
        frame=name_of(LARGE),
        mode="loop, without a copy",
        per_s=per_s,
        target=f"≥ {_WANTED_PER_S:g}/s",
        met=per_s >= _WANTED_PER_S,
    )


def _await_one(publisher: Publisher) -> None:
    wait_for(lambda: any(row.attached for row in publisher.stats().receivers), "the attachment")


def _main() -> None:
    looked_at, began, ended = 0, 0.0, 0.0
    with subscribe(policy="every", wait=3.0) as frames:
        for frame in frames:
            began = began or time.perf_counter()
            _ = frame.array[0, 0]
            looked_at += 1
            ended = time.perf_counter()
    sys.stdout.write(json.dumps({"per_s": (looked_at - 1) / max(ended - began, 1e-9)}) + "\n")


if __name__ == "__main__":
    _main()
