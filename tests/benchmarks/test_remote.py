"""That views on another machine are measured, over a link; how fast anything is, is not tested."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import documentation, remote
from benchmarks.carrier import Delay
from benchmarks.links import TwoMachines
from scopecast.benchmarks.processes import private_run_directory

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.timeout(300)
@pytest.mark.needs("a shell", "signals", "unix sockets")
def test_a_camera_is_seen_over_a_link_bit_by_bit_once_it_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))  # as `make bench-remote` has it, for the programs
    age, pause, region = remote.run(None, remote.QUICK)
    assert age.p50_ms is not None
    assert age.p50_ms > 0
    assert age.per_s is not None
    assert pause.p50_ms is not None
    assert not pause.note, "the last frame is not as it was published"
    assert region.p50_ms is not None
    assert region.p50_ms > 0


@pytest.mark.needs("a shell", "signals", "unix sockets")
def test_where_no_link_can_be_made_a_program_is_as_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setattr("benchmarks.links.IP", "no-such-program")
    with private_run_directory(), TwoMachines() as machines:
        assert not machines.real
        assert "no-such-program" in machines.why_not
        machines.limit(20.0)
        assert machines.ssh().endswith(" 20.0 20.0")


def test_what_goes_through_a_slow_link_is_whole_and_in_order() -> None:
    sent, came = os.urandom(200_000), bytearray()
    rest = memoryview(sent)

    def read(most: int) -> bytes:
        nonlocal rest
        data, rest = bytes(rest[:most]), rest[most:]
        return data

    Delay(read, came.extend, 0.001, 800.0).run()
    assert came == sent


def test_the_page_of_this_checkout_has_a_place_for_the_figures() -> None:
    text = documentation.PAGE.read_text(encoding="utf-8")
    begin, end = documentation.REMOTE
    assert text.index(documentation.END) < text.index(begin) < text.index(end)
