"""A live view in an ImageJ of the test's own process, with a JVM that all tests of the session share."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from scopecast import Publisher
from scopecast.demo.virtual_screen import VirtualScreen
from scopecast_viewers.fiji.awt import invoke_later, java, listener
from scopecast_viewers.fiji.display import FijiDisplay
from scopecast_viewers.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopecast_viewers.fiji.hyperstack import Hyperstack
    from scopecast_viewers.stacks.history import History

__all__ = ["LiveFiji", "on_screen", "painted_picture", "pixels_of", "seen", "start_imagej"]


class LiveFiji:
    """A live view in the ImageJ of this process, and publishers for it.

    Attributes
    ----------
    told : list of str
        What was in ImageJ's status bar, one after the other: other things are written there at any moment.
    """

    def __init__(self, window: Any, history: History | None = None) -> None:
        self.told: list[str] = []
        self._bar = java("ij.IJ").getInstance().getStatusBar().getComponent(0)
        self._listener = listener(
            "java.beans.PropertyChangeListener", propertyChange=lambda event: self.told.append(str(event.getNewValue()))
        )
        self._bar.addPropertyChangeListener("text", self._listener)
        self.display = FijiDisplay()
        self.receiver = Receiver(self.display, history=history)
        self.display.show_in(window, self.receiver)
        self.receiver.start()

    # ---- waiting -------------------------------------------------------------------------------------------------

    def until(
        self, condition: Callable[[], Any], timeout: float = 30.0, what: str = "", instead: Callable[[], Any] = str
    ) -> Any:
        """Return what `condition`, asked on the window thread, returns as soon as that is true.

        If it is not in time, `instead`, asked there too, tells how it is.
        """
        deadline = time.monotonic() + timeout
        while not (found := self.on_awt(condition)):
            if time.monotonic() > deadline:
                pytest.fail(f"not so after {timeout:g} s: {what or condition} {self.on_awt(instead)}")
            time.sleep(0.01)
        return found

    def on_awt(self, work: Callable[[], Any], timeout: float = 60.0) -> Any:
        """Return what `work` returns when it is called on the window thread, between two ticks."""
        done = threading.Event()
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append((work(), None))
            except BaseException as error:  # noqa: BLE001 - raised below, on the thread that asked
                outcome.append((None, error))
            done.set()

        invoke_later(run)
        assert done.wait(timeout), f"the window thread has not answered within {timeout:g} s"
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    def paint(self) -> None:
        """Let the window thread paint what it is to paint: that and commands of ImageJ's disturb each other."""
        for _ in range(2):
            self.on_awt(lambda: None)

    # ---- publishing ----------------------------------------------------------------------------------------------

    def publisher(self, shape: tuple[int, ...] = (64, 48), dtype: str = "uint16", **arguments: Any) -> Publisher:
        """Return a publisher that this view is attached to."""
        publisher = Publisher("fiji", **{"policy": "every", "budget": 8 * 2**20, **arguments})
        publisher.open(shape, dtype)
        token = self.receiver.member.token
        self.until(lambda: any(row.attached and row.token == token for row in publisher.stats()))
        return publisher

    def settled(self, publisher: Publisher) -> None:
        """Wait until all that was published is in the stacks, and every image has taken it over."""
        self.until(lambda: publisher.flush(0))
        self.until(self._up_to_date, what="images that show what has come")

    def _up_to_date(self) -> bool:
        gallery = self.display.gallery
        for stream in self.receiver.streams:
            for stack in stream.stacks if stream.key not in gallery.closed else ():
                image = next((image for image in gallery if image.stack is stack), None)
                if stack not in gallery.problems and (image is None or image._version != stack.version):
                    return False
        return not gallery.incomplete

    # ---- looking -------------------------------------------------------------------------------------------------

    @property
    def images(self) -> list[Hyperstack]:
        return list(self.display.gallery)

    def image(self, number: int = 0) -> Hyperstack:
        return self.images[number]

    def pixels(self, imp: Any, channel: int = 1, slice_: int = 1, frame: int = 1) -> np.ndarray:
        """Return the pixels that ImageJ's own getProcessor gives at a position, calibrated."""
        ip = imp.getStack().getProcessor(imp.getStackIndex(channel, slice_, frame))
        return pixels_of(ip, signed=bool(imp.getCalibration().isSigned16Bit()))

    def position(self, imp: Any) -> tuple[int, int, int]:
        """Return channel, slice and frame at which the sliders stand."""
        return tuple(int(at) for at in imp.convertIndexToPosition(imp.getCurrentSlice()))

    def move(self, imp: Any, channel: int, slice_: int, frame: int) -> None:
        """Move the sliders as the user does."""
        self.on_awt(
            lambda: (
                imp.setPosition(channel, slice_, frame)
                if imp.isDisplayedHyperStack()
                else imp.setSlice(imp.getStackIndex(channel, slice_, frame))
            )
        )

    def close(self) -> None:
        def close_all() -> None:
            window_manager = java("ij.WindowManager")
            for number in window_manager.getIDList() or ():
                imp = window_manager.getImage(number)
                imp.changes = False
                imp.close()

        self.display.close()
        self.receiver.close()
        self.on_awt(close_all)
        self._bar.removePropertyChangeListener("text", self._listener)


