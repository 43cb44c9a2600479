"""What an image of a live stream says of itself: its title, its calibration, and its Info."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopecast.images.ome import micrometers
from scopecast_viewers.fiji.awt import java

if TYPE_CHECKING:
    from scopecast_viewers.fiji.pixels import PixelForm
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["calibration_of", "info_of", "title_of"]


def title_of(stream: LiveStream, stack: Stack, number: int = 1) -> str:
    """Return what an image is called: the run, which one of its name, and what sets this stack apart."""
    title = stream.about.title or stream.title
    if number > 1:
        title += f" ({number})"
    if stack.is_labels or stack.sent.name:
        title += f" {stack.sent.name or 'labels'}"
    alike = [each for each in stream.stacks if (each.sent.kind, each.sent.name) == (stack.sent.kind, stack.sent.name)]
    if len(alike) > 1 and alike[0] is not stack:
        height, width = stack.plane_shape[:2]
        title += f" ({width}x{height} {stack.sent.dtype})"
    return f"|{title}|" if stack.sent.magnitude else title


def calibration_of(stream: LiveStream, form: PixelForm) -> Any:
    """Return the ``ij.measure.Calibration`` of the images of a stream: pixel size, distance of planes, interval."""
    about = stream.about
    calibration = java("ij.measure.Calibration")()
    steps = dict(zip(about.axes, about.steps, strict=False))
    if about.units and about.units != "pixel":
        calibration.setUnit("µm" if micrometers(about.units) == 1 else about.units)
        calibration.pixelHeight, calibration.pixelWidth = stream.pixel
        calibration.pixelDepth = float(steps.get("z") or 1.0)
    if interval := steps.get("t"):
        calibration.frameInterval = float(interval)
        calibration.setTimeUnit("sec")
    if form.signed:
        calibration.setSigned16BitCalibration()
    return calibration


def info_of(stream: LiveStream, stack: Stack, form: PixelForm) -> str:
    """Return the text that ``Image > Show Info…`` begins with."""
    return (
        f"Live stream: {stream.about.title}\n"
        f"Source: {stream.title}\n"
        f"Pixels: {form.note or f'{stack.sent.dtype}, as they were sent'}\n"
        f"Axes: {', '.join((*stack.axes, 'y', 'x'))}\n"
    )
