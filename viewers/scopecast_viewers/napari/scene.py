"""The scene: which runs are on the canvas, and which of them the sliders follow.

napari takes the extent of the canvas, the sliders and the selection from all layers that it has, hidden ones too. So
what is not in the scene is not among the viewer's layers; it is kept outside, with all that the user has set of it.

- A run takes the scene with its first image: the former runs of its source leave, and so do other sources that have
  fallen silent. It is followed from then on.
- It joins, without being followed, if another source delivers images just then, and it has more than a single one. So
  does whatever has no images of its own, such as the labels that an analysis sends.
- A run that has left comes back when it goes on (live mode after a sequence), or when the user wants it.
- The followed one stays so until it has fallen silent and another delivers. So two sources never take turns.
- A source that the user has chosen is followed, from run to run, until it has ended or the user chooses otherwise.

How long a source has been silent is told by what others have sent since, not by the clock: a window that hangs for a
while decides as one that does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scopecast_viewers.receiving.live import LiveStream

__all__ = ["IDLE_S", "Scene"]

#: A source without an image for this long, while another delivers, is idle.
IDLE_S: Final = 2.0

_Key = tuple[str, int]


class Scene:
    """Chooses among the streams of a receiver. Used on the GUI's thread only.

    Attributes
    ----------
    followed : LiveStream or None
        The run that sliders, view and status are of.
    on_top : LiveStream or None
        The run whose images hide what is under them: the one that is followed, or that the user has brought back.
    unshown : set
        The keys of runs of which nothing can be shown: they yield to any other.
    alone : LiveStream or None
        The run that the user wants to see without any other, which stay away until a new one begins.
    chosen : str or None
        The source that the user wants to follow, by its token; None for whichever delivers images.
    begun, joined : bool
        A run has taken the scene; one has come beside what is there. Whoever looks at it sets it back.
    """

    def __init__(self) -> None:
        self.followed: LiveStream | None = None
        self.on_top: LiveStream | None = None
        self.unshown: set[_Key] = set()
        self.alone: LiveStream | None = None
        self.chosen: str | None = None
        self.begun = self.joined = False
        self._streams: tuple[LiveStream, ...] = ()
        self._here: set[_Key] = set()
        self._left: dict[_Key, int] = {}  # when each of the others left, by the newest image then
        self._had_images: set[_Key] = set()

    def __contains__(self, stream: LiveStream) -> bool:
        return stream.key in self._here

    @property
    def streams(self) -> tuple[LiveStream, ...]:
        """Those in the scene."""
        return tuple(stream for stream in self._streams if stream in self)

    @property
    def runs(self) -> tuple[LiveStream, ...]:
        """All that can be in the scene, in order of appearance."""
        return tuple(stream for stream in self._streams if stream.newest is not None)

    @property
    def sources(self) -> dict[str, LiveStream]:
        """The sources that can be followed, by their tokens, and of each the newest run that has images."""
        return {
            stream.source: stream for stream in sorted(self._streams, key=_sent) if stream.received and stream.alive
        }

    def is_beside(self, stream: LiveStream) -> bool:
        """Whether another program delivers a run beside the one that is followed."""
        followed = self.followed
        return followed is not None and stream.source != followed.source and stream.state == "live"

    def knows(self, stream: LiveStream) -> bool:
        """Whether what has come of a stream is taken in: it is in the scene, or was sent out of it."""
        return stream.key in self._here or (stream.key in self._left and not self._comes(stream))

    def update(self, streams: Iterable[LiveStream]) -> None:
        """Take in what has come since."""
        self._streams = tuple(streams)
        known = {stream.key for stream in self._streams}
        self._here &= known
        self._had_images &= known
        self._left = {key: at for key, at in self._left.items() if key in known}
        if self.followed is not None and self.followed.key not in known:
            self.followed = None
        if self.on_top is not None and self.on_top.key not in self._here:
            self.on_top = self.followed
        if self.alone is not None and self.alone.key not in known:
            self.alone = None
        if self.chosen is not None and self.chosen not in self.sources:
            self.chosen = None
        for stream in sorted(filter(self._comes, self._streams), key=_sent):
            self._enter(stream)
        self.reconsider()

    def follow(self, source: str | None) -> None:
        """Follow a source, given by its token, as the user wishes; with None, whichever delivers images."""
        self.chosen, self.alone = source, None
        if source is not None and (stream := self.sources.get(source)) is not None:
            self._stay(stream)
            self._had_images.add(stream.key)
            self.followed = self.on_top = stream
            self.begun = True

    def show(self, stream: LiveStream) -> None:
        """Bring a run back, as the user wishes; the next run that begins sends it away again."""
        self.alone = None
        self._stay(stream)
        self.followed = self.followed or stream
        self.on_top, self.joined = stream, True

    def show_alone(self, stream: LiveStream) -> None:
        """Have no other run in the scene, as the user wishes, though others go on; until a new one begins."""
        self.show(stream)
        for other in self.streams:
            if other is not stream:
                self._leave(other)
        self.followed = self.alone = stream

    def hide(self, stream: LiveStream) -> None:
        """Send a run away, as the user wishes, until it goes on."""
        self.alone = None
        self._leave(stream)
        if self.on_top is stream:
            self.on_top = self.followed
        self.joined = True  # what is left is to be looked at
        self.reconsider()

    def reconsider(self) -> None:
        """Follow another run if the one that is followed is idle."""
        old = self.followed
        candidates = [stream for stream in self.streams if stream.received and stream is not old]
        candidates = [stream for stream in candidates if stream.source == self.chosen] or candidates
        if old is None or not old.received:
            self._follow(max(candidates, key=_sent, default=old))
            return
        newest = max((stream for stream in candidates if stream.state == "live"), key=_sent, default=None)
        if newest is None or _sent(newest) <= _sent(old) or not self._yields(old, newest):
            return
        both_are_slow = old.pace_s and self._goes_on(old) and not 0 < 2 * newest.pace_s < old.pace_s
        if self._is_chosen(newest, old) or not both_are_slow:  # else they would take turns
            self._follow(newest)

    def _follow(self, stream: LiveStream | None) -> None:
        if stream is not self.followed:
            self.followed = self.on_top = stream

    # ---- coming and going ----------------------------------------------------------------------------------------

    def _comes(self, stream: LiveStream) -> bool:
        if stream.newest is None:
            return False
        if stream.received and stream.key not in self._had_images:
            return True
        if stream in self:
            return False
        left = self._left.get(stream.key)
        return left is None or (self.alone is None and stream.state == "live" and _sent(stream) > left)

    def _enter(self, stream: LiveStream) -> None:
        former = [other for other in self.streams if other.source == stream.source and other is not stream]
        if not stream.received:
            for other in former:
                if not other.received:
                    self._leave(other)
            self._stay(stream)
            self._follow(self.followed or stream)
            return
        first = stream.key not in self._had_images
        self._had_images.add(stream.key)
        old, takes = self.followed, True
        if first and any(other.received and _sent(other) > _sent(stream) for other in former):
            self._leave(stream)  # to a viewer that was opened late the last of a former run may come later
            return
        if old is not None and old.received and old is not stream:
            if old.source == stream.source:
                takes = first or not self._goes_on(old)
            else:
                takes = self._yields(old, stream) and _sent(stream) > _sent(old)
                single = stream.received == 1 < old.received  # as of a notebook: no more may come
                if not takes and (single or not self._goes_on(stream)):
                    self._leave(stream)
                    return
        for other in self.streams:
            if other is stream or (other is old and not takes):
                continue
            of_this_source = other.source == stream.source
            if (of_this_source and first) or ((of_this_source or takes) and not self._goes_on(other)):
                self._leave(other)
        self._stay(stream)
        if takes:
            self.followed = self.on_top = stream
            self.alone = None
        self.begun, self.joined = self.begun or takes, True

    def _stay(self, stream: LiveStream) -> None:
        self._left.pop(stream.key, None)
        self._here.add(stream.key)

    def _leave(self, stream: LiveStream) -> None:
        self._here.discard(stream.key)
        self._left[stream.key] = self._now
        if self.followed is stream:
            self.followed = None

    # ---- who is active -------------------------------------------------------------------------------------------

    def _is_heard(self, stream: LiveStream, within_s: float) -> bool:
        return stream.state == "live" and self._now - _sent(stream) < within_s * 1e9

    @property
    def _now(self) -> int:
        return max(map(_sent, self._streams), default=0)

    def _yields(self, stream: LiveStream, other: LiveStream) -> bool:
        """Whether a run that is followed is idle, or has never been more than one image while another delivers."""
        if self._is_chosen(other, stream):
            return True
        if self._is_chosen(stream, other):
            return False
        if stream.key in self.unshown or not self._is_heard(stream, IDLE_S):
            return True
        return stream.received == 1 and other.received > 2

    def _is_chosen(self, stream: LiveStream, other: LiveStream) -> bool:
        """Whether a run is of the source that the user has chosen, and another is not."""
        return self.chosen is not None and stream.source == self.chosen != other.source

    def _goes_on(self, stream: LiveStream) -> bool:
        """Whether more is to be expected, at the pace that the run has had: a time series rests between its points."""
        return self._is_heard(stream, max(IDLE_S, 2 * stream.pace_s))


def _sent(stream: LiveStream) -> int:
    """Return when the newest image of a stream was published, in nanoseconds."""
    return stream.newest[2].sent_ns if stream.newest is not None else 0
