"""Marks: what a user points at in a frame, for the acquisition, in pixels and on the stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from scopecast.frames.axes import AxisValue

__all__ = ["Mark", "Marks", "on_stage"]


class Mark(NamedTuple):
    """One item that a user points at.

    Attributes
    ----------
    kind : str
        ``"point"``, ``"line"``, ``"rectangle"``, ``"ellipse"``, ``"path"`` or ``"polygon"``.
    vertices : numpy.ndarray
        (N, 2) y, x in pixels of the frame; the middle of its first pixel is (0, 0). A rectangle and an ellipse have the
        four corners of their box.
    stage : numpy.ndarray or None
        (N, 2) x, y of the stage in µm; None where it is not known how large a pixel is, or where the frame was taken.
    name : str
        What the user calls it; ``""`` if it has no name.
    """

    kind: str
    vertices: npt.NDArray[np.float64]
    stage: npt.NDArray[np.float64] | None = None
    name: str = ""


class Marks(Sequence[Mark]):
    """What a user has sent from a viewer: the items that they point at in one frame.

    Iterate over it for each `Mark`. Nothing moves by itself: it is up to the program to do something with it.

    Attributes
    ----------
    axes : mapping of str to int or str
        Where the frame belongs, as in `Publisher.publish`: ``{"t": 3, "c": "DAPI"}``.
    shape : tuple of int
        (rows, columns) of the frame.
    stream : str
        The title of the run.
    position : tuple of float
        The stage's x, y and z in µm where the frame was taken, without z where that is not known; () if neither is.
    layer : str
        What the user calls them all: the name of the layer, for example.
    viewer : str
        The viewer that they come from.
    age_s : float
        Seconds from when the frame was published until the marks came.
    """

    def __init__(
        self,
        items: Sequence[Mark],
        *,
        axes: Mapping[str, AxisValue],
        shape: tuple[int, int],
        stream: str = "",
        position: tuple[float, ...] = (),
        layer: str = "",
        viewer: str = "",
        age_s: float = 0.0,
        refuse: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._items = tuple(items)
        self.axes, self.shape, self.stream, self.position = dict(axes), shape, stream, position
        self.layer, self.viewer, self.age_s = layer, viewer, age_s
        self._refuse = refuse

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, at: int) -> Mark: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Mark]: ...
    def __getitem__(self, at: int | slice) -> Mark | Sequence[Mark]:
        return self._items[at]

    def __repr__(self) -> str:
        """Say how many there are, and of which frame."""
        return f"<Marks: {len(self)} in {self.stream!r} at {self.axes}, from {self.viewer}>"

    def refuse(self, reason: str) -> None:
        """Tell the user that nothing will be done with them.

        Parameters
        ----------
        reason
            Why, as a line for the user.
        """
        self._refuse(reason)

    # ---- for acquisitions ----------------------------------------------------------------------------------------

    def positions(self) -> list[Any]:
        """Return the middle of each item as a position of the stage.

        Returns
        -------
        list of useq.AbsolutePosition
            For ``useq.MDASequence(stage_positions=…)``; with the z of the frame where that is known.

        Raises
        ------
        ValueError
            If it is not known where on the stage the items are.
        """
        import useq

        z, made = self._z, []
        for mark, stage in self._on_stage():
            x, y = (stage.min(axis=0) + stage.max(axis=0)) / 2
            made.append(useq.AbsolutePosition(x=float(x), y=float(y), z=z, name=mark.name or None))
        return made

    def grid(self, overlap: float | tuple[float, float] = 0.0, *, fov: tuple[float, float] | None = None) -> list[Any]:
        """Return a grid for each item, whose fields cover the box around it; a point is one field.

        Parameters
        ----------
        overlap
            Of the fields, in percent of their size; one number, or two (x, y).
        fov
            Size of a field (width, height) in µm; by default that of the camera with the objective that is in use when
            the sequence begins, which pymmcore-plus fills in.

        Returns
        -------
        list of useq.AbsolutePosition
            For ``useq.MDASequence(stage_positions=…)``, each with its grid.

        Raises
        ------
        ValueError
            If it is not known where on the stage the items are.
        """
        import useq

        sides: Any = (overlap, overlap) if isinstance(overlap, int | float) else tuple(overlap)
        size = {} if fov is None else {"fov_width": fov[0], "fov_height": fov[1]}
        made = self.positions()  # all that there is of a point
        for at, (mark, stage) in enumerate(self._on_stage()):
            (left, bottom), (right, top) = stage.min(axis=0).tolist(), stage.max(axis=0).tolist()
            if left == right and bottom == top:
                continue
            plan = useq.GridFromEdges(top=top, left=left, bottom=bottom, right=right, overlap=sides, **size)
            fields = useq.MDASequence(grid_plan=plan)
            made[at] = useq.AbsolutePosition(z=self._z, name=mark.name or None, sequence=fields)
        return made

    def rois(self) -> list[tuple[int, int, int, int]]:
        """Return the box around each item as a region of the camera, within the frame.

        Returns
        -------
        list of tuple of int
            x, y, width and height in pixels of the frame, for ``core.setROI``. If the frame itself is of a
            region of the sensor, they are relative to that region.

        Raises
        ------
        ValueError
            If an item has no area within the frame.
        """
        made = []
        for mark in self:
            # A pixel reaches from half a pixel before its middle to half a pixel behind it.
            low = np.clip(np.floor(mark.vertices.min(axis=0) + 0.5), 0, self.shape).astype(int)
            high = np.clip(np.ceil(mark.vertices.max(axis=0) + 0.5), 0, self.shape).astype(int)
            (y, x), (height, width) = low.tolist(), (high - low).tolist()
            if height < 1 or width < 1:
                msg = f"this {mark.kind} is not a region of the camera: draw a rectangle within the frame"
                raise ValueError(msg)
            made.append((x, y, width, height))
        return made

    def events(self, sequence: Any = None, *, first: int = 0) -> Iterator[Any]:
        """Yield the events of a sequence at each of `positions`, as one run that may go on.

        Parameters
        ----------
        sequence : useq.MDASequence, optional
            What to acquire at each position; by default one frame.
        first
            The number of the first position.

        Yields
        ------
        useq.MDAEvent
            For ``core.run_mda``.
        """
        import useq

        plan = (sequence or useq.MDASequence()).replace(stage_positions=self.positions())
        for event in plan:
            index = {**event.index, "p": event.index.get("p", 0) + first}
            # Without its sequence, which ends with these positions, while the run may go on.
            yield event.model_copy(update={"index": useq.MDAEvent(index=index).index, "sequence": None})

    @property
    def _z(self) -> float | None:
        return self.position[2] if len(self.position) > 2 else None

    def _on_stage(self) -> Iterator[tuple[Mark, npt.NDArray[np.float64]]]:
        for mark in self:
            if mark.stage is None:
                msg = (
                    "it is not known where on the stage the marks are: the frame needs its stage position "
                    "(metadata x_um and y_um) and its stream a scale in µm"
                )
                raise ValueError(msg)
            yield mark, mark.stage


def on_stage(
    vertices: npt.NDArray[np.float64],
    shape: Sequence[int],
    position: Sequence[float],
    pixel_um: Sequence[float],
    affine: Sequence[float] | None = None,
) -> npt.NDArray[np.float64] | None:
    """Return where on the stage pixels of a frame are.

    Parameters
    ----------
    vertices
        (N, 2) y, x in pixels, from the middle of the first.
    shape
        (rows, columns) of the frame.
    position
        The stage's x and y in µm when the frame was taken: where its middle is.
    pixel_um
        Size (y, x) of a pixel in µm; 0 where it is not known.
    affine
        (a, b, tx, d, e, ty) from pixels (x, y) to µm of the stage, as ``CMMCore.getPixelSizeAffine`` gives it; without
        one, columns are the stage's x, and its y points up.

    Returns
    -------
    numpy.ndarray or None
        (N, 2) x, y in µm; None where it is not known.

    Examples
    --------
    >>> on_stage(np.array([[0.0, 0.0]]), (5, 5), (100, 50), (0.5, 0.5)).tolist()
    [[99.0, 51.0]]
    >>> on_stage(np.array([[2.0, 4.0]]), (5, 5), (100, 50), (0.5, 0.5), (0, -0.5, 0, 0.5, 0, 0)).tolist()
    [[100.0, 51.0]]
    """
    if len(position) < 2 or not all(pixel_um):
        return None
    y, x = (vertices - (np.array(shape[:2]) - 1) / 2).T
    if affine is None:
        a, b, d, e = pixel_um[1], 0.0, 0.0, -pixel_um[0]
    else:
        a, b, _, d, e, _ = affine
    with np.errstate(over="ignore", invalid="ignore"):
        stage = np.stack([position[0] + a * x + b * y, position[1] + d * x + e * y], axis=1)
    return stage if math.isfinite(float(np.abs(stage).sum())) else None
