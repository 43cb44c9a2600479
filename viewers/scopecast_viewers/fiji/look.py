"""How an image looks: colours and contrast of its channels, until the user changes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jpype
import numpy as np

from scopecast_viewers.fiji.awt import java
from scopecast_viewers.look.colors import GRAY, channel_color
from scopecast_viewers.look.contrast import contrast_limits

if TYPE_CHECKING:
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["Look"]


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
        self._colors: dict[int, str] = {}

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
        index = self._stream.latest.get((id(self._stack), channel))
        plane = None if index is None else self._stack.plane(index)
        if plane is None:
            return False
        pixels = np.asarray(plane)
        limits = contrast_limits(pixels)
        before, now = self._auto.get(channel), _limits(imp, composite, channel)
        # A frame without contrast tells little: a later one is asked again, unless the user was quicker.
        flat = bool(pixels.flat[0] == pixels.max() == pixels.min())
        self._auto[channel] = limits if flat else None
        if before is not None and not np.allclose(before, now):
            self._auto[channel] = None
            return False
        if np.allclose(limits, now):
            return False
        _set_limits(imp, composite, channel, limits)
        return True

    def _color(self, imp: Any, composite: bool, channel: int) -> bool:
        about = self._stream.about
        announced = about.colors[channel] if channel < len(about.colors) else ""
        count = max(len({number for _, number in self._stream.parts}), len(about.labels.get("c", ())))
        color = channel_color(self._stream.label("c", channel), channel, count, announced)
        before = self._colors.get(channel)
        if color == before:
            return False
        self._colors[channel] = color
        wanted = _decode(color)
        if not composite:
            if color != GRAY:
                imp.getProcessor().setLut(java("ij.process.LUT").createLutFromColor(wanted))
            return color != GRAY
        lut = imp.getChannelLut(channel + 1)
        if before is not None and _brightest(lut) != int(_decode(before).getRGB()):
            return False  # the user has chosen another
        fresh = java("ij.process.LUT").createLutFromColor(wanted)
        fresh.min, fresh.max = lut.min, lut.max
        imp.setChannelLut(fresh, channel + 1)
        return True


def _decode(color: str) -> Any:
    white = java("java.awt.Color").white
    return (
        java("java.awt.Color").decode(color) if color.startswith("#") else java("ij.plugin.Colors").decode(color, white)
    )


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
    imp.setChannelLut(lut, channel + 1)


def _brightest(lut: Any) -> int:
    """Return the colour of the highest value, 0xAARRGGBB as a signed number."""
    return int(lut.getRGB(jpype.JInt(255)))
