"""How an image looks: the colours and the contrast of its channels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jpype
import numpy as np

from scopecast_viewers.fiji.awt import java
from scopecast_viewers.look.colors import MARKED, channel_colormap, table_of
from scopecast_viewers.look.contrast import saturation_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt
    from cmap import Colormap

    from scopecast_viewers.look.contrast import Contrast, Contrasts, Limits
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.plane import Plane, Tag
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["Look", "channel_of", "to_lut"]


class Look:
    """Keeps an image in the colours and the contrast of its channels, and notices where the user sets others.

    Used on the window thread only.

    Parameters
    ----------
    stream, stack
        What the image shows.
    contrasts
        Of all channels.
    """

    def __init__(self, stream: LiveStream, stack: Stack, contrasts: Contrasts) -> None:
        self._stream, self._stack, self._contrasts = stream, stack, contrasts
        self._given: dict[int, tuple[Limits, Limits]] = {}  # what was set last, and what ImageJ has made of it
        self._former: dict[int, Contrast] = {}
        self._looked: dict[int, object] = {}  # the tag of the frame that was looked at last
        self._colors: dict[int, Colormap] = {}
        self._unmarked: dict[int, Any] = {}  # the LUT without the mark of saturated pixels, while there is one
        self._saturated: dict[int, tuple[Tag, int]] = {}

    @property
    def _has_contrast(self) -> bool:
        return len(self._stack.plane_shape) == 2

    def contrast(self, channel: int) -> Contrast:
        """Return the contrast of a channel."""
        found = self._contrasts.of(self._stream.key, channel_of(self._stream, self._stack, channel), self._stack.dtype)
        before = self._former.get(channel, found)
        if before is not found and before.by_hand and not found.by_hand:
            self._contrasts.choose(found, before.limits)  # the channel has got a name
        self._former[channel] = found
        return found

    def settle(self, imp: Any, channels: int, *, at_work: bool = False) -> bool:
        """Bring the channels of an image up to date. Return whether something has changed.

        Parameters
        ----------
        imp
            The ImagePlus; a CompositeImage if it has channels.
        channels
            How many it has.
        at_work
            Whether a command is at work on the image: the ranges that its channels have stay.
        """
        if not self._has_contrast:
            return False
        changed = False
        composite = bool(imp.isComposite())
        for channel in range(channels):
            changed |= self._color(imp, composite, channel)
            if not at_work or channel not in self._given:
                changed |= self._contrast(imp, composite, channel)
        return changed

    def _contrast(self, imp: Any, composite: bool, channel: int) -> bool:
        contrast = self.contrast(channel)
        changed = self._notice(imp, composite, channel, contrast)
        given = self._given.get(channel)
        index = self._stack.latest(channel)
        tag = None if index is None else self._stack.tag(index)
        if not contrast.by_hand and tag is not None and (tag is not self._looked.get(channel) or not contrast.known):
            plane = None if index is None else self._stack.plane(index)
            if plane is not None:
                self._looked[channel] = tag
                contrast.look(np.asarray(plane))
        changed |= self._mark(imp, composite, channel, contrast)
        if contrast.known and (given is None or contrast.limits != given[0]):
            _set_limits(imp, composite, channel, contrast.limits)
            changed = True
        if contrast.known:  # until then the range is what ImageJ makes of an empty slice
            self._given[channel] = (contrast.limits, _limits(imp, composite, channel))
        return changed

    def notice(self, imp: Any) -> bool:
        """Take over what the user has set since `settle`. Return whether that is anything."""
        composite = bool(imp.isComposite())
        noticed = [self._notice(imp, composite, channel, self.contrast(channel)) for channel in self._given]
        return any(noticed)

    def _notice(self, imp: Any, composite: bool, channel: int, contrast: Contrast) -> bool:
        now, given = _limits(imp, composite, channel), self._given.get(channel)
        if given is None or now == given[1]:
            return False
        self._contrasts.choose(contrast, now)
        self._given[channel] = (contrast.limits, now)
        return True

    def _mark(self, imp: Any, composite: bool, channel: int, contrast: Contrast) -> bool:
        """Show saturated pixels in red, all others gray; or let that be."""
        wanted = contrast.marking and contrast.full > 0
        if wanted == (channel in self._unmarked):
            return False
        if wanted:
            lut = imp.getChannelLut(channel + 1) if composite else imp.getProcessor().getLut()
            self._unmarked[channel] = lut
            _set_colors(imp, composite, channel, to_lut(MARKED))
        else:
            _set_colors(imp, composite, channel, self._unmarked.pop(channel))
        return True

    def saturation(self, shown: Mapping[int, Tag | None], plane: Callable[[int], Plane | None]) -> str:
        """Return how much of what is shown is saturated, or ``""``.

        Parameters
        ----------
        shown
            The tags of the frames that are shown, by channel.
        plane
            Gives the plane that is shown of a channel.
        """
        found: dict[str, tuple[int, int]] = {}
        if not self._has_contrast or self._stack.sent.dtype == "bool":
            return ""
        for channel, tag in shown.items():
            before, count = self._saturated.get(channel, (None, 0))
            if tag is not before and tag is not None and (pixels := plane(channel)) is not None:
                count = self.contrast(channel).measure(np.asarray(pixels))
                self._saturated[channel] = (tag, count)
            name = self._stream.label("c", channel) if "c" in self._stack.axes else ""
            found[name] = (count if tag is not None else 0, math.prod(self._stack.plane_shape))
        return saturation_text(found)

    def _color(self, imp: Any, composite: bool, channel: int) -> bool:
        color = channel_colormap(self._stream.about, channel, len({number for _, number in self._stream.parts}))
        before = self._colors.get(channel)
        if channel in self._unmarked or (before is not None and color.name == before.name):
            return False
        self._colors[channel] = color
        if composite and before is not None:
            lut = imp.getChannelLut(channel + 1)
            if bytes(lut.getBytes()) != bytes(to_lut(table_of(before)).getBytes()):
                return False  # the user has chosen another
        _set_colors(imp, composite, channel, to_lut(table_of(color)))
        return True


def channel_of(stream: LiveStream, stack: Stack, channel: int) -> tuple[str, str, str, str]:
    """Return whose contrast a channel has: by its name, else that of its source; a reply has its own.

    The dtype is that of the frames: ImageJ has signed integers as unsigned ones with an offset.
    """
    name, source = (stream.label("c", channel), "") if "c" in stack.axes else ("", stream.title)
    return name, source, stack.sent.dtype, stack.sent.name


def to_lut(table: npt.NDArray[np.uint8]) -> Any:
    """Return a new ``ij.process.LUT`` of 256 colours, (256, 3)."""
    return java("ij.process.LUT")(*(jpype.JArray(jpype.JByte)(each.view(np.int8).tolist()) for each in table.T.copy()))


def _set_colors(imp: Any, composite: bool, channel: int, colors: Any) -> None:
    """Give a channel other colours, in the range in which it is shown."""
    if not composite:
        ip = imp.getProcessor()
        low, high = ip.getMin(), ip.getMax()
        ip.setLut(colors)
        ip.setMinAndMax(low, high)
        return
    lut = imp.getChannelLut(channel + 1)
    colors = colors.clone()
    colors.min, colors.max = lut.min, lut.max
    _set_lut(imp, channel, colors)


def _limits(imp: Any, composite: bool, channel: int) -> tuple[float, float]:
    if not composite:
        ip = imp.getProcessor()
        return float(ip.getMin()), float(ip.getMax())
    lut = imp.getChannelLut(channel + 1)
    return float(lut.min), float(lut.max)


def _set_limits(imp: Any, composite: bool, channel: int, limits: tuple[float, float]) -> None:
    if not composite:
        imp.getProcessor().setMinAndMax(*limits)
        return
    lut = imp.getChannelLut(channel + 1)
    lut.min, lut.max = limits
    _set_lut(imp, channel, lut)


def _set_lut(imp: Any, channel: int, lut: Any) -> None:
    imp.setChannelLut(lut, channel + 1)
    if imp.getWindow() is None and channel + 1 == int(imp.getChannel()):
        imp.getProcessor().setLut(lut)  # as ImageJ does where there is a window; a single channel is painted by this
