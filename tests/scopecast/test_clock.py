"""The clock of frames' ages, which are told by another process than the one that published them."""

import subprocess
import sys

from scopecast.protocol import clock_ns


def test_it_is_the_same_in_other_processes():
    before = clock_ns()
    code = "from scopecast.protocol import clock_ns; print(clock_ns())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120).stdout
    assert before < int(told) < clock_ns()


def step_ns() -> int:
    begin = clock_ns()
    while (now := clock_ns()) == begin:
        pass
    return now - begin


def test_it_tells_frames_of_the_same_millisecond_apart():
    assert min(step_ns() for _ in range(50)) < 1_000_000
