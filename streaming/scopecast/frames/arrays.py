"""What can be shown, and how an array falls apart into planes.

This module knows the array types of other libraries, the dtypes that viewers can draw, and how a volume, a series or a
colour image becomes planes of (y, x) or (y, x, 3 or 4). It imports numpy only, and copies pixels only where another
library's array gives no view of its own.
"""

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scopecast.errors import UnsupportedDtypeError
from scopecast.frames.axes import MAX_AXES, Axes, AxisValue, axis_name, sort_axes, spell_axis

__all__ = [
    "COLOUR_LENGTHS",
    "SHOWABLE",
    "UnsupportedDtypeError",
    "as_array",
    "can_be_colour",
    "check_dtype",
    "check_plane",
    "dims_of",
    "native",
    "split_planes",
]

SHOWABLE: Final = frozenset(
    {
        "bool",
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    }
)
"""Names of the dtypes that can be shown, in either byte order."""

# Kind and size, such as "u2": what '<u2' and '>u2' share. A tenth of the time that dtype.name takes, for each frame.
_SHOWABLE_CODES: Final = frozenset(np.dtype(name).str[1:] for name in SHOWABLE)
_COLOUR_CODES: Final = frozenset({"u1", "u2", "f4", "f8"})
#: How many colours the last dimension of a colour image has: red, green and blue, and opacity.
COLOUR_LENGTHS: Final = (3, 4)

# DLPack's numbers for memory that the CPU can read: its own, and what CUDA and ROCm have pinned.
_CPU_DEVICES: Final = frozenset({1, 3, 11})

# Which axes the leading dimensions are, where nobody says: the first of these that the frame does not have yet.
_GUESSES: Final = ("z", "t", "c", "p", "g")

_FIXES: Final = {
    "O": "make it one array of numbers: np.stack(images), or .astype() with a numeric dtype",
    "U": "an image is numbers; to show a file, read it first",
    "S": "an image is numbers; for raw pixels, np.frombuffer(data, dtype).reshape(shape)",
    "M": "convert it with .astype('int64')",
    "m": "convert it with .astype('int64')",
    "f": "convert it with .astype('float64')",
    "c": "convert it with .astype('complex128')",
}