def pixels_of(ip: Any, *, signed: bool = False) -> np.ndarray:
    """Return the pixels of an ImageProcessor as numpy: unsigned, signed by ImageJ's calibration, float, or RGB."""
    shape = (int(ip.getHeight()), int(ip.getWidth()))
    raw = np.array(memoryview(ip.getPixels()))
    if raw.dtype == np.int32:
        return raw.view(np.uint8).reshape(*shape, 4)[..., 2::-1]
    if raw.dtype.kind == "i":
        raw = raw.view(raw.dtype.str.replace("i", "u"))
    plane = raw.reshape(shape)
    return (plane.astype(np.int32) - 32768).astype(np.int16) if signed else plane


def seen(image: Hyperstack) -> np.ndarray:
    """Return what the screen shows of an image whose window it brings to the front: (y, x, 3), a pixel for each."""
    window, canvas = image.imp.getWindow(), image.imp.getCanvas()
    window.toFront()
    java("java.awt.Toolkit").getDefaultToolkit().sync()
    zoom = int(canvas.getMagnification())
    assert zoom == float(canvas.getMagnification()) >= 1
    return on_screen(canvas)[zoom // 2 :: zoom, zoom // 2 :: zoom]


def on_screen(component: Any) -> np.ndarray:
    """Return what the screen shows of a component, (y, x, 3)."""
    corner, size = component.getLocationOnScreen(), component.getSize()
    area = java("java.awt.Rectangle")(corner.x, corner.y, size.width, size.height)
    picture = java("java.awt.Robot")().createScreenCapture(area)
    width, height = int(size.width), int(size.height)
    pixels = np.array(picture.getRGB(0, 0, width, height, None, 0, width), np.int64).reshape(height, width)
    return np.stack([pixels >> 16 & 255, pixels >> 8 & 255, pixels & 255], -1)


def painted_picture(image: Hyperstack) -> np.ndarray:
    """Return ImagePlus.getImage(), (y, x, 3)."""
    picture = java("ij.process.ColorProcessor")(image.imp.getImage())
    return pixels_of(picture).astype(int)


def start_imagej(home: str) -> Any:
    """Start the JVM of this process and ImageJ in it; `home` takes ImageJ's preferences."""
    from scopecast_viewers.fiji.jvm import Choice, start

    with pytest.MonkeyPatch.context() as patch:
        for name in ("DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY"):
            patch.setenv(name, os.environ.get(name, ""))
        _screen_for_good()
        patch.setenv("JAVA_HOME", "")
        patch.setenv("SCOPECAST_JAVA_OPTIONS", f"{os.environ['SCOPECAST_JAVA_OPTIONS']} -Duser.home={home}")
        window = start(Choice("plain"), 64 << 20)
        java("java.awt.Toolkit").getDefaultToolkit()
        return window


_kept: list[Any] = []


def _screen_for_good() -> None:
    """Start a virtual screen that lives as long as this process: Java ends the process when its screen goes.

    The suite's own screen goes before pytest has written its summary. This one ends when its last client has gone.
    """
    if sys.platform.startswith("linux") and shutil.which("Xvfb"):
        _kept.append(VirtualScreen())
