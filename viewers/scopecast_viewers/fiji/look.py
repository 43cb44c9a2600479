"""How an image looks: colours and contrast of its channels, until the user changes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jpype
import numpy as np

from scopecast_viewers.fiji.awt import java
from scopecast_viewers.look.colors import channel_colormap, table_of
from scopecast_viewers.look.contrast import contrast_limits, is_flat

if TYPE_CHECKING:
    import numpy.typing as npt
    from cmap import Colormap

    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["Look", "to_lut"]


class Look:
    """Chooses colour and contrast of each channel once, from its first frame that has any contrast.

    Used on the window thread only.

    Parameters
    ----------
    stream, stack
        What the image shows.
    """

    def __init__(self, stream: LiveStream, stack: Stack) -> None:
        self._stream, self._stack = stream, stack
        self._auto: dict[int, tuple[float, float] | None] = {}  # what we set, from a flat frame or none; None: settled
        self._colors: dict[int, Colormap] = {}

    def settle(self, imp: Any, channels: int) -> bool:
        """Choose what is still to be chosen for the channels of an image. Return whether something has changed.

        Parameters
        ----------
        imp
            The ImagePlus; a CompositeImage if it has channels.
        channels
            How many it has.
        """
        if len(self._stack.plane_shape) == 3:
            return False
        changed = False
        composite = bool(imp.isComposite())
        for channel in range(channels):
            changed |= self._color(imp, composite, channel)
            if self._auto.get(channel, (0.0, 0.0)) is not None:
                changed |= self._contrast(imp, composite, channel)
        return changed

    def _contrast(self, imp: Any, composite: bool, channel: int) -> bool:
        index = self._stack.latest(channel)
        plane = None if index is None else self._stack.plane(index)
        if plane is None:
            return False
        pixels = np.asarray(plane)
        limits = contrast_limits(pixels)
        before, now = self._auto.get(channel), _limits(imp, composite, channel)
        # A frame without contrast tells little: a later one is asked again, unless the user was quicker.
        flat = is_flat(pixels)
        self._auto[channel] = limits if flat else None
        if before is not None and not np.allclose(before, now):
            self._auto[channel] = None
            return False
        if np.allclose(limits, now):
            return False
        _set_limits(imp, composite, channel, limits)
        return True

    def _color(self, imp: Any, composite: bool, channel: int) -> bool:
        color = channel_colormap(self._stream.about, channel, len({number for _, number in self._stream.parts}))
        before = self._colors.get(channel)
        if before is not None and color.name == before.name:
            return False
        self._colors[channel] = color
        if not composite:
            imp.getProcessor().setLut(to_lut(table_of(color)))
            return True
        lut = imp.getChannelLut(channel + 1)
        if before is not None and bytes(lut.getBytes()) != bytes(to_lut(table_of(before)).getBytes()):
            return False  # the user has chosen another
        fresh = to_lut(table_of(color))
        fresh.min, fresh.max = lut.min, lut.max
        _set_lut(imp, channel, fresh)
        return True


def to_lut(table: npt.NDArray[np.uint8]) -> Any:
    """Return a new ``ij.process.LUT`` of 256 colours, (256, 3)."""
    return java("ij.process.LUT")(*(jpype.JArray(jpype.JByte)(each.view(np.int8).tolist()) for each in table.T.copy()))


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
