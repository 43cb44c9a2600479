"""Planes as bytes for another machine, and such bytes as planes again.

This module knows the two codecs, which are loaded when they are needed first: blosc2 for exact pixels, and JPEG for
previews, of the 8 bits that `companding` makes. It knows no message and no link. What comes from the network is
compared with what the stream says of its planes before memory is allocated.
"""

from __future__ import annotations

import functools
import math
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from scopecast.errors import ProtocolError
from scopecast.frames.arrays import check_plane
from scopecast.remote.companding import Companding, compand, expand, small_shape

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    import numpy.typing as npt

    from scopecast.remote.quality import Quality

__all__ = ["MAX_PLANE_BYTES", "MAX_SIDE", "check_available", "decode", "encode", "has_preview"]

#: A plane has no more bytes than blosc2 takes at once.
MAX_PLANE_BYTES: Final = 2**31 - 1 - 32
#: Pixels along a side of the largest JPEG.
MAX_SIDE: Final = 65_500
#: A JPEG with more bytes than this for each pixel, and as many again, is none of ours.
_JPEG_BYTES: Final = 4
_JPEG_HEADERS: Final = 4096
#: What may come before the frame: tables, the interval of restarts, what applications note, comments.
_SEGMENTS: Final = frozenset({0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})

# The header of a blosc2 chunk (README_CHUNK_FORMAT.rst of c-blosc2): versions, flags, bytes of an element; bytes of all
# elements, of a block, and of the chunk; codes of the six filters; codec; what codec and filters are told; more flags.
_CHUNK: Final = struct.Struct("<4B3I6sBB6sBB")
_EXTENDED: Final = 0b101  # flags: the header has all these fields
_STORED: Final = 0b10  # flags: as the bytes were, since they could not be made fewer
_ZSTD, _BITSHUFFLE = 5, bytes([2, 0, 0, 0, 0, 0])
_ZSTD_FORMAT: Final = 4  # the three highest of the flags
_ZEROS: Final = 0x10  # more flags: every byte is 0


@functools.cache
def _blosc2() -> ModuleType:
    try:
        import blosc2
    except ImportError as error:
        raise _missing("blosc2", error) from error
    blosc2.set_releasegil(True)  # of the process; nobody else here uses blosc2
    return blosc2  # type: ignore[no-any-return]


@functools.cache
def _simplejpeg() -> ModuleType:
    try:
        import simplejpeg
    except ImportError as error:
        raise _missing("simplejpeg", error) from error
    return simplejpeg  # type: ignore[no-any-return]


def _missing(package: str, error: ImportError) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"streams of another machine need {package}, which can't be imported ({error}); "
        f"pip install 'scopecast[remote]'",
        name=package,
    )


def check_available() -> None:
    """Load both codecs.

    Raises
    ------
    ModuleNotFoundError
        If one of them is not installed; the message says how to install it.
    """
    _blosc2()
    _simplejpeg()


def has_preview(shape: Sequence[int], dtype: npt.DTypeLike) -> bool:
    """Return whether planes of a shape and a dtype can be sent as JPEG; those that can't are always sent exactly.

    Parameters
    ----------
    shape : sequence of int
        (y, x) or (y, x, 3 or 4).
    dtype : dtype-like

    Returns
    -------
    bool
        Not for bool and complex numbers, for colours with opacity, and for more than `MAX_SIDE` pixels along a side.
        Labels look like other integers here: who sends them must send them exactly.
    """
    return (
        np.dtype(dtype).kind in "iuf"
        and (len(shape) == 2 or shape[2] == 3)
        and max(shape[0], shape[1]) <= MAX_SIDE
        and math.prod(shape) * np.dtype(dtype).itemsize <= MAX_PLANE_BYTES
    )


