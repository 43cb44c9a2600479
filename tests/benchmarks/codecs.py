"""What it takes to send a camera's frame to another machine, in each quality: time to encode and decode, and bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scopecast.benchmarks.figures import Memcpy, Row, median, name_of, timed
from scopecast.remote import companding
from scopecast.remote.codec import decode, encode
from scopecast.remote.companding import Companding
from scopecast.remote.quality import LADDER

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from benchmarks.effort import Bench
    from scopecast.remote.quality import Quality

__all__ = ["camera_frames", "measure"]


def camera_frames(side: int, count: int = 4) -> list[npt.NDArray[np.uint16]]:
    """Return frames (y, x) as a sCMOS camera has them of cells in fluorescence.

    Bright structures on a wide glow, up to 600 electrons of 0.5 counts each; photon noise, 1.6 electrons of reading
    noise, and an offset of 100 counts. Noise and not the structures decide how far they can be compressed.
    """
    random = np.random.default_rng(side)
    y, x = np.mgrid[:side, :side]
    glow = 200 * np.exp(-((y - 0.45 * side) ** 2 + (x - 0.55 * side) ** 2) / (0.1 * side**2))
    electrons = 20 + glow + 400 * (np.sin(x / 37) * np.sin(y / 23) > 0.8)
    noisy = (random.poisson(electrons) + random.normal(0, 1.6, (side, side)) for _ in range(count))
    return [(100 + 0.5 * each).round().clip(0, 65535).astype(np.uint16) for each in noisy]


def measure(bench: Bench) -> Iterator[Row]:
    """Measure each quality in both directions."""
    for side in bench.effort.sides:
        frames = camera_frames(side)
        memcpy = Memcpy(side)
        for quality in LADDER:
            bench.say(f"codecs, {name_of(side)}, {quality.name}")
            yield from _one(bench, memcpy, frames, quality)


def _one(bench: Bench, memcpy: Memcpy, frames: list[npt.NDArray[np.uint16]], quality: Quality) -> Iterator[Row]:
    """As a relay and the other machine do it, one frame after the other, on one processor."""
    count, frame = bench.effort.slow, frames[0]
    used = Companding.covering(frame)
    sent = [encode(each, quality, used) for each in frames]

    def send(i: int) -> None:
        each = frames[i % len(frames)]
        encode(each, quality, None if quality.is_exact else Companding.covering(each, used))

    def receive(i: int) -> None:
        decode(sent[i % len(sent)], quality, frame.shape, frame.dtype, used)

    plain, encoding, decoding = [], [], []
    for _ in range(bench.effort.rounds):
        plain.append(memcpy.measure(count))
        encoding.append(timed(send, count))
        decoding.append(timed(receive, count))
    base, nbytes = median(plain), np.mean([len(each) for each in sent])
    for way, rounds in (("encode", encoding), ("decode", decoding)):
        timing = median(rounds)
        row = Row(
            figure="codecs",
            frame=name_of(frame.shape[0]),
            mode=f"{quality.name}, {way}",
            p50_ms=timing.p50,
            p99_ms=timing.p99,
            per_s=1000 / timing.p50,
            memcpy_p50_ms=base.p50,
            memcpy_p99_ms=base.p99,
            ratio=timing.p50 / base.p50,
        )
        if way == "encode":
            row.note = f"{nbytes / 1000:,.1f} kB, {100 * nbytes / frame.nbytes:.2g} % of the frame"
            row.note += "" if quality.is_exact else f"; companding {companding.how()}"
        yield row
