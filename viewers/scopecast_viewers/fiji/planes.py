"""Planes that live in Java: one copy from the slot of shared memory to the array that ImageJ shows.

The copy is a bulk `get` of a direct `ByteBuffer` over the slot's memory, which takes as long as a memcpy. JPype's own
slice assignment takes twenty times that. The arrays are used again, as the buffers of numpy planes are (see
`scopecast_viewers.stacks.pool`). ImageJ gets copies of them (`JavaPlane.copy`), which it may keep, and write into.
"""

from __future__ import annotations

import ctypes
import math
import threading
from typing import TYPE_CHECKING, Any, Final

import jpype
import numpy as np
from jpype import JArray, JByte, JClass, JFloat, JInt, JShort
from jpype.nio import convertToDirectBuffer

from scopecast_viewers.fiji.pixels import form_of
from scopecast_viewers.stacks.pool import BufferPool

if TYPE_CHECKING:
    import numpy.typing as npt

    from scopecast_viewers.stacks.pool import Shelf

__all__ = ["JavaPlane", "JavaPool", "to_java"]

#: Form of a shelf: the Java type of its arrays.
_BYTE: Final = "byte"
_TYPES: Final = {"byte": JByte, "short": JShort, "int": JInt, "float": JFloat}
#: By the bits of ImageJ's pixels.
_KINDS: Final = {8: _BYTE, 16: "short", 24: "int", 32: "float"}
_BUFFERS: Final = 256


def _typed_buffer(address: int, nbytes: int, kind: str) -> Any:
    """Return a Java buffer over memory that it does not keep: whoever uses it sees to it that the memory is there."""
    # JPype holds what a buffer is made of until Java's collector runs, which would keep a whole segment mapped. An
    # array of ctypes that was made from an address owns nothing.
    memory = (ctypes.c_char * nbytes).from_address(address)
    buffer = convertToDirectBuffer(memoryview(memory)).order(JClass("java.nio.ByteOrder").nativeOrder())
    views = {"short": "asShortBuffer", "int": "asIntBuffer", "float": "asFloatBuffer"}
    return getattr(buffer, views[kind])() if kind in views else buffer


def to_java(pixels: npt.NDArray[Any], bits: int) -> Any:
    """Return a new Java array with the bytes of a C-contiguous array, for an image of 8, 16, 24 or 32 bits."""
    kind = _KINDS[bits]
    array = JArray(_TYPES[kind])(pixels.nbytes * 8 // (32 if bits == 24 else bits))
    if pixels.nbytes:
        _typed_buffer(pixels.ctypes.data, pixels.nbytes, kind).get(array)
    return array


class JavaPlane:
    """A plane whose pixels are a Java array; see `scopecast_viewers.stacks.plane.Plane`.

    Attributes
    ----------
    array
        The Java array: byte[], short[], int[] or float[].
    """

    __slots__ = ("_shelf", "array", "dtype", "nbytes", "shape")

    def __init__(self, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any], shelf: Shelf | None = None) -> None:
        self.array, self.shape, self.dtype = array, shape, dtype
        self.nbytes = math.prod(shape) * dtype.itemsize
        self._shelf = shelf

    def copy(self) -> Any:
        """Return a copy of the Java array, for ImageJ."""
        return self.array.clone()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return a copy of the pixels."""
        pixels = np.frombuffer(bytes(0) if not self.nbytes else memoryview(self.array), np.uint8)
        plane = pixels.view(self.dtype).reshape(self.shape)
        return plane if dtype is None else plane.astype(dtype)

    def __del__(self) -> None:
        if self._shelf is not None:
            self._shelf.give_back(self.array)

    def __repr__(self) -> str:
        return f"JavaPlane(shape={self.shape}, dtype={self.dtype})"


class JavaPool(BufferPool):
    """Copies frames into Java arrays; see `scopecast_viewers.stacks.pool.BufferPool`. The Java VM must run."""

    def __init__(self, spare_bytes: int = 64 << 20) -> None:
        super().__init__(spare_bytes)
        self._out_of_memory = JClass("java.lang.OutOfMemoryError")
        self._buffers: dict[tuple[int, int, str], Any] = {}
        self._staging: dict[tuple[tuple[int, ...], np.dtype[Any]], npt.NDArray[Any]] = {}
        self._lock = threading.Lock()

    def take(self, view: npt.NDArray[Any]) -> JavaPlane:
        """Copy a frame into a Java array.

        Parameters
        ----------
        view
            The frame, (y, x) or (y, x, 3 or 4), C-contiguous, in native byte order.

        Raises
        ------
        MemoryError
            If the Java heap is full.
        """
        form = form_of(view.dtype, rgb=view.ndim == 3)
        kind, shape = _KINDS[form.bits], form.shape(view.shape)
        nbytes = math.prod(shape) * form.dtype.itemsize
        array, shelf = self._buffer(nbytes, kind)
        with self._lock:  # the buffers have a position, and there is one staging array of a size
            source = view
            if form.convert is not None or not view.flags.c_contiguous:
                source = self._stage(shape, form.dtype)
                if form.convert is None:
                    np.copyto(source, view)
                else:
                    form.convert(view, source)
            buffer = self._buffer_over(source, kind)
            buffer.rewind()
            buffer.get(array)
        return JavaPlane(array, shape, form.dtype, shelf)

    def _stage(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        staging = self._staging.get((shape, dtype))
        if staging is None:
            if len(self._staging) > 4:
                self._staging.clear()
            staging = self._staging[shape, dtype] = np.empty(shape, dtype)
        return staging

    def _buffer_over(self, source: npt.NDArray[Any], kind: str) -> Any:
        # A ring's slots come again and again. A buffer of a slot that is gone is harmless: it is used only for an
        # array that lies at the same address.
        key = (source.ctypes.data, source.nbytes, kind)
        buffer = self._buffers.get(key)
        if buffer is None:
            if len(self._buffers) >= _BUFFERS:
                self._buffers.clear()
            buffer = self._buffers[key] = _typed_buffer(*key)
        return buffer

    def _fresh(self, form: str, nbytes: int) -> Any:
        size = {_BYTE: 1, "short": 2}.get(form, 4)
        try:
            return JArray(_TYPES[form])(nbytes // size)
        except self._out_of_memory as error:
            raise MemoryError(f"no room for a plane of {nbytes} bytes in the Java heap: {error.getMessage()}") from None
        except jpype.JVMNotRunning as error:  # the process is ending
            raise MemoryError(str(error)) from None
