"""The soak for 15 seconds, its plan, and that it sees what it is to see."""

import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).resolve().parents[1]
PATHS = os.pathsep.join((str(TESTS), str(TESTS / "support")))


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the soak's modules be imported, as they are by `make soak`."""
    monkeypatch.syspath_prepend(str(TESTS))


@pytest.mark.timeout(280)
def test_a_quarter_of_a_minute_leaves_nothing_torn_leaked_or_unaccounted_for(tmp_path: Path, soak: None):
    from soak.plan import make_plan

    seeds = itertools.count(random.randrange(10**6))
    seed = next(seed for seed in seeds if {"kill", "end"} <= {act.verb for act in make_plan(seed, 15.0)})
    command = [sys.executable, "-m", "soak", "--seconds", "15", "--seed", str(seed)]
    command += ["--json", str(tmp_path / "figures.json")]
    environment = {**os.environ, "PYTHONPATH": PATHS}
    # Its end is bounded by deadlines of its own: a minute for all producers to end, and one for all viewers.
    done = subprocess.run(command, capture_output=True, text=True, timeout=260, env=environment)
    print(done.stdout)  # with the seed, for whoever looks at a failure
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["wrong"] == [], done.stdout
    assert done.returncode == 0, done.stderr
    assert figures["checked"] > 20
    assert figures["looks"] > 20
    assert figures["delivered"] > 20
    assert figures["killed"] > 0
    assert figures["ended"] > 0


@pytest.mark.needs("a shell", "signals", "unix sockets")
@pytest.mark.timeout(280)
def test_a_view_on_another_machine_outlives_all_that_breaks_in_a_quarter_of_a_minute(soak: None):
    from soak.links import make_plan

    seeds = itertools.count(random.randrange(10**6))
    verbs = {"break", "stop", "kill the relay", "kill the desk"}
    seed = next(seed for seed in seeds if verbs <= {act.verb for act in make_plan(seed, 15.0)})
    command = [sys.executable, "-m", "soak.links", "--seconds", "15", "--seed", str(seed)]
    environment = {**os.environ, "PYTHONPATH": PATHS}
    done = subprocess.run(command, capture_output=True, text=True, timeout=260, env=environment)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing torn, twice, out of order, or lost" in done.stdout


def test_a_seed_gives_the_same_plan_again(soak: None):
    from soak.plan import make_plan

    assert make_plan(7, 60.0) == make_plan(7, 60.0)
    assert make_plan(7, 60.0) != make_plan(8, 60.0)


def test_a_plan_does_everything_and_only_what_can_be_done(soak: None):
    from soak.plan import make_plan

    seen = set()
    for seed in range(50):
        state: dict[str, str] = {}
        for act in make_plan(seed, 60.0, window=seed % 2 == 0):
            name = act.actor.name
            seen.add(act.verb)
            before = state.get(name)
            if act.verb == "start":
                assert before is None
            elif act.verb == "resume":
                assert before in ("stop", "resume")
            else:
                assert before in ("start", "resume", "stop")
            state[name] = act.verb
            assert not (act.actor.window and act.verb in ("kill", "end"))
            assert 0 <= act.at <= 60.0
    assert seen == {"start", "stop", "resume", "kill", "end"}


def test_a_viewer_of_the_soak_sees_a_torn_frame_and_one_in_a_wrong_place(soak: None):
    from receivers import stamped
    from soak.viewer import Verifier

    verifier = Verifier()
    whole = stamped(5, 1)
    verifier.check("whole", whole, {"t": 5, "c": 1})
    assert verifier.wrong == []
    verifier.check("elsewhere", whole, {"t": 4, "c": 1})
    verifier.check("torn", np.concatenate([whole[:32], stamped(6, 1)[32:]]), {"t": 5, "c": 1})
    assert len(verifier.wrong) == 2
    assert "elsewhere shows t=5 c=1" in verifier.wrong[0]
    assert "torn is torn" in verifier.wrong[1]
