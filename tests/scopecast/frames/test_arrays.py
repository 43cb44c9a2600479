"""What can be shown, and how an array falls apart into planes."""

import array as stdlib_array
import collections
import doctest
import fractions
import math
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import scopecast.frames.arrays
from scopecast.frames.arrays import SHOWABLE, UnsupportedDtypeError, as_array, check_dtype, native, split_planes
from scopecast.frames.axes import MAX_AXES, sort_axes


def test_the_examples_in_the_docstrings_hold():
    results = doctest.testmod(scopecast.frames.arrays)
    assert results.attempted > 0
    assert results.failed == 0


# --- dtypes ---


@pytest.mark.fault("D2", "D3")
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("name", sorted(SHOWABLE))
def test_showable_dtypes_pass_in_either_byte_order(name, order):
    dtype = np.dtype(name).newbyteorder(order)
    check_dtype(dtype)
    assert native(dtype) == np.dtype(name)
    assert native(dtype).isnative


def test_ints_of_one_size_pass_whatever_c_calls_them():
    for code in np.typecodes["AllInteger"]:
        check_dtype(code)


@pytest.mark.fault("D3")
@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        pytest.param(object, r"dtype object .* np.stack\(images\)", id="object"),
        pytest.param("U5", "dtype <U5 .* read it first", id="str"),
        pytest.param("S5", r"dtype \|S5 .* np.frombuffer", id="bytes"),
        pytest.param("V8", r"dtype \|V8 .* \.view\(\) it as one of bool, ", id="void"),
        pytest.param([("red", "u1"), ("green", "u1")], r"array\['red'\]", id="structured"),
        pytest.param("datetime64[ns]", r"datetime64\[ns\] .*\.astype\('int64'\)", id="datetime"),
        pytest.param("timedelta64[s]", r"timedelta64\[s\] .*\.astype\('int64'\)", id="timedelta"),
        pytest.param("nonsense", "'nonsense' is not a dtype .* use one of bool, ", id="no-dtype"),
    ],
)
def test_other_dtypes_are_refused_with_what_to_convert_to(dtype, words):
    with pytest.raises(UnsupportedDtypeError, match=words) as caught:
        check_dtype(dtype)
    assert isinstance(caught.value, TypeError)


@pytest.mark.fault("D3")
@pytest.mark.needs("long doubles")
@pytest.mark.parametrize(("dtype", "fix"), [("longdouble", "'float64'"), ("clongdouble", "'complex128'")])
def test_wide_floats_are_refused(dtype, fix):
    with pytest.raises(UnsupportedDtypeError, match=rf"\.astype\({fix}\)"):
        check_dtype(dtype)


# --- arrays of other libraries ---


class Subclass(np.ndarray):
    pass


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(np.zeros((2, 3), ">u2"), id="big-endian"),
        pytest.param(np.zeros((4, 6))[::-2, ::2], id="strided"),
        pytest.param(np.zeros((2, 3)).view(Subclass), id="subclass"),
        pytest.param(np.zeros(3, object), id="even-of-objects"),
    ],
)
def test_numpy_arrays_pass_through(data):
    assert as_array(data) is data


def test_a_memmap_passes_through(tmp_path):
    data = np.memmap(tmp_path / "pixels", "u2", "w+", shape=(2, 3))
    assert as_array(data) is data


def test_masked_pixels_become_zero():
    masked = np.ma.masked_greater(np.array([[1, 9], [9, 2]], "u2"), 5)
    plain = as_array(masked)
    assert type(plain) is np.ndarray
    assert plain.tolist() == [[1, 0], [0, 2]]
    assert masked.data.tolist() == [[1, 9], [9, 2]]


class Offers:
    """An array of another library: what such an object offers, and nothing else."""

    def __init__(self, array):
        self.pixels = array


class Arraylike(Offers):
    def __array__(self, dtype=None, copy=None):
        return self.pixels


class Interface(Offers):
    @property
    def __array_interface__(self):
        return self.pixels.__array_interface__


class Exchanging(Offers):
    device = (1, 0)

    def __dlpack__(self, **wishes):
        return self.pixels.__dlpack__(**wishes)

    def __dlpack_device__(self):
        return self.device


