"""Gives a layer of napari other axes, and keeps of those that stay what the user has set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from napari.layers import Image

__all__ = ["take_in_axes"]


def take_in_axes(
    layer: Image,
    data: Any,
    before: tuple[str, ...],
    after: tuple[str, ...],
    scale: Sequence[float],
    translate: Sequence[float],
    units: Sequence[Any],
) -> None:
    """Give an image, or labels, data of other axes; how it is turned, and what the user calls its axes, stays.

    Parameters
    ----------
    layer
        The layer.
    data
        Its pixels from now on.
    before, after
        Its axes, y and x too, until now and from now on.
    scale, translate, units
        Of all axes, from now on.
    """
    labels, editable = dict(zip(before, layer.axis_labels, strict=True)), layer.editable
    shear, rotate, affine = np.asarray(layer.shear), np.asarray(layer.rotate), layer.affine.affine_matrix
    # Of a hidden layer napari keeps the extent that it had, with too few axes, until its scale is set; whoever is
    # told of the data before that fails, and so does every repaint from then on.
    with layer.events.data.blocker():
        layer.data = data
    layer.scale = scale
    layer.events.data(value=layer.data)
    layer.translate = translate
    layer.axis_labels = [labels.get(name, name) for name in after]
    layer.units = units
    if len(after) > len(before):
        # napari has put the new axes before the old ones, wherever they belong.
        at = [after.index(name) for name in before]
        layer.rotate = _among(rotate, at, len(after))
        if np.any(shear):
            layer.shear = _among_sheared(shear, at, len(after))
        layer.affine = _among(affine, [*at, len(after)], len(after) + 1)
    layer.editable = editable  # napari has decided anew, for the new data


def _among(matrix: npt.NDArray[Any], at: list[int], ndim: int) -> npt.NDArray[Any]:
    """Return a transform of `ndim` axes that does to those `at` what `matrix` does, and nothing to the others."""
    wider = np.eye(ndim)
    wider[np.ix_(at, at)] = matrix
    return wider


def _among_sheared(shear: npt.NDArray[Any], at: list[int], ndim: int) -> npt.NDArray[Any]:
    """Do the same for napari's shear: a matrix, or the part of it above the diagonal as a vector."""
    if shear.ndim == 2:
        return _among(shear, at, ndim)
    matrix = np.eye(len(at))
    matrix[np.triu_indices(len(at), 1)] = shear
    return _among(matrix, at, ndim)[np.triu_indices(ndim, 1)]
