"""Carries out a plan with real processes, and judges what is left of it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leftovers import Leftovers
from scopecast.rundir.directory import RunDirectory
from soak.actors import Running

if TYPE_CHECKING:
    from collections.abc import Callable

    from soak.plan import Action

__all__ = ["Outcome", "conduct"]

#: Seconds that a producer and a viewer have to end in good order: ten times what they need on a busy machine.
_END_S = 60.0


@dataclass
class Outcome:
    """What came of a soak.

    Attributes
    ----------
    everybody
        All that took part, in order of their start.
    wrong
        What must not be, a line each.
    cleaned
        What `clean` removed of those that were killed: programs, segments, bytes.
    """

    everybody: list[Running] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    cleaned: tuple[int, int, int] = (0, 0, 0)

    def of(self, role: str) -> list[Running]:
        """Return the producers, or the viewers."""
        return [one for one in self.everybody if one.actor.role == role]

    @property
    def checked(self) -> int:
        """Frames that were compared with their stamp."""
        return sum(one.said.get("checked", 0) for one in self.of("viewer"))

    @property
    def published(self) -> int:
        """Frames that were published."""
        return sum(one.said.get("frames", {}).get("published", 0) for one in self.of("producer"))

    @property
    def ratios(self) -> list[float]:
        """Cost of publish() with viewers by that without, of every producer and kind of frame."""
        return sorted(ratio for one in self.of("producer") for ratio in one.said.get("ratio", ()))

    @property
    def longest_s(self) -> float:
        """The longest publish() under the policy "latest", in seconds."""
        return max((one.said.get("longest_s", 0.0) for one in self.of("producer")), default=0.0)

    def as_json(self) -> dict[str, Any]:
        """Return what a test looks at."""
        fates = [one.fate for one in self.everybody]
        return {
            "wrong": self.wrong,
            "published": self.published,
            "checked": self.checked,
            "looks": sum(one.said.get("looks", 0) for one in self.of("producer")),
            "delivered": sum(one.said.get("frames", {}).get("delivered", 0) for one in self.of("producer")),
            "killed": fates.count("killed"),
            "ended": fates.count("ended"),
            "longest_s": self.longest_s,
            "ratios": self.ratios,
            "cleaned": self.cleaned,
        }


def conduct(plan: list[Action], tell: Callable[[float, str, str], None]) -> Outcome:
    """Carry out a plan, end everything, clean, and look what is left.

    Parameters
    ----------
    plan
        What happens, in order of time.
    tell
        Is told what happens: seconds since the begin, the verb, and of whom.
    """
    directory = RunDirectory()
    leftovers = Leftovers(directory.path)
    outcome = Outcome()
    running: dict[str, Running] = {}
    began = time.monotonic()

    def note(verb: str, who: str) -> None:
        tell(time.monotonic() - began, verb, who)

    try:
        for action in plan:
            # What is planned happens when it is planned: waiting here is the soak's own clock.
            time.sleep(max(0.0, began + action.at - time.monotonic()))
            actor = action.actor
            if action.verb == "start":
                running[actor.name] = one = Running(actor)
                outcome.everybody.append(one)
                about = f"{actor.kind}, {actor.policy}" if actor.role == "producer" else actor.kind
                note("start", f"{actor.name} ({about}{', window' if actor.window else ''})")
            elif running[actor.name].process.poll() is None:
                running[actor.name].do(action.verb)
                note(action.verb, actor.name)
        _end_all(outcome, note)
        for one in outcome.everybody:
            one.wait(5)
        cleaned = directory.clean(everything=True)
        outcome.cleaned = (len(cleaned.members), len(cleaned.segments), cleaned.bytes)
        note("clean", f"{len(cleaned.members)} dead, {len(cleaned.segments)} segments")
        _judge(outcome, directory, leftovers)
    finally:
        for one in outcome.everybody:
            one.close()
    return outcome


def _end_all(outcome: Outcome, note: Callable[[str, str], None]) -> None:
    """Resume whoever is stopped; end the producers, which wait for their viewers, and then the viewers."""
    for one in outcome.everybody:
        one.resume()
    for role in ("producer", "viewer"):
        ending = [one for one in outcome.of(role) if one.fate in ("running", "ended") and one.process.poll() is None]
        for one in ending:
            one.tell()
            note("end", one.actor.name)
        deadline = time.monotonic() + _END_S
        for one in ending:
            if not one.wait(max(0.1, deadline - time.monotonic())):
                outcome.wrong.append(
                    f"{one.actor.name} did not end within {_END_S:g} s, and was killed: {one.errors[-2000:]}"
                )


def _judge(outcome: Outcome, directory: RunDirectory, leftovers: Leftovers) -> None:
    """Say what must not be."""
    for one in outcome.everybody:
        one._reader.join(10)
        outcome.wrong += [f"{one.actor.name}: {problem}" for problem in one.problems()]
    _compare_with_viewers(outcome)
    try:
        leftovers.wait_until_none(10.0)
    except AssertionError as error:
        outcome.wrong.append(str(error))
    # Logs of the dead are kept for a day, and launch locks for the next launch; nothing else may be left.
    rest = [
        path.name for path in directory.path.iterdir() if path.suffix != ".log" and not path.name.startswith("launch-")
    ]
    if rest:
        outcome.wrong.append(f"left in the run directory after clean: {json.dumps(sorted(rest))}")


def _compare_with_viewers(outcome: Outcome) -> None:
    """Look whether viewers put into their stacks what producers count as delivered to them."""
    viewers = {one.said["token"]: one for one in outcome.of("viewer") if one.fate == "ended" and one.said.get("ended")}
    counted: dict[str, int] = {}
    for producer in outcome.of("producer"):
        for token, delivered in producer.said.get("delivered", {}).items():
            counted[token] = counted.get(token, 0) + delivered
    for token, one in viewers.items():
        put = sum(one.said["by_source"].values())
        if put < counted.get(token, 0):
            outcome.wrong.append(
                f"{one.actor.name} was delivered {counted[token]} frames, and put {put} into its stacks"
            )
