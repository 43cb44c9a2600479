"""What becomes of napari when one of its parts raises in the middle of a change.

napari tells its parts of a change one after the other (sliders, canvas, list of layers, controls). The first that
raises keeps the change from all that follow: a layer then is in the list, but not on the canvas, can't be removed for
that reason, and keeps the window from being closed.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari.layers import Layer
    from napari.viewer import Viewer

__all__ = ["all_or_nothing", "steady", "take_out"]

logger = logging.getLogger(__name__)


class _Noting:
    """Notes the exception that is being handled whenever it is asked whether to go on; the answer is yes.

    napari asks ``if not emitter.ignore_callback_errors: raise`` where it has caught one.
    """

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def __bool__(self) -> bool:
        if (error := sys.exc_info()[1]) is not None:
            self.errors.append(error)
        return True


@contextmanager
def steady(viewer: Viewer) -> Iterator[list[BaseException]]:
    """Have napari tell all of its parts of the changes in this block, whichever of them raise.

    Parameters
    ----------
    viewer
        The napari viewer.

    Yields
    ------
    list of BaseException
        What they have raised so far.
    """
    noting = _Noting()
    groups = (viewer.layers.events, viewer.layers.selection.events, viewer.dims.events)
    emitters = [emitter for group in groups for emitter in group.emitters.values()]
    before = [(each, each.ignore_callback_errors, each.print_callback_errors) for each in emitters]
    for emitter in emitters:
        emitter.ignore_callback_errors, emitter.print_callback_errors = noting, "never"
    try:
        yield noting.errors
    finally:
        for emitter, ignore, printing in before:
            emitter.ignore_callback_errors, emitter.print_callback_errors = ignore, printing


@contextmanager
def all_or_nothing(viewer: Viewer) -> Iterator[None]:
    """Add layers in this block; if anything raises, none of them stays.

    Parameters
    ----------
    viewer
        The napari viewer.

    Raises
    ------
    Exception
        The first that any part of napari has raised.
    """
    before = list(viewer.layers)
    try:
        with steady(viewer) as errors:
            yield
        if errors:
            raise errors[0]
    except Exception:
        for layer in [layer for layer in viewer.layers if layer not in before]:
            take_out(viewer, layer)
        raise


def take_out(viewer: Viewer, layer: Layer | Any) -> None:
    """Remove a layer that napari may have failed to add or to change, and have its parts be as if it had not been.

    Parameters
    ----------
    viewer
        The napari viewer.
    layer
        The layer; nothing is done if it is not there.
    """
    if layer is None or layer not in viewer.layers:
        return
    with steady(viewer) as errors:
        viewer.layers.remove(layer)
        if errors:
            logger.info("%s was removed; some parts of napari raised errors: %r", layer, errors)
            viewer.layers.events.reordered(value=viewer.layers)  # the sliders' ranges and the canvas
            viewer.dims.events.ndim(value=viewer.dims.ndim)  # the sliders are made anew, should some be missing
