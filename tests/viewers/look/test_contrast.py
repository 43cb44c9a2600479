"""The range that a channel is shown in, as its frames come."""

from __future__ import annotations

import numpy as np
import pytest

from scopecast_viewers.look.contrast import Contrast, Contrasts, saturation

random = np.random.default_rng(5)


def noise(size: int = 512, mean: float = 100, sigma: float = 2) -> np.ndarray:
    return random.normal(mean, sigma, (size, size)).clip(0, 65535).astype("uint16")


def cells(size: int = 512, peak: float = 4200, count: int = 12) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    picture = random.normal(100, 2, (size, size))
    for cy, cx in random.uniform(0, size, (count, 2)):
        picture += peak * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 2 / (size / 30) ** 2)
    return picture.clip(0, 65535).astype("uint16")


def spots(size: int = 512, count: int = 20, background: np.ndarray | None = None) -> np.ndarray:
    """Return single molecules: 3 x 3 pixels each, 500 at the border and 1000 in the middle."""
    picture = np.zeros((size, size), "uint16") if background is None else background
    for y, x in random.integers(2, size - 2, (count, 2)):
        picture[y - 1 : y + 2, x - 1 : x + 2] += 500
        picture[y, x] += 500
    return picture


def with_hot(picture: np.ndarray, part: float = 0.0005) -> np.ndarray:
    picture = picture.copy()
    picture[random.random(picture.shape) < part] = np.iinfo(picture.dtype).max
    return picture


def shown(contrast: Contrast, value: float) -> float:
    """Return how bright a value is shown, 0 to 1."""
    low, high = contrast.limits
    return float(np.clip((value - low) / (high - low), 0, 1))


def of(*frames: np.ndarray) -> Contrast:
    contrast = Contrast(frames[0].dtype)
    for frame in frames:
        contrast.look(frame)
        low, high = contrast.limits
        assert np.isfinite(low)
        assert np.isfinite(high)
        assert low < high
        if frame.dtype.kind in "iu":
            assert (low, high) == (int(low), int(high)), "ImageJ takes whole numbers only"
    return contrast


@pytest.mark.parametrize(
    "dark", [noise(), np.full((512, 512), 100, "uint16"), with_hot(noise())], ids=["noise", "flat", "hot"]
)
def test_cells_are_seen_after_a_shutter_was_closed(dark):
    frame = cells()
    contrast = of(dark, dark, dark, frame)
    assert shown(contrast, 100) < 0.03
    assert 0.9 < shown(contrast, float(frame.max())) <= 1
    assert (frame > contrast.limits[1]).mean() < 0.01
    contrast.measure(frame)
    assert contrast.reach[1] >= frame.max()


@pytest.mark.parametrize("size", [64, 512, 2048])
def test_hot_and_dead_pixels_are_not_what_is_to_be_seen(size):
    frame = with_hot(cells(size))
    frame[random.random(frame.shape) < 0.0005] = 0
    contrast = of(frame)
    assert shown(contrast, 100) < 0.05
    assert 2000 < contrast.limits[1] < 8000


@pytest.mark.parametrize("size", [256, 512, 2048])
@pytest.mark.parametrize("hot", [0, 0.00002])
def test_few_molecules_among_zeros_are_seen(size, hot):
    frame = with_hot(spots(size), hot)
    contrast = of(frame)
    assert shown(contrast, 0) == 0
    assert 400 < contrast.limits[1] <= 1500


def test_few_molecules_on_a_noisy_background_are_seen():
    contrast = of(spots(background=noise(), count=30))
    assert contrast.limits[1] > 400
    assert shown(contrast, 100) < 0.05


