"""ImageJ2 beside ImageJ, in a whole Fiji: what it has made of the images, and which commands it runs."""

from __future__ import annotations

import logging
from typing import Any

from scopecast_viewers.fiji.awt import java

__all__ = ["ImageJ2", "watch_commands"]

logger = logging.getLogger(__name__)


def watch_commands(made: Any) -> None:
    """Let the commands that ImageJ2 runs by itself, as those of its search bar, hold a live image like others.

    Parameters
    ----------
    made : net.imagej.ImageJ
        The gateway.
    """
    import jpype

    try:
        java("scopecast.Modules").watch(made.context())
    except (TypeError, AttributeError, jpype.JException) as error:  # of a SciJava that has other classes
        logger.warning("commands of ImageJ2's search bar are not noticed by a live image: %s", error)


class ImageJ2:
    """The ImageJ2 around the ImageJ that runs, if there is one. Used on the window thread."""

    def __init__(self) -> None:
        try:
            self._legacy = java("net.imagej.legacy.LegacyService").getInstance()
        except TypeError:  # JPype's for a class that is not there
            self._legacy = None

    def forget(self, imp: Any) -> None:
        """Have it convert an image anew when that is asked for next: its extents, or its frames, are others now.

        It keeps the first ``Dataset`` of an image for as long as there is that image. Whoever has got that may go on
        with it.
        """
        images = None if self._legacy is None else self._legacy.getImageMap()  # which is gone where Fiji is being quit
        if images is not None and images.getImagePlusInstances().contains(imp):
            display = images.lookupDisplay(imp)
            images.unregisterLegacyImage(imp, False)  # first: to close a display closes its image, too
            display.close()
