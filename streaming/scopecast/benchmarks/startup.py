"""What `import scopecast` costs a program that has numpy and ZeroMQ anyway, in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from scopecast.benchmarks.figures import Row, spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast.benchmarks.figures import Bench

__all__ = ["measure"]

#: Milliseconds that it may add.
_EXTRA_MS = 120.0
_BASE, _OURS = "numpy, zmq", "numpy, zmq, scopecast"


def measure(bench: Bench) -> Iterator[Row]:
    """Measure the whole life of interpreters that import one or the other, and compare the medians."""
    bench.say("import scopecast")
    taken: dict[str, list[int]] = {_BASE: [], _OURS: []}
    for modules in taken:
        _run(modules)  # once before, so that both find their files in the caches
    for _ in range(bench.effort.starts):  # they take turns, so that a busy moment strikes both kinds
        for modules, times in taken.items():
            times.append(_run(modules))
    base, ours = spread(taken[_BASE]), spread(taken[_OURS])
    yield Row(
        figure="import",
        frame="",
        mode="import scopecast, in a fresh interpreter",
        p50_ms=ours.p50,
        p99_ms=ours.p99,
        target=f"p50 ≤ that of import {_BASE} + {_EXTRA_MS:.0f} ms",
        met=ours.p50 <= base.p50 + _EXTRA_MS,
        note=f"import {_BASE} takes {base.p50:.0f} ms, ours {ours.p50 / base.p50:.2f} times that; "
        f"the interpreter's own start is in both",
    )


def _run(modules: str) -> int:
    """Return the nanoseconds that an interpreter takes to import modules, its start and end included."""
    began = time.perf_counter_ns()
    subprocess.run([sys.executable, "-P", "-c", f"import {modules}"], check=True)
    return time.perf_counter_ns() - began
