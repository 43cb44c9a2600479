"""The images of all live streams in one ImageJ: opened, brought up to date, and closed with their streams."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from scopecast_viewers.fiji.awt import java, listener
from scopecast_viewers.fiji.hyperstack import Hyperstack
from scopecast_viewers.look.contrast import Contrasts
from scopecast_viewers.receiving.status import sources_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.receiving.source import Source
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["Gallery"]

logger = logging.getLogger(__name__)

Key = tuple[str, int]


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
    """

    def __init__(self) -> None:
        self.closed: set[Key] = set()
        self.problems: dict[Stack, str] = {}
        self.incomplete = False
        self._images: dict[Stack, Hyperstack] = {}
        self.contrasts = Contrasts()
        self._left: dict[Stack, tuple[int, Any]] = {}  # its version when its image was changed, and that
        self._gone: set[int] = set()  # ids of images (ImagePlus.getID) that were closed
        self._lock = threading.Lock()
        self._listener = listener("ij.ImageListener", imageClosed=self._image_closed)
        java("ij.ImagePlus").addImageListener(self._listener)

    def __iter__(self) -> Iterator[Hyperstack]:
        return iter(list(self._images.values()))

    def __len__(self) -> int:
        return len(self._images)

    def image_of(self, stack: Stack) -> Hyperstack | None:
        """Return the image that shows a stack."""
        return self._images.get(stack)

    def update(self, streams: Iterable[LiveStream]) -> None:
        """Open what is new, close what is gone, and bring up to date what is due; see `incomplete`.

        An image takes a tenth of a second to open, so only one is opened at a time.
        """
        streams = tuple(streams)
        self._collect_closed()
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
        try:
            self._images[stack] = Hyperstack(stream, stack, self.contrasts)
        except Exception as error:
            title = stream.about.title or stream.title
            self.problems[stack] = f"{title} can't be shown: {type(error).__name__}: {error}"
            logger.exception("%s can't be shown", title)
        if front and (window := changed.getWindow()) is not None:
            # The user goes on with the image that they have changed: their next command is for that.
            java("ij.WindowManager").setCurrentWindow(window)
            window.toFront()

    def _update(self, image: Hyperstack) -> None:
        if image.imp.getWindow() is None:
            return  # closed a moment ago
        try:
            if image.is_halfway:
                pass
            elif image.is_changed():
                self._leave(image)
            elif image.due:
                image.update()
                self.problems.pop(image.stack, None)
        except Exception as error:
            # The other images go on; what went wrong is in the log once, and in the list of streams.
            problem = f"{image.title} can't be brought up to date: {type(error).__name__}: {error}"
            if self.problems.get(image.stack) != problem:
                self.problems[image.stack] = problem
                logger.exception("%s can't be brought up to date", image.title)

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
        at_work = (
            java("ij.IJ").macroRunning()
            or java("ij.macro.Interpreter").getInstance() is not None
            or changed.isLocked()
            or java("scopecast.Commands").on(changed) is not None
        )
        return bool(stack.version != version and not at_work)

    def _close_gone(self, streams: tuple[LiveStream, ...]) -> None:
        wanted = {stack for stream in streams for stack in stream.stacks}
        self.closed &= {stream.key for stream in streams}
        self.contrasts.forget({stream.key for stream in streams})
        self.problems = {key: why for key, why in self.problems.items() if key in wanted}
        self._left = {key: left for key, left in self._left.items() if key in wanted}
        for key, image in list(self._images.items()):
            if key not in wanted:
                del self._images[key]
                image.close()

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

    def reopen(self, key: Key) -> None:
        """Show a stream again that the user has closed."""
        self.closed.discard(key)
        self.problems.clear()  # what went wrong before is tried once more
        self._left.clear()
        self.incomplete = True

    def hide(self, key: Key) -> None:
        """Close the images of a stream, as the user does."""
        self.closed.add(key)
        for number, image in list(self._images.items()):
            if image.stream.key == key:
                del self._images[number]
                image.close()

    def follow(self) -> None:
        """Let the sliders of all images follow again."""
        for image in self:
            image.follow(True)
        self.incomplete = True

    def automatic_contrast(self) -> None:
        """Choose the contrast of all channels from the frames again."""
        self.contrasts.automatic()
        self._look_again()

    def automatic_contrast_here(self) -> None:
        """Choose that of the channel that is selected in the active image."""
        imp = java("ij.WindowManager").getCurrentImage()
        for image in self:
            if image.imp == imp and (channel := image.selected_channel) is not None:
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
        """Write the figures below each image."""
        sources = tuple(sources)
        for image in self:
            if image.imp.getWindow() is not None and not image.is_halfway:
                image.write_status(sources_of(image.stream, sources))

    def stop(self) -> None:
        """Let go of the images, which stay open with what they show."""
        java("ij.ImagePlus").removeImageListener(self._listener)
        self._images.clear()
        self._left.clear()
