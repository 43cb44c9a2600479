"""What ImageJ makes of each dtype: which kind of image holds it best, and how its pixels get there.

ImageJ has images of 8 bits and 16 bits without a sign, of 32-bit floats, and of RGB colours. A 16-bit image can have a
calibration that takes 32768 off every pixel, which holds signed values exactly. What has to be converted is converted
visibly: `PixelForm.note` says how, and stands in the image's Info.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = ["SIGN", "PixelForm", "form_of", "form_of_labels", "narrow_labels"]

#: What ImageJ's signed calibration takes off the pixels of a 16-bit image.
SIGN: Final = 32768


class PixelForm(NamedTuple):
    """How the frames of one dtype lie in ImageJ.

    Attributes
    ----------
    bits
        Of the image: 8, 16, 24 (RGB) or 32.
    dtype
        Of the Java array, as numpy sees its bytes. RGB is four bytes a pixel: blue, green, red, and 255.
    signed
        Whether the image needs the signed 16-bit calibration.
    convert
        Writes a frame into an array of `dtype`; None where the frame's bytes are right as they are.
    note
        What was converted, for the user; ``""`` if nothing was.
    """

    bits: int
    dtype: np.dtype[Any]
    signed: bool = False
    convert: Callable[[npt.NDArray[Any], npt.NDArray[Any]], None] | None = None
    note: str = ""

    def shape(self, frame: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a plane for a frame's, (y, x) or (y, x, 3 or 4)."""
        return (*frame[:2], 4) if self.bits == 24 else frame[:2]


def form_of(dtype: np.dtype[Any], *, rgb: bool = False) -> PixelForm:
    """Return how frames of a dtype lie in ImageJ.

    Parameters
    ----------
    dtype
        Bool, an integer, a float or a complex dtype, as they are published.
    rgb
        Whether the frames are (y, x, 3 or 4).

    Examples
    --------
    >>> form_of(np.dtype("uint16")).bits, form_of(np.dtype("uint16")).note
    (16, '')
    >>> form_of(np.dtype("float64")).note
    'float64 shown as 32-bit float: rounded to 24 bits, beyond 3.4e38 infinite'
    """
    name, kind = dtype.name, dtype.kind
    if rgb:
        return _rgb_form(dtype)
    if name == "uint8":
        return PixelForm(8, dtype)
    if name == "bool":
        return PixelForm(8, np.dtype("uint8"), convert=_from_bool, note="bool shown as 0 and 255")
    if name == "uint16":
        return PixelForm(16, dtype)
    if name == "int16":
        return PixelForm(16, np.dtype("uint16"), signed=True, convert=_from_signed)
    if name == "int8":
        note = "int8 shown as signed 16-bit, values unchanged"
        return PixelForm(16, np.dtype("uint16"), signed=True, convert=_from_signed, note=note)
    single = np.dtype("float32")
    if name == "float32":
        return PixelForm(32, dtype)
    if kind == "c":
        note = f"magnitude of {name}, as 32-bit float"
        return PixelForm(32, single, convert=_from_complex, note=note)
    if name == "float16":
        return PixelForm(32, single, convert=_as_float, note="float16 shown as 32-bit float, values unchanged")
    if kind == "f":
        note = f"{name} shown as 32-bit float: rounded to 24 bits, beyond 3.4e38 infinite"
        return PixelForm(32, single, convert=_as_float, note=note)
    note = f"{name} shown as 32-bit float: exact up to 16777216, rounded to 24 bits beyond"
    return PixelForm(32, single, convert=_as_float, note=note)


def narrow_labels(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return labels as an array of uint8, uint16 or float32, whichever ImageJ has that holds them.

    The first two hold all that is sent as 8 bits, or as more with values up to 65535. What is beyond, or negative, is
    float32, which is exact up to 16777216.

    Parameters
    ----------
    labels
        (y, x), of an integer dtype or bool.

    Examples
    --------
    >>> narrow_labels(np.array([[0, 70000]])).dtype, narrow_labels(np.array([[0, 300]])).dtype
    (dtype('float32'), dtype('uint16'))
    """
    if labels.dtype.kind == "b":
        return labels.view(np.uint8)
    wanted = np.dtype("uint8" if labels.dtype.itemsize == 1 else "uint16")
    if labels.dtype == wanted:
        return labels
    fits = not labels.size or (labels.min() >= 0 and labels.max() <= np.iinfo(wanted).max)
    return labels.astype(wanted if fits else np.float32)


def form_of_labels(sent: np.dtype[Any], held: np.dtype[Any]) -> PixelForm:
    """Return how labels lie in ImageJ that were sent as one dtype, and are held as `narrow_labels` has made them."""
    if held.kind == "f":
        note = f"{sent.name} labels as 32-bit float: exact up to 16777216, rounded to 24 bits beyond"
    else:
        note = "" if held == sent else f"{sent.name} labels as {held.name}, values unchanged"
    return PixelForm(held.itemsize * 8, held, note=note)


def _from_bool(frame: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    np.multiply(frame.view(np.uint8) != 0, np.uint8(255), out=out)


def _from_signed(frame: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    np.add(frame, SIGN, out=out, dtype=np.int32, casting="unsafe")


def _as_float(frame: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    with np.errstate(over="ignore"):
        np.copyto(out, frame, casting="unsafe")


def _from_complex(frame: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    with np.errstate(over="ignore"):
        np.abs(frame, out=out, casting="unsafe")


def _rgb_form(dtype: np.dtype[Any]) -> PixelForm:
    name, kind = dtype.name, dtype.kind
    if kind == "c":
        note = f"magnitude of {name}, 0 to 1, shown as RGB of 8 bits each"
    elif name == "uint8":
        note = ""
    elif kind in "fb":
        note = f"{name}, 0 to 1, shown as RGB of 8 bits each" + (", clipped beyond" if kind == "f" else "")
    else:
        note = f"{name}, its whole range, shown as RGB of 8 bits each"

    def convert(frame: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        # An int of Java's ColorProcessor is 0xAARRGGBB; its lowest byte comes first on every machine in use.
        out[..., :3] = _eight_bits(frame[..., 2::-1])
        out[..., 3] = 255

    return PixelForm(24, np.dtype("uint8"), convert=convert, note=note)


def _eight_bits(frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
    dtype = frame.dtype
    if dtype == np.uint8:
        return frame
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        shift = info.bits - 8
        raised = frame.astype(np.int64) - info.min if dtype.kind == "i" and info.bits < 64 else frame
        return (raised >> shift).astype(np.uint8) if info.bits > 8 else raised.astype(np.uint8)
    if dtype.kind == "c":
        frame = np.abs(frame)
    scaled = np.nan_to_num(frame.astype(np.float64), nan=0.0) * 255
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
