"""How the pixels of a frame are encoded for the way to another machine, and decoded there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from scopecast.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from scopecast.remote.quality import Quality

__all__ = ["decode", "encode"]


def encode(plane: npt.NDArray[Any], quality: Quality, companding: Any = None) -> bytes:
    """Encode a plane."""
    import blosc2

    flat = np.ascontiguousarray(plane)
    return bytes(
        blosc2.compress2(
            flat.reshape(-1).view(np.uint8),
            typesize=flat.dtype.itemsize,
            codec=blosc2.Codec.ZSTD,
            clevel=1,
            filters=[blosc2.Filter.BITSHUFFLE],
            filters_meta=[0],
            nthreads=1,
        )
    )


def decode(
    data: bytes | memoryview, quality: Quality, shape: Sequence[int], dtype: npt.DTypeLike, companding: Any = None
) -> npt.NDArray[Any]:
    """Decode a plane."""
    import blosc2

    wanted = math.prod(shape) * np.dtype(dtype).itemsize
    nbytes, cbytes, _ = blosc2.get_cbuffer_sizes(bytes(data))
    if nbytes != wanted or cbytes != len(data):
        msg = f"{len(data)} bytes that hold {nbytes}, where {wanted} are expected"
        raise ProtocolError(msg)
    made = np.empty(wanted, np.uint8)
    blosc2.decompress2(bytes(data), dst=made)
    return made.view(dtype).reshape(tuple(shape))
