"""What will happen, and when: all of it drawn from the seed before anything starts."""

from __future__ import annotations

import random
from typing import Literal, NamedTuple

__all__ = ["Action", "Actor", "make_plan"]

Verb = Literal["start", "stop", "resume", "kill", "end"]
#: Seconds between two actions, at least and at most.
_PAUSE = (0.2, 1.2)
#: How many may run at once; the machines of continuous integration have two cores.
_MOST = {"producer": 3, "viewer": 3}
_WEIGHTS: dict[Verb, int] = {"stop": 5, "kill": 2, "end": 1}
_START_WEIGHT = 4
#: Seconds that someone stays stopped: shorter and longer than the two after which a viewer is given up.
_STOPPED = (0.3, 4.0)
_KINDS = ("headless", "second")
#: Nothing new is begun in the last part of the time, so that all that was begun is seen to work.
_QUIET_S = 2.0


class Actor(NamedTuple):
    """A producer or a viewer.

    Attributes
    ----------
    name
        Such as ``"p3"`` or ``"v1"``.
    role
        ``"producer"`` or ``"viewer"``.
    kind
        The kind of viewer that it is, or streams to.
    policy
        Of a producer: ``"latest"`` or ``"every"``.
    seed
        From which it draws what it does by itself: shapes, dtypes, pauses.
    window
        Whether a viewer has a napari window.
    """

    name: str
    role: str
    kind: str
    policy: str
    seed: int
    window: bool = False


class Action(NamedTuple):
    """What happens to an actor.

    Attributes
    ----------
    at
        Seconds since the begin.
    verb
        ``"start"``; ``"stop"`` and ``"resume"`` (SIGSTOP, SIGCONT); ``"kill"`` (SIGKILL); ``"end"`` (in good order).
    actor
        To whom.
    """

    at: float
    verb: Verb
    actor: Actor


def make_plan(seed: int, seconds: float, *, window: bool = False) -> list[Action]:
    """Draw what will happen.

    Parameters
    ----------
    seed
        The same seed, time and `window` give the same plan.
    seconds
        How long it goes on.
    window
        Whether a napari window takes part, from the begin to the end, while the producers of its kind come and go.

    Returns
    -------
    list of Action
        In order of time.
    """
    draw = random.Random(seed)
    count = {"producer": 0, "viewer": 0}
    running: list[Actor] = []
    busy: dict[str, float] = {}  # who is stopped, or has just begun, and until when
    plan: list[Action] = []

    def start(at: float, role: str, **about: object) -> None:
        number = count[role] = count[role] + 1
        kind, policy = draw.choice(_KINDS), draw.choice(("latest", "every"))
        actor = Actor(f"{role[0]}{number}", role, kind, policy, draw.randrange(2**32))._replace(**about)
        plan.append(Action(at, "start", actor))
        running.append(actor)
        busy[actor.name] = at + 3.0  # to come up and to do something; some are hit before that all the same

    # From the begin there is a pair of every kind and policy.
    if window:
        start(0.0, "viewer", kind="napari", window=True)
        start(0.0, "producer", kind="napari", policy="latest")
    start(0.0, "viewer", kind="headless")
    start(0.1, "producer", kind="headless", policy="latest")
    start(0.2, "viewer", kind="second")
    start(0.3, "producer", kind="second", policy="every")
    now = 1.0
    while (now := now + draw.uniform(*_PAUSE)) < seconds - _QUIET_S:
        role = draw.choice(("producer", "viewer"))
        of_role = [actor for actor in running if actor.role == role]
        free = [actor for actor in of_role if busy[actor.name] <= now or draw.random() < 0.1]
        free = [actor for actor in free if not actor.window]
        verbs: list[Verb] = [verb for verb, weight in _WEIGHTS.items() for _ in range(weight if free else 0)]
        if len([actor for actor in of_role if not actor.window]) < _MOST[role]:
            verbs += ["start"] * _START_WEIGHT
        if not verbs:
            continue
        verb = draw.choice(verbs)
        if verb == "start":
            kinds = (*_KINDS, "napari") if window and role == "producer" else _KINDS
            start(now, role, kind=draw.choice(kinds))
            continue
        actor = draw.choice(free)
        plan.append(Action(now, verb, actor))
        if verb == "stop":
            until = now + draw.uniform(*_STOPPED)
            plan.append(Action(min(until, seconds - 1.0), "resume", actor))
            busy[actor.name] = until
        else:
            running.remove(actor)
    gone: dict[str, float] = {act.actor.name: act.at for act in plan if act.verb in ("kill", "end")}
    # Who was killed while stopped needs no resuming.
    kept = [act for act in plan if act.verb != "resume" or act.at < gone.get(act.actor.name, seconds)]
    return sorted(kept, key=lambda act: act.at)