class OnTheGpu(Exchanging):
    device = (2, 0)

    def __dlpack__(self, **wishes):
        raise AssertionError("the memory of a GPU is not to be read from the CPU")


class OnTheGpuWithCopy(OnTheGpu, Arraylike):
    pass


class RefusingExchange(Exchanging, Arraylike):
    def __dlpack__(self, **wishes):
        raise BufferError("a dtype that DLPack does not know")


PIXELS = np.arange(6, dtype="u2").reshape(2, 3)


@pytest.mark.parametrize("kind", [Arraylike, Interface, Exchanging, OnTheGpuWithCopy, RefusingExchange])
def test_arrays_of_other_libraries_are_taken_as_views(kind):
    taken = as_array(kind(PIXELS))
    assert type(taken) is np.ndarray
    assert np.shares_memory(taken, PIXELS)
    np.testing.assert_array_equal(taken, PIXELS)


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        pytest.param(bytearray(b"abc"), "uint8", (3,), id="bytearray"),
        pytest.param(memoryview(PIXELS), "uint16", (2, 3), id="memoryview"),
        pytest.param(stdlib_array.array("f", [1, 2]), "float32", (2,), id="array.array"),
        pytest.param([[1.5, 2], [3, 4]], "float64", (2, 2), id="nested-lists"),
        pytest.param([PIXELS, PIXELS], "uint16", (2, 2, 3), id="list-of-arrays"),
        pytest.param((True, False), "bool", (2,), id="tuple"),
        pytest.param(7.5, "float64", (), id="number"),
        pytest.param(np.uint8(7), "uint8", (), id="numpy-scalar"),
        pytest.param([], "float64", (0,), id="empty-list"),
    ],
)
def test_buffers_and_numbers(data, dtype, shape):
    taken = as_array(data)
    assert taken.dtype == dtype
    assert taken.shape == shape


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(None, "^NoneType cannot be shown as an image .*: pass a numpy array", id="none"),
        pytest.param("image.tif", "^str cannot", id="str"),
        pytest.param(b"abc", "^bytes cannot .*np.frombuffer", id="bytes"),
        pytest.param({"a": 1}, "^dict cannot", id="dict"),
        pytest.param({1, 2}, "^set cannot", id="set"),
        pytest.param((n for n in range(3)), "^generator cannot", id="generator"),
        pytest.param(fractions.Fraction(1, 2), "^fractions.Fraction cannot", id="fraction"),
        pytest.param(collections.UserList([1, 2]), "^collections.UserList cannot", id="other-sequence"),
        pytest.param([object()], "^list cannot .*dtype object", id="list-of-objects"),
        pytest.param(["a", "b"], "^list cannot .*dtype <U1", id="list-of-str"),
        pytest.param([[1, 2], [3]], "^list cannot .*inhomogeneous", id="ragged"),
        pytest.param([10**400], "^list cannot .*dtype object", id="huge-int"),
        pytest.param(np.ndarray, "^type cannot", id="a-type"),
        pytest.param(Arraylike(np.zeros(2, "M8[s]")), r"Arraylike cannot .*\.astype\('int64'\)", id="array-of-times"),
        pytest.param(OnTheGpu(PIXELS), "OnTheGpu cannot .*no DLPack on the CPU", id="gpu-only"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_by_its_type(data, words):
    with pytest.raises(UnsupportedDtypeError, match=words):
        as_array(data)


# The real torch and cupy are not installed where these tests run. The fakes below offer what as_array calls of them:
# the tests show which calls are made, and when, but not that the libraries answer them as expected.


@pytest.fixture
def fake_torch(monkeypatch):
    class Tensor(Offers):
        def __init__(self, array, steps=()):
            super().__init__(array)
            self.steps = steps

        def detach(self):
            return Tensor(self.pixels, (*self.steps, "detach"))

        def cpu(self):
            return Tensor(self.pixels, (*self.steps, "cpu"))

        def numpy(self):
            if self.steps != ("detach", "cpu"):
                raise RuntimeError("a tensor with a gradient, or on a GPU, has no numpy()")
            if self.pixels is None:
                raise TypeError("Got unsupported ScalarType BFloat16")
            return self.pixels

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(Tensor=Tensor))
    return Tensor


