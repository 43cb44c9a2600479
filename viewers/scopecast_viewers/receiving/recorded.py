"""What is told of a frame beside its place: when it was recorded, how, and where the stage was."""

from __future__ import annotations

import math
from typing import Final

import msgspec

__all__ = ["describe_recorded"]

_NUMBER: Final = int | float
#: By what is told, its keys: scopecast's own for pymmcore-plus, and those of Micro-Manager's tags; with their factors.
_KEYS: Final = {
    "elapsed": (("elapsed_s", 1.0), ("ElapsedTime-ms", 1e-3)),
    "exposure": (("exposure_ms", 1.0), ("Exposure-ms", 1.0), ("Exposure", 1.0)),
    "x": (("x_um", 1.0), ("XPositionUm", 1.0)),
    "y": (("y_um", 1.0), ("YPositionUm", 1.0)),
    "z": (("z_um", 1.0), ("ZPositionUm", 1.0)),
}


def describe_recorded(metadata: msgspec.Raw) -> str:
    """Return what the metadata of a frame say of its time, exposure and stage position, as one short text.

    Parameters
    ----------
    metadata
        As it was sent; whatever else it holds is passed over.

    Returns
    -------
    str
        ``""`` if it says nothing of these.

    Examples
    --------
    >>> from scopecast.link.messages import encode_metadata
    >>> describe_recorded(encode_metadata({"elapsed_s": 61.25, "exposure_ms": 10, "x_um": 5.0, "y_um": -2.5}))
    '61.25 s, 10 ms, x 5.0 y -2.5 µm'
    >>> describe_recorded(encode_metadata({"ElapsedTime-ms": 1500, "ZPositionUm": 3}))
    '1.50 s, z 3.0 µm'
    >>> describe_recorded(encode_metadata("anything"))
    ''
    """
    if len(metadata) < 2:  # nil
        return ""
    try:
        said = msgspec.msgpack.decode(metadata)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):  # of another program's; the pixels are shown
        return ""
    if not isinstance(said, dict):
        return ""
    found: dict[str, float] = {}
    for name, keys in _KEYS.items():
        for key, factor in keys:
            value = said.get(key)
            if isinstance(value, _NUMBER) and not isinstance(value, bool) and math.isfinite(value):
                found.setdefault(name, value * factor)
    parts = []
    if "elapsed" in found:
        parts.append(f"{found['elapsed']:.2f} s")
    if "exposure" in found:
        parts.append(f"{found['exposure']:.4g} ms")
    if stage := [f"{axis} {found[axis]:.1f}" for axis in "xyz" if axis in found]:
        parts.append(f"{' '.join(stage)} µm")
    return ", ".join(parts)