def encode(plane: npt.NDArray[Any], quality: Quality, companding: Companding | None = None) -> bytes:
    """Return a plane as bytes; other threads run meanwhile.

    Parameters
    ----------
    plane : numpy.ndarray
        (y, x) or (y, x, 3 or 4), of a dtype that viewers can show, with any strides.
    quality : Quality
        For a preview, `has_preview` must hold.
    companding : Companding, optional
        For a preview, what `Companding.covering` has returned for this plane; it has to travel with the bytes.

    Returns
    -------
    bytes
        Exact: a blosc2 chunk (bitshuffle, zstd level 1) of the elements in the plane's byte order. Preview: a baseline
        JPEG of the levels, gray or colour.

    Raises
    ------
    ValueError
        If the plane is too large, has no pixels or no preview, or if a preview lacks its companding.
    UnsupportedDtypeError
        If no viewer can show its dtype.
    ModuleNotFoundError
        If the codec is not installed.
    """
    _check_size(plane.shape, plane.dtype)
    if quality.jpeg is None:
        return _compress(np.ascontiguousarray(plane))
    if not has_preview(plane.shape, plane.dtype):
        raise ValueError(f"a plane of shape {plane.shape} and dtype {plane.dtype} has no preview: send it exactly")
    if companding is None:
        raise ValueError("a preview needs a companding: Companding.covering(plane)")
    levels = compand(plane, companding, quality.step)
    colours = ("RGB", "420") if levels.ndim == 3 else ("GRAY", "Gray")
    made: bytes = _simplejpeg().encode_jpeg(
        levels.reshape(*levels.shape[:2], -1), quality=quality.jpeg, colorspace=colours[0], colorsubsampling=colours[1]
    )
    return made


def _compress(plane: npt.NDArray[Any]) -> bytes:
    blosc2 = _blosc2()
    made: bytes = blosc2.compress2(
        plane.view(np.uint8),  # it does not know all dtypes, nor all byte orders
        codec=blosc2.Codec.ZSTD,
        clevel=1,
        filters=[blosc2.Filter.BITSHUFFLE],
        filters_meta=[0],
        typesize=plane.itemsize,
        nthreads=1,
    )
    return made


def decode(
    data: bytes | memoryview,
    quality: Quality,
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    companding: Companding | None = None,
) -> npt.NDArray[Any]:
    """Return the plane that a peer's bytes are; other threads run meanwhile.

    Parameters
    ----------
    data : bytes or memoryview
        What `encode` returned on the other machine, or anything else.
    quality : Quality
        Of the bytes.
    shape, dtype
        Those of the stream's planes.
    companding : Companding, optional
        That which came with a preview.

    Returns
    -------
    numpy.ndarray
        A new array of that shape and dtype. In a preview of half or quarter size each pixel is repeated.

    Raises
    ------
    ProtocolError
        If there can be no such plane, or the bytes are not one; the message says what is wrong.
    ModuleNotFoundError
        If the codec is not installed.
    """
    shape = tuple(shape)
    try:
        _check_size(shape, dtype)
    except (ValueError, TypeError) as error:
        raise ProtocolError(f"a peer's planes are none: {error}") from error
    made = np.dtype(dtype)
    if quality.jpeg is None:
        return _decompress(data, shape, made)
    if not has_preview(shape, made):
        raise ProtocolError(f"a peer sent a preview of a plane of shape {shape} and dtype {made}, which has none")
    if companding is None:
        raise ProtocolError("a peer sent a preview without its companding")
    small = small_shape(shape, quality.step)
    _check_jpeg(data, small)
    try:
        levels = _simplejpeg().decode_jpeg(data, colorspace="RGB" if len(small) == 3 else "GRAY", strict=True)
    except ValueError as error:
        raise ProtocolError(f"a preview is damaged: {error}") from error
    if levels.shape[:2] != small[:2]:
        raise ProtocolError(f"a preview is damaged: {levels.shape[:2]} pixels came out of it, not {small[:2]}")
    return expand(levels.reshape(small), companding, shape, made, quality.step)


