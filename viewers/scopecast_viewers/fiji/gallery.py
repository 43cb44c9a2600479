"""The images of all live streams in one ImageJ: opened, brought up to date, and closed with their streams."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from scopecast_viewers.fiji.awt import java, listener
from scopecast_viewers.fiji.hyperstack import Hyperstack
from scopecast_viewers.fiji.imagej2 import ImageJ2
from scopecast_viewers.fiji.window_places import WindowPlace
from scopecast_viewers.look.contrast import Contrasts
from scopecast_viewers.receiving.exporting import is_preview
from scopecast_viewers.receiving.status import sources_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.receiving.source import Source
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["Gallery"]

logger = logging.getLogger(__name__)

StreamKey = tuple[str, int]

#: Windows of runs that are over, beyond which the oldest are closed.
MOST_KEPT: Final = 20
_SETTLE_S: Final = 5.0
#: Within this time after a window was opened, one that was opened before may still be activated.
_IN_FRONT_S: Final = 2.0


class Gallery:
    """An image for each stack of each stream, except for the streams that the user has closed.

    Used on ImageJ's window thread; only an image may be closed by any of Java's threads.

    Attributes
    ----------
    closed : set
        The keys (`LiveStream.key`) of the streams that the user has closed.
    problems : dict
        Why a stack can't be shown.
    contrasts : Contrasts
        In which range of values each channel is shown.
    frozen : bool
        The images stay as they are, while frames go on into the stacks; see `freeze`.
    """

    def __init__(self) -> None:
        self.frozen = False
        self.closed: set[StreamKey] = set()
        self.problems: dict[Stack, str] = {}
        self.incomplete = False
        self._images: dict[Stack, Hyperstack] = {}
        self._numbers: dict[StreamKey, tuple[str, int]] = {}  # the name of a run, which of that name it is, from 1
        self.contrasts = Contrasts()
        self._places: dict[object, Hyperstack | WindowPlace] = {}  # by what is shown, the last that has shown it
        self._left: dict[Stack, tuple[int, Any]] = {}  # its version when its image was changed (that) or closed (None)
        self._gone: set[int] = set()  # ids of images (ImagePlus.getID) that were closed
        # Changed by a command, the live image that goes on in its place, until when the former stays in front.
        self._in_use: tuple[Any, Hyperstack | None, float] = (None, None, 0.0)
        self._opened: tuple[Hyperstack | None, float] = (None, 0.0)  # the last, and until when others may be activated
        self._imagej2 = ImageJ2()
        self._lock = threading.Lock()
        self._listener = listener("ij.ImageListener", imageClosed=self._image_closed)
        java("ij.ImagePlus").addImageListener(self._listener)

    def __iter__(self) -> Iterator[Hyperstack]:
        return iter(list(self._images.values()))

    def __len__(self) -> int:
        return len(self._images)

    def update(self, streams: Iterable[LiveStream]) -> None:
        """Open what is new, close what is gone, and bring up to date what is due; see `incomplete`.

        An image takes a tenth of a second to open, so only one is opened at a time.
        """
        streams = tuple(streams)
        self._collect_closed()
        if self.frozen:
            return
        self._close_gone(streams)
        self.incomplete = False
        opened = False
        for stream in streams:
            for stack in stream.stacks if stream.key not in self.closed else ():
                image = self._images.get(stack)
                if image is not None:
                    self._update(image)
                elif stack in self.problems or not stack.layout.planes or not self._goes_on(stack):
                    continue
                elif opened:
                    self.incomplete = True
                else:
                    self._open(stream, stack)
                    opened = True

    def _open(self, stream: LiveStream, stack: Stack) -> None:
        _, changed = self._left.pop(stack, (0, None))
        front = changed is not None and java("ij.WindowManager").getCurrentImage() == changed
        what = _what(stream, stack)
        former = self._places.get(what) if changed is None else None  # the changed image stays where it is
        try:
            image = Hyperstack(
                stream,
                stack,
                self.contrasts,
                former.place if isinstance(former, Hyperstack) else former,
                self._number(stream),
            )
            self._images[stack] = self._places[what] = image
            image.window.toFront()
            self._opened = (image, time.monotonic() + _IN_FRONT_S)
        except Exception as error:
            title = stream.about.title or stream.title
            self.problems[stack] = f"{title} can't be shown: {type(error).__name__}: {error}"
            logger.exception("%s can't be shown", title)
        if front:
            # The user goes on with the image that they have changed: their next command is for that.
            self._in_use = (changed, self._images.get(stack), time.monotonic() + _SETTLE_S)
            self._bring_to_front()

    def _number(self, stream: LiveStream) -> int:
        """Return which of the known runs of its name a run is, from 1, whatever other images are open."""
        if stream.key not in self._numbers:
            name = stream.about.title or stream.title
            former = [number for other, number in self._numbers.values() if other == name]
            self._numbers[stream.key] = (name, max(former, default=0) + 1)
        return self._numbers[stream.key][1]

    def _update(self, image: Hyperstack) -> None:
        if image.imp.getWindow() is None:
            return  # closed a moment ago
        try:
            if image.is_halfway:
                return
            if image.is_changed():
                self._leave(image)
            elif image.due:
                image.update()
                self._imagej2.forget(image.imp)
                image.problem = ""
                self.problems.pop(image.stack, None)
        except Exception as error:
            # The other images go on; what went wrong is in the log once, and in the list of streams.
            problem = f"{image.title} can't be brought up to date: {type(error).__name__}: {error}"
            image.give_up(problem)
            if self.problems.get(image.stack) != problem:
                self.problems[image.stack] = problem
                logger.exception("%s can't be brought up to date", image.title)

    def why_not_saved(self, imp: Any) -> str:
        """Return why an image must not be saved now, ``""`` if it may be. Called by any of Java's threads."""
        stacks = (image.stack for image in self if image.imp == imp)
        previews = sum(is_preview(held.tag) for stack in stacks for held in tuple(stack.layout.planes.values()))
        if not previews:
            return ""
        number = f"{previews} of its frames are previews" if previews > 1 else "One of its frames is a preview"
        return f"{number}: the exact pixels are still on their way from the other machine. Save again in a while."

    def _leave(self, image: Hyperstack) -> None:
        """Let go of an image that a command has changed; its stream goes on in another one."""
        del self._images[image.stack]
        self._left[image.stack] = (image.stack.version, image.imp)
        java("ij.IJ").showStatus(image.leave())

    def _goes_on(self, stack: Stack) -> bool:
        """Whether a new image is to be opened for a stack, if a command has changed its former one.

        Not before the command or the macro has ended: what it does next would be done to the new window.
        """
        if stack not in self._left:
            return True
        version, changed = self._left[stack]
        at_work = changed is not None and (
            java("ij.IJ").macroRunning()
            or java("ij.macro.Interpreter").getInstance() is not None
            or changed.isLocked()
            or java("scopecast.Commands").on(changed) is not None
        )
        return bool(stack.version != version and not at_work)

    def _close_gone(self, streams: tuple[LiveStream, ...]) -> None:
        for what, image in self._places.items():
            if isinstance(image, Hyperstack) and image.imp.getWindow() is None:
                self._places[what] = image.place  # the image itself need not stay in memory
        wanted = {stack for stream in streams for stack in stream.stacks}
        keys = {stream.key for stream in streams}
        self.closed &= keys
        self._numbers = {key: each for key, each in self._numbers.items() if key in keys}
        self.contrasts.forget(keys)
        self.problems = {key: why for key, why in self.problems.items() if key in wanted}
        self._left = {key: left for key, left in self._left.items() if key in wanted}
        for key, image in list(self._images.items()):
            if key not in wanted:
                self._close(image, "" if image.stream.about.preview else "newer runs have taken its place in memory")

    def _close(self, image: Hyperstack, why: str) -> None:
        """Close an image, and say why."""
        del self._images[image.stack]
        title = str(image.imp.getTitle())
        for what, each in self._places.items():
            if each is image:
                self._places[what] = image.place
        image.close()
        if why:
            logger.info("%s was closed: %s", title, why)
            java("ij.IJ").showStatus(f"{title} was closed: {why}")

    def make_room(self) -> None:
        """Close the images of runs that are over if nothing is left of them, or there are very many; not the user's."""
        noticed = [image.notice_touch() for image in self]
        if any(noticed):
            self._look_again()
        over = [image for image in self if not image.stream.held and self._is_former(image)]
        for number, image in enumerate(over):
            if image.is_forgotten:
                self._close(image, "newer frames have taken its place in memory")
            elif number < len(over) - MOST_KEPT:
                self._close(
                    image, f"{MOST_KEPT} newer runs are open; Plugins > scopecast > Live streams shows it again"
                )
            else:
                continue
            if image.is_over:
                self.closed.add(image.stream.key)
            else:
                self._left[image.stack] = (image.stack.version, None)  # it is shown again should it go on

    def _is_former(self, image: Hyperstack) -> bool:
        """Whether a run is over: it has ended, or its publisher has begun another."""
        if image.is_over:
            return True
        after = [each for each in self if each.stream.source == image.stream.source]
        return not image.stream.about.preview and after[-1].stream is not image.stream and not image.stream.rate

    def _bring_to_front(self) -> None:
        """Put a window in front to which frames come, if the one in front follows a stream in which none come any more.

        What the user has stopped, is working at, or has made of a live image, stays in front.
        """
        current, (changed, new, until) = java("ij.WindowManager").getCurrentImage(), self._in_use
        if changed is not None and time.monotonic() < until:  # the new window is activated some time after it is shown
            if new is not None and current == new.imp and changed.getWindow() is not None:
                java("ij.WindowManager").setCurrentWindow(changed.getWindow())
                changed.getWindow().toFront()
            return
        self._in_use = (None, None, 0.0)
        front = self.in_front
        if front is None or not front.following or front.is_at_work:
            return
        opened, until = self._opened
        waits = opened is not None and time.monotonic() < until and opened.imp.getWindow() is not None
        if opened is not None and waits and _sent(opened) > _sent(front):
            # One that was opened before it was activated after it.
            java("ij.WindowManager").setCurrentWindow(opened.window)
            opened.window.toFront()
            return
        if front.delivers:
            return
        others = [image for image in self if image.delivers and image.following and not image.is_labels]
        others = [image for image in others if _sent(image) > _sent(front)]  # not a snap before a run that is over
        if others:
            newest = max(others, key=_sent)
            java("ij.WindowManager").setCurrentWindow(newest.window)
            newest.window.toFront()

    def _image_closed(self, imp: Any) -> None:
        with self._lock:
            self._gone.add(int(imp.getID()))

    def _collect_closed(self) -> None:
        with self._lock:
            gone, self._gone = self._gone, set()
        for key, image in list(self._images.items()):
            if int(image.imp.getID()) not in gone:
                continue
            if image.closer:  # Stack to Images and the like, which make other images of it
                self._leave(image)
            else:
                del self._images[key]
                self.closed.add(image.stream.key)

    def reopen(self, key: StreamKey) -> None:
        """Show a stream again that the user has closed."""
        self.closed.discard(key)
        self.problems.clear()  # what went wrong before is tried once more
        self._left.clear()
        self.incomplete = True

    def hide(self, key: StreamKey) -> None:
        """Close the images of a stream, as the user does."""
        self.closed.add(key)
        for image in self:
            if image.stream.key == key:
                self._close(image, "")

    def follow(self) -> None:
        """Let the sliders of all images follow again."""
        for image in self:
            image.follow(True)
        self.incomplete = True

    def freeze(self, on: bool) -> None:
        """Let all images stay as they are, or go on with the newest frames."""
        self.frozen = on
        for image in self:
            image.freeze(on)
        if not on:
            self.follow()

    @property
    def in_front(self) -> Hyperstack | None:
        """The live image that is ImageJ's active one."""
        imp = java("ij.WindowManager").getCurrentImage()
        return next((image for image in self if image.imp == imp), None)

    def automatic_contrast(self) -> None:
        """Choose the contrast of all channels from the frames again."""
        self.contrasts.automatic()
        self._look_again()

    def automatic_contrast_here(self) -> None:
        """Choose that of the channel that is selected in the active image."""
        image = self.in_front
        if image is not None and (channel := image.selected_channel) is not None:
            self.contrasts.automatic(channel)
        self._look_again()

    def mark_saturation(self, on: bool) -> None:
        """Show saturated pixels in red, or do not any more."""
        self.contrasts.marking = on
        self._look_again()

    def _look_again(self) -> None:
        for image in self:
            image.look_again()
        self.incomplete = True

    def write_status(self, sources: Iterable[Source]) -> None:
        """Write the figures below each image, close those that have to make room, and see to which is in front."""
        sources = tuple(sources)
        if not self.frozen:
            self.make_room()
        for image in self:  # streams of one program that go on side by side are no runs in a row
            if any(image.gives_way_to(later) for later in self if later.stream is not image.stream):
                WindowPlace.stand_beside(image.window)
        self._bring_to_front()
        for image in self:
            if image.imp.getWindow() is not None and not image.is_halfway:
                image.write_status(sources_of(image.stream, sources))

    def stop(self) -> None:
        """Let go of the images, which stay open with what they show."""
        java("ij.ImagePlus").removeImageListener(self._listener)
        self._images.clear()
        self._places.clear()
        self._left.clear()


def _sent(image: Hyperstack) -> int:
    """Return when the newest image of its stream was published, in nanoseconds."""
    newest = image.stream.newest
    return 0 if newest is None else newest[2].sent_ns


def _what(stream: LiveStream, stack: Stack) -> object:
    """Return what the images of one run after the other have in common that show the same."""
    sent = stack.sent
    alike = [each for each in stream.stacks if (each.sent.kind, each.sent.name) == (sent.kind, sent.name)]
    number = 0 if stream.about.preview else alike.index(stack)
    return stream.title, stream.about.preview, sent.kind, sent.name, number
