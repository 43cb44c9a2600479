"""NPY files, plane by plane, and pictures: PNG, JPEG, BMP."""

from __future__ import annotations

import importlib.util
import io
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from scopecast.errors import FileError, IncompleteFileError, UnsupportedDtypeError
from scopecast.frames.arrays import COLOUR_LENGTHS, can_be_colour, check_dtype
from scopecast.images.about import About
from scopecast.images.base import FilePlane, ImageFile, check_memory, name_axes, need, open_regular, read_exactly

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["NpyFile", "Picture"]


class NpyFile(ImageFile):
    """A ``.npy`` file."""

    def __init__(self, path: Path, dims: str | Sequence[str] | None) -> None:
        self.path = path
        self._file = open_regular(path)
        try:
            shape, fortran, dtype = self._header()
            check_dtype(dtype)
            self._offset = self._file.tell()
            expected = self._offset + int(np.prod([int(extent) for extent in shape], dtype=object)) * dtype.itemsize
            size = os.fstat(self._file.fileno()).st_size
            if size < expected:
                raise IncompleteFileError(f"it has {size} of {expected} bytes")
            if not all(shape):
                raise FileError("the array in it is empty")
            # In Fortran's order the file is the transposed array in C's order.
            self._stored, self._fortran, self._dtype = (shape[::-1] if fortran else shape), fortran, dtype
            colour = len(shape) > 2 and shape[-1] in COLOUR_LENGTHS and can_be_colour(dtype)
            self._plane = len(shape) - (3 if colour else min(2, len(shape)))
            names, notes = name_axes(self._plane, dims)
            self.about = About(sizes=dict(zip(names, shape, strict=False)), notes=notes)
            self._shape = shape
        except UnsupportedDtypeError as error:
            self._file.close()
            raise FileError(str(error)) from error
        except BaseException:
            self._file.close()
            raise

    def _header(self) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        formats = np.lib.format
        try:
            version = formats.read_magic(self._file)
            read = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
            shape, fortran, dtype = read(self._file)
        except ValueError as error:
            if "EOF" in str(error) or "reading" in str(error):
                raise IncompleteFileError("its header is cut short") from error
            raise FileError(f"it is not a valid NPY file ({str(error).splitlines()[0]})") from error
        return tuple(int(extent) for extent in shape), fortran, dtype

    def __len__(self) -> int:
        return int(np.prod(self._shape[: self._plane], dtype=np.int64))

    def _read(self, number: int) -> FilePlane:
        leading, plane = self._shape[: self._plane], self._shape[self._plane :]
        index = np.unravel_index(number, leading) if leading else ()
        axes = {name: int(at) for name, at in zip(self.about.sizes, index, strict=True)}
        if not self._fortran:
            nbytes = int(np.prod(plane, dtype=np.int64)) * self._dtype.itemsize
            return FilePlane(
                read_exactly(self._file.fileno(), self._offset + number * nbytes, plane, self._dtype), axes
            )
        # Of an array in Fortran's order a plane lies scattered over the whole file: read it row by row of the file.
        rest = self._stored[: len(plane)]  # (…, x, y): the plane's own extents, transposed
        row = self._stored[len(plane) :]
        nbytes = int(np.prod(row, dtype=np.int64)) * self._dtype.itemsize
        made = np.empty(plane[::-1], self._dtype)
        for place in np.ndindex(*rest[:-1]):
            start = int(np.ravel_multi_index((*place, 0), rest))
            block = read_exactly(self._file.fileno(), self._offset + start * nbytes, (rest[-1], *row), self._dtype)
            where: Any = (..., *(int(at) for at in index[::-1]))
            made[place] = block[where]
        return FilePlane(made.transpose(), axes)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()


class Picture(ImageFile):
    """A PNG, JPEG or BMP file: one plane, or one in colours."""

    def __init__(self, path: Path) -> None:
        need("imageio", "PNG and JPEG")
        self.path = path
        # All of it, and no path for the decoder: Pillow maps some formats into memory when it is given a path.
        with open_regular(path) as file:
            check_memory(os.fstat(file.fileno()).st_size, "it")
            self._content = file.read()
        notes: tuple[str, ...] = ()
        if _has_deep_colours(self._content) and importlib.util.find_spec("imagecodecs") is None:
            notes = ("its 16-bit colours are shown with 8 bits; pip install imagecodecs for all of them",)
        self.about = About(notes=notes)

    def __len__(self) -> int:
        return 1

    def _read(self, number: int) -> FilePlane:
        array = self._decode()
        if array.ndim == 3 and array.shape[2] not in COLOUR_LENGTHS:
            array = array[..., 0]  # grey with transparency
        if array.ndim != 2 and array.ndim != 3:
            raise FileError(f"it holds an array of shape {array.shape}, which is not an image")
        return FilePlane(array, {})

    def _decode(self) -> npt.NDArray[Any]:
        content = self._content
        if content[:8] == b"\x89PNG\r\n\x1a\n" and b"IEND" not in content[-32:]:
            raise IncompleteFileError("the PNG ends too early")
        if content[:2] == b"\xff\xd8" and b"\xff\xd9" not in content[2:]:
            raise IncompleteFileError("the JPEG ends too early")
        if _has_deep_colours(content) and importlib.util.find_spec("imagecodecs") is not None:
            import imagecodecs

            return np.asarray(imagecodecs.png_decode(content))
        import imageio.v3

        try:
            return np.asarray(imageio.v3.imread(io.BytesIO(content), extension=self.path.suffix.lower()))
        # Whatever a decoder raises over a damaged file (OSError, SyntaxError, ValueError, struct.error …).
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            if "truncated" in text or "end of" in text.lower() or len(content) < 64:
                raise IncompleteFileError(f"it ends too early ({text[:200]})") from error
            raise FileError(f"it can't be decoded ({text[:200]})") from error


def _has_deep_colours(content: bytes) -> bool:
    """Tell a PNG with 16 bits for each colour, which Pillow reduces to 8."""
    return content[:8] == b"\x89PNG\r\n\x1a\n" and content[24:25] == b"\x10" and content[25:26] in (b"\x02", b"\x06")