def _check_size(shape: Sequence[int], dtype: npt.DTypeLike) -> None:
    """Raise ValueError or UnsupportedDtypeError unless a plane of such a size can cross."""
    check_plane(shape, dtype)
    if min(shape) < 1:
        raise ValueError(f"a plane of shape {tuple(shape)} has no pixels")
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    if nbytes > MAX_PLANE_BYTES:
        raise ValueError(
            f"a plane of {nbytes} bytes is too large, at most {MAX_PLANE_BYTES} can be sent: publish its parts"
        )


def _decompress(data: bytes | memoryview, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    nbytes = math.prod(shape) * dtype.itemsize
    if len(data) < _CHUNK.size:
        raise ProtocolError(f"exact pixels are damaged: {len(data)} bytes are no chunk, whose header has {_CHUNK.size}")
    header = _CHUNK.unpack_from(data)
    flags, element, whole, block, chunk, filters, codec = header[2:9]
    # Only what `encode` makes: blosc2 has codecs that it looks for with another program, and chunks that are elsewhere.
    stored = bool(flags & _STORED)
    known = (
        flags & _EXTENDED == _EXTENDED
        and (stored or flags >> 5 == _ZSTD_FORMAT)
        and (filters, codec, *header[9:12]) == (_BITSHUFFLE, _ZSTD, 0, bytes(6), 0)
        and header[12] in (0, _ZEROS)
    )
    if not known or element != dtype.itemsize:
        raise ProtocolError("exact pixels are damaged, or made in another way: their chunk has other flags and filters")
    if whole != nbytes:
        raise ProtocolError(f"exact pixels are damaged: {whole} bytes, and a plane of {shape} {dtype} has {nbytes}")
    if chunk != len(data) or not 0 < block <= nbytes:
        raise ProtocolError(f"exact pixels are damaged: {len(data)} bytes of a chunk of {chunk}, in blocks of {block}")
    if stored and chunk != nbytes + _CHUNK.size:
        raise ProtocolError(f"exact pixels are damaged: {nbytes} bytes that are not compressed came as {chunk}")
    plane = np.empty(shape, dtype)
    try:
        _blosc2().decompress2(data, dst=plane.view(np.uint8), nthreads=1)
    except (ValueError, RuntimeError) as error:
        raise ProtocolError(f"exact pixels are damaged: {error}") from error
    # Bytes other than 0 and 1 are no bools, and what numpy does with them is not defined.
    return plane.view(np.uint8) != 0 if dtype.kind == "b" else plane


def _check_jpeg(data: bytes | memoryview, small: tuple[int, ...]) -> None:
    """Raise ProtocolError unless bytes begin like a baseline JPEG with as many pixels and colours.

    Other kinds are refused: a progressive one can have thousands of passes over all pixels in a few kilobytes. The
    structure is that of ITU-T T.81, annex B.
    """
    most = _JPEG_BYTES * math.prod(small) + _JPEG_HEADERS
    if len(data) > most:
        raise ProtocolError(f"a preview is damaged: {len(data)} bytes, and its JPEG has at most {most}")
    view, at = memoryview(data).cast("B"), 2
    if bytes(view[:2]) != b"\xff\xd8":
        raise ProtocolError("a preview is damaged: it does not begin as a JPEG does")
    while at + 10 <= len(view) and view[at] == 0xFF:
        marker = view[at + 1]
        if 0xC0 <= marker <= 0xCF and marker != 0xC4:  # a frame; the other one is a table
            depth, height, width, colours = struct.unpack_from(">BHHB", view, at + 4)
            found = (height, width) if colours == 1 else (height, width, colours)
            if marker != 0xC0 or depth != 8 or found != small:
                raise ProtocolError(
                    f"a preview is damaged: its JPEG has kind {marker - 0xC0}, {depth} bits and shape {found}, "
                    f"not kind 0, 8 bits and shape {small}"
                )
            return
        if marker not in _SEGMENTS:  # also fill bytes, after which a decoder might find another frame than this does
            break
        at += 2 + int.from_bytes(view[at + 2 : at + 4], "big")
    raise ProtocolError("a preview is damaged: its JPEG does not say how many pixels it has")