@pytest.mark.parametrize("step", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("size", [256, 512, 2048])
def test_a_regular_pattern_is_seen(step, size):
    """Lines, and dots, at the distance at which pixels might be looked at."""
    for pattern in (np.s_[::step], np.s_[:, ::step], np.s_[step // 2 :: step]):
        frame = noise(size)
        frame[pattern] = 1000
        assert of(frame).limits[1] == pytest.approx(1000, abs=50)
    frame = noise(size)
    frame[::step, ::step] = 1000
    if step <= 8:  # else they are as few, and as lone, as hot pixels
        assert of(frame).limits[1] == pytest.approx(1000, abs=50)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float16", "float32", "float64", "bool"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5000, 1), (1, 100_000), (2, 100_000), (3, 3), (17, 4099)])
def test_images_of_any_shape_and_dtype(shape, dtype):
    frame = (np.arange(np.prod(shape)).reshape(shape) % 97).astype(dtype)
    contrast = of(frame, frame)
    if frame.size > 90 and dtype != "bool":
        assert contrast.limits[0] == pytest.approx(0, abs=2)
        assert contrast.limits[1] == pytest.approx(96, abs=2)
    contrast.measure(frame)
    assert contrast.reach[0] <= contrast.limits[0]
    assert contrast.reach[1] >= min(contrast.limits[1], 1)


def test_what_has_no_range():
    assert of(np.full((9, 9), np.nan)).limits == (0, 1)
    assert of(np.array([[np.inf, -np.inf, np.nan]])).limits == (0, 1)
    assert of(np.full((9, 9), 65535, "uint16")).limits == (65534, 65535), "all saturated: bright, not black"
    assert of(np.full((9, 9), 56449, "uint16")).limits == (56448, 56449), "bright, though all alike"
    assert of(np.full((9, 9), 110, "uint16")).limits == (110, 111), "a closed shutter is dark"
    assert of(np.zeros((9, 9), "uint16")).limits == (0, 1)
    assert of(np.full((9, 9), -3, "int16")).limits == (-3, -2)
    assert of(np.array([[-1.7e308, 1.7e308] * 9])).limits == (-1e300, 1e300)
    assert of(np.array([[False, True]])).limits == (0, 1)
    for value, dtype in ((2**63, "uint64"), (-(2**63), "int64"), (1.79e308, "float64"), (-1.79e308, "float64")):
        low, high = of(np.full((9, 9), value, dtype)).limits
        assert low < high
        assert abs(low) <= 1e300


def test_8_bit_of_all_its_range_is_shown_as_it_is():
    ramp = np.arange(256, dtype="uint8")[None].repeat(256, axis=0)
    assert of(ramp, ramp).limits == pytest.approx((0, 255), abs=1)


def test_signed_and_small_floats():
    assert of(random.normal(0, 50, (64, 64)).astype("int16")).limits[0] < -100
    low, high = of((random.random((64, 64)) * 1e-6).astype("float32")).limits
    assert 0 <= low < 1e-7
    assert 9e-7 < high <= 1.1e-6


def test_a_signal_that_grows_is_followed_and_does_not_saturate():
    frame = cells(256).astype(float) - 100
    contrast, moves = Contrast(np.dtype("uint16")), 0
    for t in range(120):
        before = contrast.limits
        now = (100 + frame * 1.02**t).clip(0, 65535).astype("uint16")
        contrast.look(now)
        moves += contrast.limits != before
        assert (now > contrast.limits[1]).mean() < 0.01
    assert moves < 70, "it does not move with each frame"


def test_a_signal_that_bleaches_stays_in_sight():
    frame = cells(256).astype(float) - 100
    contrast = Contrast(np.dtype("uint16"))
    for t in range(600):
        now = (100 + frame * 0.995**t).astype("uint16")
        contrast.look(now)
        assert shown(contrast, float(now.max())) > 0.5
        assert shown(contrast, 100) < 0.1


def test_it_does_not_flicker():
    frame = cells(256)
    contrast = Contrast(frame.dtype)
    seen = []
    for _ in range(100):  # of the same scene, with noise
        contrast.look((frame + random.normal(0, 10, frame.shape)).clip(0).astype("uint16"))
        seen.append(contrast.limits)
    assert len(set(seen)) <= 4
    assert len(set(seen[20:])) == 1
    contrast, seen = Contrast(frame.dtype), []
    for _ in range(4):  # of a stack along z, out of focus at both ends
        for z in range(40):
            contrast.look((100 + (frame - 100.0) * np.exp(-(((z - 20) / 8) ** 2))).clip(0).astype("uint16"))
            seen.append(contrast.limits)
    assert len(set(seen[80:])) == 1


def test_a_frame_without_contrast_changes_nothing():
    frame = cells()
    contrast = of(frame)
    before = contrast.limits
    for _ in range(200):
        contrast.look(np.full_like(frame, 100))
    assert contrast.limits == before


def test_what_the_user_chooses_is_the_channel_s_until_it_is_to_be_automatic():
    contrasts, dtype = Contrasts(), np.dtype("uint16")
    first = contrasts.of("run 1", "DAPI", dtype)
    first.look(cells())
    contrasts.choose(first, (3, 33))
    first.look(cells())
    second = contrasts.of("run 2", "DAPI", dtype)
    second.look(cells())
    other = contrasts.of("run 2", "FITC", dtype)
    other.look(cells())
    assert first.limits == second.limits == (3, 33)
    assert not other.by_hand
    contrasts.forget({"run 2"})
    contrasts.automatic("DAPI")
    second.look(cells())
    third = contrasts.of("run 3", "DAPI", dtype)
    third.look(cells())
    for contrast in (second, third):
        assert not contrast.by_hand
        assert contrast.limits[1] > 1000


def test_saturated_pixels_are_those_at_the_largest_value_of_dtype_or_camera():
    frame = np.full((64, 64), 500, "uint16")
    assert saturation(frame) == (0, 0)
    frame[:2] = 4095
    assert saturation(frame) == (128, 4095)
    frame[5] = 4096
    assert saturation(frame) == (0, 0), "it is no camera of 12 bits"
    frame[9, :5] = 65535
    assert saturation(frame) == (5, 65535)
    assert saturation(frame.astype("float32")) == (0, 0)
    assert saturation(frame > 1000) == (0, 0)
    contrast = of(cells())
    low, high = contrast.limits
    assert contrast.measure(frame) == 5
    contrast.marking = True
    assert contrast.limits == (low, 65535)
    contrast.marking = False
    assert contrast.limits == (low, high)
