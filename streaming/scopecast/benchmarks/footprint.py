"""What streaming costs in memory: the shared memory, and whether either side grows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from scopecast.benchmarks.figures import SMALL, Row, name_of, source_frames
from scopecast.benchmarks.processes import Viewer
from scopecast.memory.ring import MAX_BYTES
from scopecast.memory.segment import free_bytes
from scopecast.publishing.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast.benchmarks.figures import Bench

__all__ = ["measure"]

_MIB = 2**20
#: MiB that a process may grow by; the allocator keeps what it was given for a while.
_GROWTH_MIB = 8.0
#: What a warm-up is of all frames: by then every slot and every spare plane was in use.
_WARM_SHARE = 10


def measure(bench: Bench) -> Iterator[Row]:
    """Measure the shared memory, and the growth of both processes over many frames."""
    for side in bench.effort.sides:
        yield _shared(bench, side)
    yield from _growth(bench)


def _shared(bench: Bench, side: int) -> Row:
    free = free_bytes()
    budget = MAX_BYTES if free is None else min(MAX_BYTES, free // 4)
    with Publisher("headless", linger=5.0) as publisher:
        publisher.open((side, side), "uint16", wait=10.0)
        held = publisher.stats().segment_bytes
        names = [name for entry in bench.directory.living("publisher") for name in entry.segments]
        blocks = held
        if sys.platform == "linux":
            blocks = sum((Path("/dev/shm") / name).stat().st_blocks * 512 for name in names)
    return Row(
        figure="shared memory",
        frame=name_of(side),
        mode="one publisher",
        mib=blocks / _MIB,
        target=f"≤ {budget / _MIB:.0f} MiB, the budget",
        met=blocks <= budget and held <= budget,
    )


def _growth(bench: Bench) -> Iterator[Row]:
    """Compare the resident memory after a warm-up and at the end."""
    count = bench.effort.growth
    bench.say(f"memory over {count:,} frames")
    frames = source_frames(SMALL)
    with Viewer(bench.directory) as viewer, Publisher("headless", policy="every", linger=5.0) as publisher:
        publisher.open((SMALL, SMALL), "uint16", wait=10.0)
        viewer.wait_until_attached(publisher)
        processes = {"producer": psutil.Process(), "viewer": psutil.Process(viewer.pid)}
        warm = count // _WARM_SHARE
        for i in range(warm):
            publisher.publish(frames[i % len(frames)])
        publisher.flush(30.0)
        before = {name: _resident(process) for name, process in processes.items()}
        for i in range(count):
            publisher.publish(frames[i % len(frames)])
        publisher.flush(30.0)
        after = {name: _resident(process) for name, process in processes.items()}
    for name in processes:
        growth = (after[name] - before[name]) / _MIB
        yield Row(
            figure="memory growth",
            frame=name_of(SMALL),
            mode=f"{name}, {count:,} frames",
            mib=growth,
            target=f"≤ {_GROWTH_MIB:g} MiB",
            met=growth <= _GROWTH_MIB,
        )


def _resident(process: psutil.Process) -> int:
    """Return a process's own resident bytes: without the ring, whose pages count once they were touched."""
    memory = process.memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))
