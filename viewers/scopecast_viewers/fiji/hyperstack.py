"""One image in ImageJ, which shows one stack of a live stream and grows with it."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import jpype
import numpy as np

from scopecast.protocol import clock_ns
from scopecast_viewers.fiji.awt import java, listener
from scopecast_viewers.fiji.calibration import calibration_of, info_of, title_of
from scopecast_viewers.fiji.folding import Folding
from scopecast_viewers.fiji.label_look import LabelLook
from scopecast_viewers.fiji.look import Look, channel_of
from scopecast_viewers.fiji.overlay import LiveOverlay
from scopecast_viewers.fiji.pixels import form_of, form_of_labels
from scopecast_viewers.fiji.slices import Slices
from scopecast_viewers.fiji.strip import Strip
from scopecast_viewers.fiji.window_places import WindowPlace
from scopecast_viewers.look.colors import color_problem
from scopecast_viewers.look.ticks import MAX_WAIT_S, STATUS_S
from scopecast_viewers.receiving.marks import MarkedFrame
from scopecast_viewers.receiving.status import hint_of, preview_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from scopecast_viewers.look.contrast import Contrasts
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.receiving.source import Source
    from scopecast_viewers.stacks.plane import Tag
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["Hyperstack"]

logger = logging.getLogger(__name__)

_IDLE_S: Final = 2.0
_MOST_SLICES: Final = 2**31 - 1  # Java's int
_COMPOSITE, _COLOR = 1, 2  # ij.CompositeImage's


class _Given(NamedTuple):
    """Pixels that the window was given: a copy of those of a slice, and the tag of the frame there."""

    tag: Tag | None
    pixels: Any
    slice: int


class Hyperstack:
    """An open image. Used on ImageJ's window thread only.

    Parameters
    ----------
    stream, stack
        What it shows; the stack has at least one plane.
    contrasts
        In which range of values each channel is shown.
    former
        The place that its window takes over, if there is one.
    number
        Which of the runs of its name it is, from 1.

    Attributes
    ----------
    imp : ij.ImagePlus
        The image.
    following : bool
        Whether its sliders follow the newest frame.
    frozen : bool
        It stays as it is; see `freeze`.
    waits_for : str
        The command that keeps it from growing, or ``""``.
    problem : str
        Why it can't be brought up to date, or ``""``.
    window : scopecast.LiveWindow
        Its window, also when that is closed.
    """

    def __init__(
        self,
        stream: LiveStream,
        stack: Stack,
        contrasts: Contrasts,
        former: WindowPlace | None = None,
        number: int = 1,
    ) -> None:
        self.stream, self.stack, self._run_number = stream, stack, number
        self.following, self.frozen = True, False
        self.is_labels = stack.is_labels
        sent = np.dtype(stack.sent.dtype)
        self.form = (
            form_of_labels(sent, stack.dtype) if self.is_labels else form_of(sent, rgb=len(stack.plane_shape) == 3)
        )
        self._look: Look | LabelLook = LabelLook(stack) if self.is_labels else Look(stream, stack, contrasts)
        images = [each for each in stream.stacks if not each.is_labels] or [stack]
        self.overlay = LiveOverlay(stream, managed=images[0] is stack)
        self._documents = -1
        self.waits_for = self.problem = ""
        self._folding = self._fold()
        self._slices = Slices(stream, stack, self.form, self._folding)
        self._version = -1
        self._pixels: dict[int, _Given] = {}  # by the slice's number, what the window was given
        self._painted: dict[int, int] = {}  # by channel, from 0
        self._painted_ns = 0  # when the newest that is painted was published
        self._appearance: list[object] = []  # as we have set it last
        self._channel_chosen = False  # whether the user has moved the slider of the channels
        self._to_settle = False  # whether the contrast has stayed as it was for a command
        self._updated_at = 0.0
        self._waiting_for_paint = False
        self._painting: dict[int, Tag] = {}
        self.paints_ms: list[float] = []
        self.imp: Any = self._make()
        painted = listener("java.util.function.Consumer", accept=self._on_paint)
        self._canvas = java("scopecast.LiveCanvas")(self.imp, painted)
        self.strip = Strip(self._canvas, self.follow)
        self._number = self._selected  # where the sliders were last put, by us or by the user
        self._open(former)

    @property
    def is_over(self) -> bool:
        """Whether no more frames come, as far as is known."""
        return self.stream.state in ("ended", "lost")

    @property
    def delivers(self) -> bool:
        """Whether images come in its stream."""
        age = self.stream.age_s
        return not self.is_over and age is not None and age < _IDLE_S

    @property
    def is_at_work(self) -> bool:
        """Whether a command is at work on the image."""
        working = self.imp.isLocked() or java("scopecast.Commands").on(self.imp) is not None
        return bool(working or java("ij.IJ").macroRunning())

    @property
    def is_forgotten(self) -> bool:
        """Whether none of its frames is left."""
        return bool(self.stack.layout.planes) and not self.stack.count

    # ---- making --------------------------------------------------------------------------------------------------

    def _fold(self) -> Folding:
        about = self.stream.about
        announced: dict[str, int] = dict(zip(about.axes, about.sizes, strict=False))
        if self.is_labels:
            announced.pop("c", None)  # there are seldom labels of all channels
        elif "c" in about.labels:
            announced["c"] = max(announced.get("c", 0), len(about.labels["c"]))
        folding = Folding.of(self.stack.layout, announced)
        if (count := math.prod(folding.dimensions)) > _MOST_SLICES:
            raise ValueError(f"ImageJ counts up to {_MOST_SLICES} slices, these would be {count}")
        return folding

    @property
    def title(self) -> str:
        """What the image is called."""
        return title_of(self.stream, self.stack, self._run_number)

    def _make(self) -> Any:
        channels, slices, frames = self._folding.dimensions
        # A copy of the user's may have the name, or what a command has made of this run: ImageJ adds "-1" to such.
        title = java("ij.WindowManager").makeUniqueName(self.title)
        imp = java("ij.ImagePlus")(title, self._slices.live)
        imp.setDimensions(channels, slices, frames)
        imp.setCalibration(calibration_of(self.stream, self.form))
        imp.setProperty("Info", info_of(self.stream, self.stack, self.form))
        if self._has_colors:
            imp = java("ij.CompositeImage")(imp, _COMPOSITE)
        imp.setOpenAsHyperStack(True)
        return imp

    @property
    def _has_colors(self) -> bool:
        """Whether its channels have a colour each."""
        return "c" in self.stack.axes and self.form.bits != 24 and not self.is_labels

    def _open(self, former: WindowPlace | None) -> None:
        self._look.settle(self.imp, self._folding.dimensions[0])
        self.window = java("scopecast.LiveWindow")(self.imp, self._canvas)
        self.window.add(self.strip.panel)
        height, width = self.stack.plane_shape[:2]
        WindowPlace.take(former, self.window, self._canvas, (width, height))
        self.window.setVisible(True)
        self.update()
        self._appearance = self._look_at()
        self._opened_ns = clock_ns()

    def gives_way_to(self, later: Hyperstack) -> bool:
        """Whether it is covered by another image of its program, and images come in both of them."""
        mine, other = self.stream.newest, later.stream.newest
        return (
            mine is not None
            and other is not None
            and min(mine[2].sent_ns, other[2].sent_ns) > later._opened_ns > self._opened_ns
            and self.place[:2] == later.place[:2]
        )

    @property
    def place(self) -> WindowPlace:
        """Where its window stands, or stood."""
        height, width = self.stack.plane_shape[:2]
        return WindowPlace.of(self.window, self._canvas, (width, height))

    # ---- keeping up ----------------------------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        """Whether there is something new, and the window has painted what it was given before."""
        waited = time.monotonic() - self._updated_at
        if (self._waiting_for_paint and waited < MAX_WAIT_S) or (self.problem and waited < STATUS_S):
            return False
        if self._documents != self.stream.annotations.received:
            return True
        if self._to_settle and not self.is_at_work:
            return True
        return self._version != self.stack.version or self._number != self._selected

    def update(self) -> None:
        """Grow, go to the newest frame if the sliders follow, and show what has come where they stand."""
        version = self.stack.version
        if not self.stack.layout.planes:
            self._version = version
            return
        folding = self._fold()
        # A command works on the plane that is shown, and must not get another one meanwhile; or it goes through all of
        # them, as Save As does, which writes a file that contradicts itself if the image has grown in between.
        with jpype.synchronized(java("scopecast.Commands").class_):  # none starts in the middle of this
            if not self._is_live or self._must_wait(folding):
                return
            self._version = version
            self._notice_user()
            self.notice_touch()  # before we change the look ourselves
            if grew := folding != self._folding:
                self._grow(folding)
            imp = self.imp
            # Commands convert pixels by the range in which they are shown.
            self._to_settle = java("scopecast.Commands").on(imp) is not None
            changed = self._look.settle(imp, folding.dimensions[0], at_work=self._to_settle)
        if changed or grew:
            self._appearance = self._look_at()
        self._documents = self.stream.annotations.received
        if not self.is_labels or all(each.is_labels for each in self.stream.stacks):
            self.overlay.update(imp, folding)
        target = self._target()
        tags = self._show(target, changed)
        self._painting = {c: tag for c, tag in tags.items() if tag and tag.sequence > self._painted.get(c, -1)}
        self._waiting_for_paint = bool(self._painting)
        self._updated_at = time.monotonic()

    def _must_wait(self, folding: Folding) -> bool:
        """Whether a command is at work that must not see the image change, or, if it does not lock it, grow."""
        command = java("scopecast.Commands").on(self.imp)
        locked = self.imp.isLocked() or java("ij.IJ").macroRunning()
        if not (locked or (command is not None and folding != self._folding)):
            self.waits_for = ""
            return False
        self.waits_for = str(command or "a command").strip(". ")
        return True

    def _notice_user(self) -> None:
        """End following if the user has moved a slider; one of the channels only chooses the channel that is seen."""
        number = self._selected
        if number == self._number:
            return
        channels = self._folding.dimensions[0]
        if (number - 1) // channels != (self._number - 1) // channels:
            self.follow(False)
        self._channel_chosen = True
        self._number = number

    def _grow(self, folding: Folding) -> None:
        """Take over a new extent, and stay at the same place."""
        where: Mapping[str, int] = dict(
            zip(self._folding.axes, self._folding.place(min(self._number, self._size)), strict=True)
        )
        channels = self._folding.dimensions[0]
        longer = folding.only_longer(self._folding)
        if longer:
            self._slices.extend(folding)
        else:
            # Slices get other numbers: a new stack, so that commands which are at work keep the old one.
            self._slices = Slices(self.stream, self.stack, self.form, folding)
            self._pixels = {}
        luts = self.imp.getLuts() if folding.dimensions[0] != channels and self.imp.isComposite() else None
        self._folding = folding
        changed = java("scopecast.Growth").grow(self.imp, self._slices.live, *folding.dimensions)
        if luts is not None:
            self._add_channels(luts, channels)
        window = self.imp.getWindow()
        if self._has_colors and not self.imp.isComposite() and window is not None:
            self._become_composite(window)
        if changed and window is not None:
            window.add(self.strip.panel)  # below the new sliders
            WindowPlace.pack(window)
        if not longer:
            place = tuple(where.get(name, 0) for name in folding.axes)
            self.imp.setPosition(*folding.position(place))
            self._number = self._selected
            if self.imp.isComposite():
                self.imp.reset()

    @property
    def _size(self) -> int:
        channels, slices, frames = self._folding.dimensions
        return channels * slices * frames

    def _become_composite(self, window: Any) -> None:
        """Put an image with colours in the place of the one in the window: channels have joined."""
        old = self.imp
        ip = old.getProcessor()
        first = java("ij.process.LUT")(ip.getLut(), ip.getMin(), ip.getMax())
        self.imp = java("ij.CompositeImage")(old, _COMPOSITE)
        self.imp.setOpenAsHyperStack(True)
        self.imp.setChannelLut(first, 1)
        canvas = self._canvas
        seen, size = canvas.getSrcRect().clone(), canvas.getSize()
        zoom = canvas.getMagnification()
        old.setWindow(None)  # whoever still has the old one must not close the window with it
        window.setImage(self.imp)  # which shows all of it, at 100 %
        canvas.setSize(size)
        canvas.setSourceRect(seen)
        canvas.setMagnification(zoom)
        if self.imp.getRoi() is not None:
            self.imp.getRoi().setImage(self.imp)

    def _add_channels(self, luts: Any, before: int) -> None:
        """Give the image room for more channels, whose look is chosen next; those that it had keep theirs."""
        if self._folding.dimensions[0] > java("ij.CompositeImage").MAX_CHANNELS:
            self.imp.setMode(_COLOR)  # ImageJ composes no more of them
        self.imp.completeReset()
        every = self.imp.getLuts()
        for channel in range(min(before, len(luts))):
            every[channel] = luts[channel]
        self.imp.setLuts(every)

    def _target(self) -> int:
        """Return the slice to show: the newest frame's if the sliders follow."""
        newest = self.stack.newest
        if not self.following or newest is None or len(newest) != len(self._folding.axes):
            return self._number
        if java("ij.macro.Interpreter").getInstance() is not None:
            # It may be putting the sliders somewhere at this moment, one after the other.
            self._version, self.waits_for = -1, "a macro"
            return self._number
        channels = self._folding.dimensions[0]
        number = self._folding.number(newest)
        if self._channel_follows:
            return number
        return number - (number - 1) % channels + (self._number - 1) % channels

    @property
    def _channel_follows(self) -> bool:
        """Whether the newest frame's channel is seen: where ImageJ can't show all, unless the user has chosen one."""
        can_show_all = self.imp.isComposite() and self._folding.dimensions[0] <= java("ij.CompositeImage").MAX_CHANNELS
        return not (can_show_all or self._channel_chosen)

    @property
    def _composite(self) -> bool:
        """Whether all channels are shown at once."""
        return (
            bool(self.imp.isComposite()) and int(self.imp.getMode()) == _COMPOSITE and self._folding.dimensions[0] > 1
        )

    def _sources(self, number: int) -> dict[int, int]:
        """Return which slice is shown of each channel when the sliders stand at one.

        While they follow, a channel whose frame of this place has not come yet goes on with its newest.
        """
        channels = self._folding.dimensions[0]
        first = number - (number - 1) % channels
        shown = range(channels) if self._composite else (number - first,)
        sources = {channel: first + channel for channel in shown}
        for channel in sources if self.following else ():
            newest = self.stack.latest(channel)
            if newest is None or len(newest) != len(self._folding.axes) or self._slices.tag(first + channel):
                continue
            sources[channel] = self._folding.number(newest)
        return sources

    def _go(self, number: int) -> bool:
        """Put the sliders at a slice. Return whether they were elsewhere."""
        if number == self._selected or not self.following:
            return False
        with jpype.synchronized(self.imp):  # as setSlice does: a macro may be moving the sliders at this moment
            if self._selected != self._number:
                return False  # noticed at the next update
            if self.imp.isDisplayedHyperStack():
                self.imp.setPosition(*self._folding.position(self._folding.place(number)))
            else:
                self.imp.setSlice(number)
        self._number = number
        return True

    def _show(self, number: int, changed: bool) -> dict[int, Tag | None]:
        """Go to a slice, and give the window the pixels of all channels that are shown there; what it has, it keeps.

        Returns
        -------
        dict
            The tag of the frame that is shown of each channel.
        """
        channels = self._folding.dimensions[0]
        first = number - (number - 1) % channels
        before, self._pixels = self._pixels, {}
        arrays, own = (jpype.JArray(java("java.lang.Object"))(channels) for _ in range(2))
        for channel, source in self._sources(number).items():
            known, tag = before.get(first + channel), self._slices.tag(source)
            if known is None or known.tag is not tag or known.slice != source:
                known = _Given(tag, self._slices.pixels(source), source)
            self._pixels[first + channel] = known
            arrays[channel] = known.pixels
            if source == first + channel:
                own[channel] = known.pixels  # whoever asks for a slice where nothing has come gets nothing
        self._slices.live.show(first, own)
        changed |= self._go(number)
        self._canvas.show(self._slices.live, number, arrays, changed)
        return {number - first: known.tag for number, known in self._pixels.items()}

    # ---- what the user sees and does -----------------------------------------------------------------------------

    def follow(self, following: bool) -> None:
        """Let the sliders follow the newest frame, or stay."""
        self.following = following
        self._channel_chosen &= not following
        self.strip.set_following(following)
        self._version = -1  # what is shown of channels that have no frame here changes, too

    def _on_paint(self, seen: Any) -> None:
        """Count what the window has painted for the first time: `seen` says of which channels."""
        painted = {c: tag for c, tag in self._painting.items() if c < len(seen) and seen[c]}
        if self._waiting_for_paint:
            self._waiting_for_paint = False
            self.paints_ms = [*self.paints_ms[-255:], (time.monotonic() - self._updated_at) * 1e3]
        for channel, tag in painted.items():
            self.stream.log.paint([tag], first=channel not in self._painted)
            self._painted[channel] = tag.sequence
            self._painted_ns = max(self._painted_ns, tag.sent_ns)
            del self._painting[channel]

    def _look_at(self) -> list[object]:
        """Return colours and contrast, and whatever else of the image only a user changes."""
        luts, hash_of = self.imp.getLuts() if self.form.bits != 24 else (), java("java.util.Arrays").hashCode
        return [self.imp.getTitle(), *((lut.min, lut.max, hash_of(lut.getBytes())) for lut in luts)]

    def notice_touch(self) -> bool:
        """Have the stream held once the user has done something to its image: chosen a region, contrast, a name.

        Returns
        -------
        bool
            Whether they have chosen the contrast of a channel, which is that of all its images from now on.
        """
        if self.is_halfway:
            return False
        touched = not self.stream.held and self._appearance
        if touched and (self.imp.getRoi() is not None or self._look_at() != self._appearance):
            self.stream.holders.add("touched")
        if not isinstance(self._look, Look) or self.is_at_work or not self._is_live:
            return False
        return self._look.notice(self.imp)

    def frame_shown(self) -> MarkedFrame | None:
        """Return the frame under the sliders, of the selected channel; None where there is none."""
        number = min(self._selected, self._size)
        known = self._pixels.get(number)
        source = number if known is None else known.slice
        tag = self._slices.tag(source) if known is None else known.tag
        rows, columns = self.stack.plane_shape[:2]
        return None if tag is None else MarkedFrame(self.stream, self._slices.place(source), tag, (rows, columns))

    # ---- commands that change it ---------------------------------------------------------------------------------

    @property
    def _is_live(self) -> bool:
        """Whether it is as it was made: no command has given it another stack, or changed the slices of its own."""
        return bool(java("scopecast.Growth").isLive(self.imp, self._slices.live, *self._folding.dimensions))

    @property
    def _selected(self) -> int:
        """The slice at which the sliders stand, from 1."""
        return int(java("scopecast.Growth").slice(self.imp))

    @property
    def is_halfway(self) -> bool:
        """Whether a command is in the midst of deleting or adding slices: nothing of the image may be painted now."""
        return bool(java("scopecast.Growth").isHalfway(self.imp, self._slices.live))

    def is_changed(self) -> bool:
        """Whether a command has changed the image, so that it is not the stream's any more."""
        if self.imp.changes and self._is_live:  # set by whatever has written into its pixels
            self._look_for_changes()
        return not self._is_live

    def _look_for_changes(self) -> None:
        live, number = self._slices.live, self._selected
        known = self._pixels.get(number)
        if not live.lookForChanges() and known is not None and known.tag is self._slices.tag(known.slice):
            shown = self.imp.getProcessor().getPixels()
            if not java("java.util.Arrays").equals(shown, self._slices.pixels(known.slice)):
                live.change(number, shown)
        self.imp.changes = bool(live.isChanged())

    def leave(self) -> str:
        """Let go of the image, which stays as the command has made it. Return what is to be said of that."""
        self._painting, self._waiting_for_paint = {}, False
        self._slices.keep()
        command = str(self.closer or java("scopecast.Commands").last(self.imp)).strip(". ") or "A command"
        self.strip.end(f"not live: changed by {command}")
        if self.imp.getWindow() == self.window:  # the command may have opened another one, or closed it
            WindowPlace.pack(self.window)  # which was as wide as the figures needed
        return (
            f"{command} has changed {self.imp.getTitle()}, which is no longer live. "
            "The stream goes on in a new window with its next frame."
        )

    @property
    def closer(self) -> str:
        """The command that has closed the window; ``""`` if none has, or one that was asked to."""
        command = str(self._canvas.closer())
        return "" if command.startswith(("Close", "Quit")) else command

    def write_status(self, sources: Sequence[Source]) -> None:
        """Write the figures of the stream below its image."""
        number = min(self._selected, self._size)
        others = [known.slice for at, known in self._pixels.items() if known.slice != at]
        at_selected = self._pixels.get(number)
        shown = number if at_selected is None else at_selected.slice
        state, tag = self.stack.state(self._slices.place(shown)), self._slices.tag(shown)
        hints = [
            "frozen" if self.frozen else "",
            self.problem,
            hint_of(self.stream, state) or (preview_of(self.stream) if tag is not None and tag.preview else ""),
            self._saturation(number),
            f"waits for {self.waits_for}" if self.waits_for else "",
            self.overlay.problem,
            color_problem(self.stream.about),
        ]
        age = (clock_ns() - self._painted_ns) / 1e9 if self.following and self._painted_ns else None
        notes = [f"shows {self._slices.title(each)}" for each in others]
        self.strip.write(self.stream, sources, [hint for hint in hints if hint], notes, age, self._own)

    @property
    def _own(self) -> Stack | None:
        """The stack, if it is of what lies on other images, or was made of them."""
        others = any(not each.is_labels and not each.sent.name for each in self.stream.stacks)
        return self.stack if others and (self.is_labels or self.stack.sent.name) else None

    @property
    def preview_shown(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Where the frame is that is shown, if that is a preview, and which region of it is visible; None otherwise.

        The region is y, x, rows and columns in pixels; () for all of it.
        """
        number = min(self._selected, self._size)
        known = self._pixels.get(number)
        number = number if known is None else known.slice
        tag = self._slices.tag(number)
        if tag is None or not tag.preview:
            return None
        seen, (height, width) = self._canvas.getSrcRect(), self.stack.plane_shape[:2]
        top, left = max(0, int(seen.y)), max(0, int(seen.x))
        rows, columns = min(int(seen.height), height - top), min(int(seen.width), width - left)
        whole = (rows, columns) == (height, width) or min(rows, columns) < 1
        return self._slices.place(number), () if whole else (top, left, rows, columns)

    def _saturation(self, number: int) -> str:
        """Return how much of what is shown is saturated."""
        if not isinstance(self._look, Look) or number > self._size:
            return ""
        # They may be of the place that was shown before the user, or a macro, moved a slider.
        shown = {(at - 1) % self._folding.dimensions[0]: known for at, known in self._pixels.items()}
        return self._look.saturation(
            {channel: known.tag for channel, known in shown.items()},
            lambda channel: self.stack.plane(self._slices.place(shown[channel].slice)),
        )

    @property
    def selected_channel(self) -> Hashable | None:
        """Whose contrast the selected channel has; None for labels and colour images."""
        if not isinstance(self._look, Look) or self.form.bits == 24:
            return None
        return channel_of(self.stream, self.stack, (self._selected - 1) % self._folding.dimensions[0])

    def freeze(self, on: bool) -> None:
        """Stay as it is, also where ImageJ asks for the pixels anew; or go on with the newest frame."""
        self.frozen = on
        if self.stream.about.preview and on:
            self._slices.keep()  # the next frame takes the place of this one
        elif not on:
            self._slices.let_go()
            self.look_again()

    def look_again(self) -> None:
        """Bring colours and contrast up to date, whether or not a frame comes."""
        self._version = -1

    def give_up(self, problem: str) -> None:
        """Take note that it could not be brought up to date; that is tried again in a while."""
        self.problem, self._version, self._updated_at = problem, -1, time.monotonic()

    def close(self) -> None:
        """Close the window, without a question."""
        self.imp.changes = False
        self.imp.close()