def native(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return a dtype in this machine's byte order.

    Parameters
    ----------
    dtype : dtype-like

    Returns
    -------
    numpy.dtype

    Examples
    --------
    >>> native(">u2") == np.dtype("=u2")
    True
    """
    made = np.dtype(dtype)
    return made if made.isnative else made.newbyteorder("=")


def check_dtype(dtype: npt.DTypeLike) -> None:
    """Raise unless viewers can show a dtype.

    Parameters
    ----------
    dtype : dtype-like
        Those of `SHOWABLE` pass, in either byte order.

    Raises
    ------
    UnsupportedDtypeError
        For objects, text, bytes, structured and void, times, and floats wider than 64 bits (complex: 128). The message
        names the dtype and what to convert to.

    Examples
    --------
    >>> check_dtype("uint16")
    >>> check_dtype("datetime64[s]")
    Traceback (most recent call last):
        ...
    scopecast.errors.UnsupportedDtypeError: dtype datetime64[s] cannot be shown: convert it with .astype('int64')
    """
    try:
        made = np.dtype(dtype)
    except TypeError as error:
        raise UnsupportedDtypeError(f"{dtype!r} is not a dtype ({error}): use one of {_listed()}") from error
    if made.str[1:] not in _SHOWABLE_CODES:
        raise UnsupportedDtypeError(f"dtype {_short(str(made))} cannot be shown: {_fix(made)}")


def check_plane(shape: Sequence[int], dtype: npt.DTypeLike) -> None:
    """Raise unless a shape and a dtype are those of one plane: (y, x), or (y, x, 3 or 4) for colour.

    Raises
    ------
    ValueError
        If the shape is another.
    UnsupportedDtypeError
        As `check_dtype` does.
    """
    check_dtype(dtype)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in COLOUR_LENGTHS):
        msg = f"an array {tuple(shape)} is not a plane: (y, x), or (y, x, 3 or 4) for colour"
        raise ValueError(msg)


def _fix(dtype: np.dtype[Any]) -> str:
    """Say what to do with a dtype that cannot be shown."""
    if dtype.names:
        return f"pick one field, such as array[{dtype.names[0]!r}]"
    # bfloat16 and its kind, from ml_dtypes, are void to numpy, but have a name of their own.
    if dtype.kind == "V" and not dtype.name.startswith("void"):
        return "convert it with .astype('float32')"
    return _FIXES.get(dtype.kind, f"convert or .view() it as one of {_listed()}")


def _listed() -> str:
    return ", ".join(sorted(SHOWABLE))


def _short(text: str, most: int = 100) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def as_array(data: Any) -> np.ndarray[Any, Any]:
    """Return an array of any library as numpy's.

    Parameters
    ----------
    data : array-like
        A numpy array of any dtype (check that with `check_dtype`), a torch tensor or cupy array, anything with DLPack
        on the CPU, ``__array__`` (dask, xarray, zarr, h5py, PIL …) or the buffer protocol, a number, or nested lists of
        numbers.

    Returns
    -------
    numpy.ndarray
        numpy's own arrays, and subclasses such as memmap, unchanged; masked ones with 0 where they are masked. Others
        as a view where their library gives one, else as a copy; possibly read-only.

    Raises
    ------
    UnsupportedDtypeError
        If `data` is no array of numbers; the message names its type and the way out.

    Examples
    --------
    >>> as_array([[0, 1], [2, 3]]).shape
    (2, 2)
    """
    if type(data) is np.ndarray:
        return data
    if isinstance(data, np.ndarray):
        # What lies below a mask is arbitrary: 0 neither shows it nor moves the contrast's upper limit.
        return data.filled(0) if isinstance(data, np.ma.MaskedArray) else data
    try:
        array = _converted(data)
    # TypeError: the library refuses (bfloat16 in torch); ValueError: lists of unequal lengths.
    except (TypeError, ValueError) as error:
        raise _no_array(data, f"{type(error).__name__}: {error}") from error
    if array is None:
        raise _no_array(data, "it offers no DLPack on the CPU, no __array__ and no buffer")
    try:
        check_dtype(array.dtype)
    except UnsupportedDtypeError as error:
        raise _no_array(data, str(error)) from None
    return array


def _no_array(data: object, why: str) -> UnsupportedDtypeError:
    kind = type(data)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return UnsupportedDtypeError(
        f"{name} cannot be shown as an image ({_short(why, 300)}): pass a numpy array of numbers on the CPU, such as "
        f"np.asarray(data, dtype='float32')"
    )


def _converted(data: Any) -> np.ndarray[Any, Any] | None:
    """Convert what is no numpy array yet; None where it is nothing of the kind."""
    if _is_of("torch", "Tensor", data):
        return np.asarray(data.detach().cpu().numpy())
    if _is_of("cupy", "ndarray", data):
        return np.asarray(data.get())
    kind = type(data)
    if hasattr(kind, "__dlpack__") and hasattr(kind, "__dlpack_device__") and _on_cpu(data):
        try:
            return np.from_dlpack(data)
        # BufferError is DLPack's own; numpy has RuntimeError for dtypes that it does not know. The library's __array__
        # may know better.
        except (BufferError, RuntimeError):
            pass
    # Nothing else is handed to np.asarray: it would walk any object with a length, element by element, and wrap the
    # rest as an array of one object. Raw bytes are no image either, as long as nobody gives their shape.
    if isinstance(data, list | tuple | bool | int | float | complex | np.generic) or any(
        hasattr(kind, protocol) for protocol in ("__array__", "__array_interface__", "__array_struct__")
    ):
        return np.asarray(data)
    if isinstance(data, bytes):
        raise TypeError(_FIXES["S"])
    try:
        return np.asarray(memoryview(data))
    except (TypeError, BufferError):
        return None


def dims_of(data: Any) -> tuple[str, ...] | None:
    """Return the names that an array itself has for its dimensions, as xarray's do; None if it names no y and x.

    >>> class Named:
    ...     dims = ("Time", "stim phase", "y", "x")
    >>> dims_of(Named()), dims_of(np.zeros(3))
    (('t', 'stim_phase', 'y', 'x'), None)
    """
    said = getattr(data, "dims", None)
    if not isinstance(said, tuple) or not all(isinstance(name, str) for name in said):
        return None
    names = tuple(name.lower() if name.lower() in ("y", "x", "s") else spell_axis(name) for name in said)
    return names if {"y", "x"} <= set(names) and len(set(names)) == len(names) else None


def _is_of(library: str, name: str, data: Any) -> bool:
    # Looked up, never imported: who passes a tensor has imported its library, and nobody else should wait for it.
    kind = getattr(sys.modules.get(library), name, None)
    return isinstance(kind, type) and isinstance(data, kind)


def _on_cpu(data: Any) -> bool:
    return int(data.__dlpack_device__()[0]) in _CPU_DEVICES


def split_planes(
    array: np.ndarray[Any, Any],
    *,
    dims: str | Sequence[str] | None = None,
    axes: Mapping[str, AxisValue] = {},
    rgb: bool | None = None,
) -> Iterator[tuple[dict[str, int | str], np.ndarray[Any, Any]]]:
    """Split an array into the planes that are published one by one.

    Parameters
    ----------
    array : numpy.ndarray
        Of shape (), (x,), (y, x), or with leading axes (…, y, x), and possibly colours last (…, y, x, 3 or 4).
    dims : str or sequence of str, optional
        A name for every dimension: ``"tczyx"``, ``"TZCYX"``, ``("time", "y", "x")``, with ``s`` for the colours
        (tifffile's samples). They may be in any order: y, x and s are moved to the end. Without dims the leading
        axes are z; t, z; t, c, z; p, t, c, z; p, g, t, c, z: those that `axes` does not have yet.
    axes : mapping of str to int or str
        Where the whole array belongs, as from `check_axes`.
    rgb : bool, optional
        Whether colours are in the last dimension (with dims: in ``s``). None: yes if it is of length 3 or 4, there are
        y and x before it, and the dtype is uint8, uint16, float32 or float64; with dims there must be an ``s``.

    Returns
    -------
    iterator of (dict, numpy.ndarray)
        Each plane's axes, `axes` first, and the plane: (y, x) or (y, x, 3 or 4), a view of `array`, never a copy; in
        the order of the leading axes, the last one fastest. One number becomes a 1 x 1 plane, (x,) becomes 1 x n. An
        array of size 0 has no planes.

    Raises
    ------
    UnsupportedDtypeError
        If `rgb` is True and the dtype cannot be a colour's.
    ValueError
        If dims do not fit the array (their number, a repeated name, no y or x), a leading axis is already in `axes`,
        there would be more than 8 axes, or `rgb` is True and there are no 3 or 4 colours. All before the first plane.

    Examples
    --------
    >>> stack = np.zeros((2, 5, 6), "uint16")
    >>> [(axes, plane.shape) for axes, plane in split_planes(stack, axes={"c": "DAPI"})]
    [({'c': 'DAPI', 'z': 0}, (5, 6)), ({'c': 'DAPI', 'z': 1}, (5, 6))]
    >>> len(list(split_planes(np.zeros((5, 6, 3), "uint8"))))
    1
    """
    # Subclasses as plain views: memmap's own indexing takes several times as long, and np.matrix knows no 1-D row.
    plain = np.asarray(array)
    if plain.size == 0:
        return iter(())
    if dims is None:
        if plain.ndim < 2 and not rgb:
            return iter(((dict(axes), np.atleast_2d(plain)),))
        colour = _is_colour(plain, plain.ndim - 1 if plain.ndim > 2 else None, rgb)
        names = _guess(plain.ndim - 2 - colour, plain.shape, axes)
    else:
        named = _parse(dims, plain.shape)
        if named in ((), ("x",)) and not rgb:
            return iter(((dict(axes), np.atleast_2d(plain)),))
        for wanted in ("y", "x"):
            if wanted not in named:
                raise ValueError(f"dims {dims!r} name no {wanted!r}: a plane needs both y and x, such as 'tzyx'")
        colour = _is_colour(plain, named.index("s") if "s" in named else None, rgb)
        plane = ("y", "x", "s") if colour else ("y", "x")
        names = tuple(name for name in named if name not in plane)
        plain = plain.transpose([named.index(name) for name in (*names, *plane)])
    _check_leading(names, axes)
    return _planes(plain, names, axes)


def _planes(
    array: np.ndarray[Any, Any], names: tuple[str, ...], axes: Axes
) -> Iterator[tuple[dict[str, int | str], np.ndarray[Any, Any]]]:
    """Yield the planes; a generator of its own, so that errors come from the call and not from the first plane."""
    for index in itertools.product(*map(range, array.shape[: len(names)])):
        yield {**axes, **dict(zip(names, index, strict=True))}, array[index]


def _parse(dims: str | Sequence[str], shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of dims in their one spelling, one for every dimension."""
    named = tuple(axis_name(name) for name in dims)
    if len(named) != len(shape):
        hint = "; name the colours 's'" if len(named) == len(shape) - 1 and shape[-1] in COLOUR_LENGTHS else ""
        raise ValueError(
            f"dims {dims!r} name {len(named)} dimensions, and the array of shape {shape} has {len(shape)}: give a name "
            f"for each, y and x included{hint}"
        )
    if len(set(named)) != len(named):
        twice = sorted({name for name in named if named.count(name) > 1})
        raise ValueError(f"dims {dims!r} name {', '.join(twice)} more than once: give each dimension a name of its own")
    return named


def can_be_colour(dtype: np.dtype[Any]) -> bool:
    """Whether colours can be of a dtype: uint8, uint16, float32 or float64."""
    return dtype.str[1:] in _COLOUR_CODES


def _is_colour(array: np.ndarray[Any, Any], samples: int | None, rgb: bool | None) -> bool:
    """Tell whether dimension `samples` holds colours; raise if it has to and cannot."""
    if rgb is False:
        return False
    fits = samples is not None and array.shape[samples] in COLOUR_LENGTHS
    suits = can_be_colour(array.dtype)
    if rgb and not fits:
        raise ValueError(
            f"rgb=True, and the array of shape {array.shape} has no dimension of 3 or 4 colours: they come last, after "
            f"y and x, or are named 's' in dims; pass rgb=None for an image without colours"
        )
    if rgb and not suits:
        raise UnsupportedDtypeError(
            f"dtype {array.dtype} cannot be shown as colours: convert it to uint8, uint16, float32 or float64, "
            f"or pass rgb=False to show the colours as planes"
        )
    return fits and suits


def _guess(count: int, shape: tuple[int, ...], axes: Axes) -> tuple[str, ...]:
    """Name the leading axes of an array without dims."""
    free = [name for name in _GUESSES if name not in axes]
    if count > len(free):
        raise ValueError(
            f"the array of shape {shape} has {count} axes before y and x, and only {len(free)} can be "
            f"guessed ({', '.join(sort_axes(free)) or 'none'}): pass dims, a name for each dimension, such as 'tczyx'"
        )
    return sort_axes(free[:count])


def _check_leading(names: tuple[str, ...], axes: Mapping[str, object]) -> None:
    """Raise if the leading axes clash with those of the whole array, or are too many with them."""
    if clash := [name for name in names if name in axes]:
        raise ValueError(
            f"{', '.join(clash)} is both a dimension of the array and in axes ({dict(axes)!r}): leave it out of axes, "
            f"or give the dimension another name"
        )
    if len(names) + len(axes) > MAX_AXES:
        raise ValueError(
            f"{len(names)} leading axes ({', '.join(names)}) and {len(axes)} in axes are too many: a plane has at most "
            f"{MAX_AXES}; reshape the array, or publish its parts"
        )
