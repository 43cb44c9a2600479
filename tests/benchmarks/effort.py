"""How long `make bench` measures what."""

from __future__ import annotations

from dataclasses import dataclass

from scopecast.benchmarks import figures

__all__ = ["FULL", "QUICK", "Bench", "Effort"]


@dataclass(frozen=True, kw_only=True)
class Effort(figures.Effort):
    """How long to measure what `scopecast bench` leaves out.

    Attributes
    ----------
    slow
        Frames in a round of a library that manages a few frames per second.
    latency
        Frames in a round of the latency.
    pairs
        Pairs of acquisitions, with and without a live view: one alone varies by a tenth, and two hundredths are looked
        for.
    window_s, series_s
        Seconds of 200 frames/s into a real window, as a live view and as a growing series.
    first
        New streams of which the time to the first frame on the screen is measured.
    planes
        Planes of a long hyperstack.
    beside
        Pairs of acquisitions, in scopecast's viewer and in ndv's; 0 leaves them out.
    times
        Time points of each of them.
    demos
        Runs of the demo.
    """

    slow: int
    latency: int
    pairs: int
    window_s: float
    series_s: float
    first: int
    planes: int
    beside: int
    times: int
    demos: int


class Bench(figures.Bench):
    """What every part of the benchmark is given."""

    effort: Effort


FULL = Effort(
    rounds=5,
    starts=25,
    loop=400,
    paced=400,
    large=600,
    small=3000,
    growth=100_000,
    slow=20,
    latency=200,
    pairs=30,
    window_s=10.0,
    series_s=10.0,
    first=7,
    planes=1000,
    beside=5,
    times=20,
    demos=3,
)
#: Next to nothing, to see that everything runs.
QUICK = Effort(
    rounds=1,
    starts=1,
    loop=20,
    paced=10,
    large=20,
    small=40,
    growth=1000,
    sides=(figures.SMALL,),
    slow=2,
    latency=10,
    pairs=2,
    window_s=0.05,
    series_s=0.05,
    first=1,
    planes=20,
    beside=0,
    times=2,
    demos=0,
)