def test_a_torch_tensor_is_detached_and_brought_to_the_cpu(fake_torch):
    assert as_array(fake_torch(PIXELS)) is PIXELS


def test_a_torch_dtype_that_numpy_lacks_is_refused(fake_torch):
    with pytest.raises(UnsupportedDtypeError, match=r"Tensor cannot .*BFloat16.*dtype='float32'"):
        as_array(fake_torch(None))


def test_a_cupy_array_is_fetched(monkeypatch):
    class Cupy(OnTheGpu):
        def get(self):
            return self.pixels

    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(ndarray=Cupy))
    assert as_array(Cupy(PIXELS)) is PIXELS


def test_a_half_imported_library_does_no_harm(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert as_array([[1]]).shape == (1, 1)


# --- planes ---


def split(array, **options):
    return list(split_planes(array, **options))


def numbered(*shape, dtype="int32"):
    """Pixels that are all different."""
    return np.arange(math.prod(shape), dtype=dtype).reshape(shape)


@pytest.mark.parametrize(
    ("shape", "plane"),
    [((), (1, 1)), ((5,), (1, 5)), ((5, 6), (5, 6)), ((1, 1), (1, 1)), ((3, 4), (3, 4))],
    ids=str,
)
def test_what_is_one_plane(shape, plane):
    array = numbered(*shape, dtype="u1")
    ((axes, view),) = split(array, axes={"c": "DAPI"})
    assert axes == {"c": "DAPI"}
    assert view.shape == plane
    assert np.shares_memory(view, array)


@pytest.mark.parametrize("shape", [(0,), (3, 0, 4), (0, 5), (5, 0, 3)], ids=str)
def test_an_empty_array_has_no_planes(shape):
    assert split(np.zeros(shape)) == []


@pytest.mark.parametrize(
    ("leading", "axes", "names"),
    [
        pytest.param((2,), {}, "z", id="3d"),
        pytest.param((2, 3), {}, "tz", id="4d"),
        pytest.param((2, 3, 2), {}, "tcz", id="5d"),
        pytest.param((2, 1, 3, 2), {}, "ptcz", id="6d"),
        pytest.param((2, 1, 1, 3, 2), {}, "pgtcz", id="7d"),
        pytest.param((2,), {"z": 9}, "t", id="3d-and-z-is-taken"),
        pytest.param((2, 2), {"z": 9}, "tc", id="4d-and-z-is-taken"),
        pytest.param((2, 2), {"t": 9, "c": "A"}, "pz", id="4d-and-t-and-c-are-taken"),
    ],
)
def test_leading_axes_get_the_usual_names(leading, axes, names):
    array = numbered(*leading, 5, 6)
    planes = split(array, axes=axes)
    assert len(planes) == math.prod(leading)
    for index, (where, view) in zip(np.ndindex(*leading), planes, strict=True):
        assert where == {**axes, **dict(zip(names, index, strict=True))}
        np.testing.assert_array_equal(view, array[index])
        assert np.shares_memory(view, array)


@pytest.mark.parametrize(
    ("dims", "shape", "names"),
    [
        pytest.param("tczyx", (2, 1, 3, 5, 6), ("t", "c", "z"), id="lower-case"),
        pytest.param("TZCYX", (2, 3, 1, 5, 6), ("t", "z", "c"), id="upper-case-in-its-own-order"),
        pytest.param(("time", "Y", "X"), (2, 5, 6), ("t",), id="long-names"),
        pytest.param(["well", "y", "x"], (2, 5, 6), ("well",), id="other-names"),
        pytest.param("yxz", (5, 6, 2), ("z",), id="plane-first"),
        pytest.param("xty", (6, 2, 5), ("t",), id="x-before-y"),
        pytest.param("yx", (5, 6), (), id="no-leading-axis"),
    ],
)
def test_dims_name_the_axes(dims, shape, names):
    array = numbered(*shape)
    spelled = {"time": "t"}
    order = [spelled.get(name.lower(), name.lower()) for name in dims]
    planes = split(array, dims=dims, axes={"p": 4})
    assert len(planes) == array.size // 30
    for where, view in planes:
        assert where.pop("p") == 4
        assert tuple(where) == names
        assert all(type(value) is int for value in where.values())
        chosen = array[tuple(where.get(name, slice(None)) for name in order)]
        np.testing.assert_array_equal(view, chosen.T if order.index("x") < order.index("y") else chosen)
        assert view.shape == (5, 6)
        assert np.shares_memory(view, array)


@pytest.mark.parametrize(
    ("dims", "shape", "expected"),
    [("x", (5,), (1, 5)), ("X", (5,), (1, 5)), ("", (), (1, 1)), ((), (), (1, 1))],
    ids=str,
)
def test_dims_of_less_than_a_plane(dims, shape, expected):
    ((axes, view),) = split(np.ones(shape), dims=dims)
    assert (axes, view.shape) == ({}, expected)


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "planes", "plane"),
    [
        pytest.param((5, 6, 3), "u1", {}, 1, (5, 6, 3), id="rgb"),
        pytest.param((5, 6, 4), ">u2", {}, 1, (5, 6, 4), id="rgba-big-endian"),
        pytest.param((5, 6, 3), "f4", {"rgb": True}, 1, (5, 6, 3), id="asked-for"),
        pytest.param((2, 5, 6, 3), "f8", {}, 2, (5, 6, 3), id="stack-of-rgb"),
        pytest.param((5, 6, 3), "u1", {"rgb": False}, 5, (6, 3), id="asked-not-to"),
        pytest.param((5, 6, 3), "?", {}, 5, (6, 3), id="bool-never"),
        pytest.param((5, 6, 3), "c8", {}, 5, (6, 3), id="complex-never"),
        pytest.param((5, 6, 3), "i2", {}, 5, (6, 3), id="signed-never"),
        pytest.param((5, 6, 2), "u1", {}, 5, (6, 2), id="two-are-no-colours"),
        pytest.param((5, 3), "u1", {}, 1, (5, 3), id="2d-is-a-plane"),
        pytest.param((3, 5, 6), "u1", {"dims": "SYX"}, 1, (5, 6, 3), id="planar"),
        pytest.param((5, 2, 6, 3), "u1", {"dims": "ytxs"}, 2, (5, 6, 3), id="interleaved"),
        pytest.param((5, 6, 3), "u1", {"dims": "zyx"}, 5, (6, 3), id="dims-without-s"),
        pytest.param((5, 6, 3), "u1", {"dims": "yxs", "rgb": False}, 3, (5, 6), id="s-as-planes"),
        pytest.param((5, 6, 2), "u1", {"dims": "yxs"}, 2, (5, 6), id="two-samples-as-planes"),
        pytest.param((5, 6, 3), "i4", {"dims": "yxs"}, 3, (5, 6), id="samples-of-ints-as-planes"),
    ],
)
def test_colours(shape, dtype, options, planes, plane):
    array = numbered(*shape, dtype="i4").astype(dtype)
    pieces = split(array, **options)
    assert len(pieces) == planes
    assert {view.shape for _, view in pieces} == {plane}
    assert all(np.shares_memory(view, array) for _, view in pieces)
    assert ("s" in pieces[0][0]) == ("s" in options.get("dims", "").lower() and plane == (5, 6))


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        pytest.param((2, 5, 6), {"dims": "yx"}, "name 2 dimensions, .* has 3: give a name for each", id="too-few"),
        pytest.param((5, 6), {"dims": "zyx"}, "name 3 dimensions, .* has 2", id="too-many"),
        pytest.param((5, 6, 3), {"dims": "yx"}, "name the colours 's'", id="colours-unnamed"),
        pytest.param((2, 2, 5, 6), {"dims": "zzyx"}, "'zzyx' name z more than once", id="repeated"),
        pytest.param((2, 2, 5, 6), {"dims": ("t", "time", "y", "x")}, "name t more than once", id="repeated-alias"),
        pytest.param((2, 5, 6), {"dims": "tzy"}, "name no 'x'", id="no-x"),
        pytest.param((2, 5, 6), {"dims": "tzx"}, "name no 'y'", id="no-y"),
        pytest.param((5,), {"dims": "t"}, "name no 'y'", id="1d-that-is-no-x"),
        pytest.param((5, 6), {"dims": "y,"}, "',' cannot name an axis", id="no-name"),
        pytest.param((2, 5, 6), {"dims": "zyx", "axes": {"z": 1}}, "z is both a dimension .* leave it out", id="clash"),
        pytest.param((5, 6, 2), {"rgb": True}, "no dimension of 3 or 4 colours", id="rgb-of-two"),
        pytest.param((5, 3), {"rgb": True}, "no dimension of 3 or 4 colours", id="rgb-of-2d"),
        pytest.param((3,), {"rgb": True}, "no dimension of 3 or 4 colours", id="rgb-of-1d"),
        pytest.param((5, 6, 3), {"rgb": True, "dims": "yxz"}, "named 's' in dims", id="rgb-without-s"),
        pytest.param((1,) * 8, {}, "6 axes before y and x, and only 5 can be guessed", id="6-unnamed"),
        pytest.param((1, 5, 6), {"axes": dict.fromkeys("ztcpg", 0)}, "only 0 can .*none", id="no-name-left"),
        pytest.param((1,) * 11, {"dims": "abcdefghiyx"}, "9 leading axes .* at most 8", id="9-axes"),
        pytest.param((1,) * 10, {"dims": "abcdefghyx", "axes": {"t": 1}}, "8 .* and 1 in axes", id="8-and-1-axes"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_plane(shape, options, words):
    with pytest.raises(ValueError, match=words):
        split_planes(np.ones(shape, "u1"), **options)


@pytest.mark.parametrize("dtype", ["?", "i4", "c8", "u4"])
def test_colours_that_no_viewer_draws_are_refused(dtype):
    with pytest.raises(UnsupportedDtypeError, match="convert it to uint8, uint16, float32 or float64"):
        split_planes(np.ones((5, 6, 3), dtype), rgb=True)


def test_the_axes_given_are_never_shared_with_a_plane():
    given_axes = {"c": "DAPI"}
    for array in (np.ones((5, 6)), np.ones(5), np.ones((1, 5, 6))):
        ((axes, _),) = split(array, axes=given_axes)
        axes["t"] = 1
    assert given_axes == {"c": "DAPI"}


@given(
    npst.arrays(npst.integer_dtypes() | npst.floating_dtypes(sizes=(16, 32, 64)), npst.array_shapes(max_dims=7)),
    st.sampled_from([None, False]),
)
def test_the_planes_are_the_whole_array(array, rgb):
    planes = split(array, rgb=rgb)
    assert sum(view.size for _, view in planes) == array.size
    assert all(np.shares_memory(view, array) and 2 <= view.ndim <= 3 - (rgb is False) for _, view in planes)
    assert b"".join(view.tobytes() for _, view in planes) == array.tobytes()
    places = [tuple(axes.items()) for axes, _ in planes]
    assert len(set(places)) == len(places)
    assert all(len(axes) <= MAX_AXES and tuple(axes) == sort_axes(axes) for axes, _ in planes)


@given(st.permutations("tczyx"))
def test_the_order_of_dims_changes_no_plane(dims):
    array = numbered(2, 3, 2, 5, 6)
    moved = array.transpose(["tczyx".index(name) for name in dims])
    expected = {tuple(sorted(axes.items())): view for axes, view in split(array, dims="tczyx")}
    planes = split(moved, dims="".join(dims))
    assert len(planes) == len(expected)
    for axes, view in planes:
        np.testing.assert_array_equal(view, expected[tuple(sorted(axes.items()))])
        assert np.shares_memory(view, array)


@pytest.mark.fault("D1")
@pytest.mark.parametrize(
    "array",
    [
        pytest.param(numbered(4, 10, 12)[::-2, ::2, ::-2], id="negative-strides"),
        pytest.param(np.broadcast_to(np.int32(3), (2, 5, 6)), id="broadcast"),
        pytest.param(np.asfortranarray(numbered(2, 5, 6)), id="fortran"),
        pytest.param(numbered(2, 5, 6, dtype=">u2"), id="big-endian"),
        pytest.param(numbered(2, 5, 6).view(Subclass), id="subclass"),
    ],
)
def test_any_memory_layout_is_split_into_views(array):
    plain = np.asarray(array).reshape(-1, 5, 6)
    for number, (_, view) in enumerate(split(array)):
        assert type(view) is np.ndarray
        assert np.shares_memory(view, array)
        np.testing.assert_array_equal(view, plain[number])
