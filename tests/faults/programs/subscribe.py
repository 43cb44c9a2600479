"""A program that looks at live frames, and does with each what its standard input says.

``python subscribe.py JSON``: the arguments of `subscribe`. It prints what it is attached to once that is something, and
then answers each line: ``frame`` (the next one, checked, or null at the end), ``again`` (looks at the same one once
more), ``reply NAME``, ``work N`` (looks at N frames), ``label N`` (and replies
labels to each), ``stats``, ``end``.
"""

import json
import sys

import numpy as np

from receivers import check_stamp
from scopecast import FrameGoneError, subscribe

frame = array = None


def look() -> object:
    stamp = check_stamp(np.asarray(array))
    if frame.lost:
        return "lost"
    return {"t": frame.axes.get("t"), "stamp": stamp, "sequence": frame.sequence, "source": frame.source}


def say(what: object) -> None:
    print(json.dumps(what), flush=True)


with subscribe(**json.loads(sys.argv[1])) as frames:
    say("running")
    for line in sys.stdin:
        command, _, more = line.strip().partition(" ")
        if command == "frame":
            frame = next(frames, None)
            array = frame.array if frame is not None else None
            say(look() if frame is not None else None)
        elif command == "again":
            try:
                say({"sum": int(array.sum()), "lost": frame.lost})
            except FrameGoneError as error:
                say(f"gone: {error}")
        elif command == "reply":
            say(frame.reply(np.full(frame.shape, 7, "uint8"), name=more))
        elif command == "flood":
            say(sum(frame.reply(np.full(frame.shape, 1 + n % 9, "uint8"), name=f"n{n % 3}") for n in range(int(more))))
        elif command in ("work", "label"):
            seen = []
            for _ in range(int(more)):
                if (frame := next(frames, None)) is None:
                    break
                array = frame.array
                seen.append(look()["t"])
                if command == "label":
                    frame.reply(np.full(frame.shape, 7, "uint8"), name="cells")
            say(seen)
        elif command == "stats":
            say({**frames.stats()._asdict(), "balanced": frames.stats().balanced, "problem": frames.problem})
        elif command == "sources":
            say(frames.sources)
        else:
            break
say("ended")
