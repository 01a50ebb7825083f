"""Augmentations against SciPy and NumPy, image by image."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agrad as ag
from agrad.data import (
    Compose,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
    RandomShift,
    RandomVerticalFlip,
)
from agrad.data.transforms import rotated

SHAPES = st.tuples(*[st.integers(1, n) for n in (4, 3, 7, 6)])
DTYPES = st.sampled_from(["float32", "float64", "uint8"])


def images(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    """Return images whose pixels all differ, as far as the dtype allows."""
    return (np.arange(np.prod(shape)).reshape(shape) + 1).astype(dtype)


@given(shape=SHAPES, dtype=DTYPES, seed=st.integers(0, 99))
def test_each_is_a_change_of_its_kind(shape: Any, dtype: str, seed: int) -> None:
    batch = images(shape, dtype)
    before = batch.copy()
    height, width = shape[2:]
    ag.seed(seed)
    for transform in (
        RandomHorizontalFlip(),
        RandomVerticalFlip(),
        RandomShift(1),
        RandomCrop((height, width), padding=1),
    ):
        out = transform(batch)
        assert (out.shape, out.dtype) == (batch.shape, batch.dtype)
        for image, changed in zip(batch, out):
            if isinstance(transform, RandomVerticalFlip):
                allowed = [image, image[:, ::-1]]
            elif isinstance(transform, RandomHorizontalFlip):
                allowed = [image, image[:, :, ::-1]]
            else:
                wide = np.pad(image, [(0, 0), (1, 1), (1, 1)])
                allowed = [
                    wide[:, i : i + height, j : j + width] for i in range(3) for j in range(3)
                ]
            assert any(np.array_equal(changed, one) for one in allowed)
    np.testing.assert_array_equal(batch, before)


@pytest.mark.parametrize("transform", [RandomHorizontalFlip(0.25), RandomVerticalFlip(0.25)])
def test_flips_come_with_their_probability(transform: Any) -> None:
    ag.seed(0)
    batch = images((1, 2, 2)).repeat(2000, axis=0)
    flipped = (transform(batch) != batch).any(axis=(1, 2))
    assert abs(flipped.mean() - 0.25) < 0.04  # four standard deviations
    assert not (type(transform)(0.0)(batch) != batch).any()
    assert (type(transform)(1.0)(batch) != batch).all()


def test_shifts_and_crops_reach_every_place() -> None:
    ag.seed(0)
    batch = images((1, 3, 3)).repeat(300, axis=0)
    assert len(np.unique(RandomShift(1)(batch), axis=0)) == 9
    assert len(np.unique(RandomCrop(2)(batch), axis=0)) == 4
    assert RandomCrop((1, 2))(batch).shape == (300, 1, 2)


@pytest.mark.parametrize("shape", [(5, 9, 8), (5, 2, 6, 7)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rotation_is_scipys(shape: tuple[int, ...], dtype: str) -> None:
    rotate = pytest.importorskip("scipy.ndimage").rotate
    batch = np.random.default_rng(0).random(shape).astype(dtype)
    angles = np.array([-170.0, -30.0, 0.0, 12.5, 90.0])
    out = rotated(batch, np.deg2rad(angles))
    expected = [
        rotate(
            image.astype("float64"),
            angle,
            axes=(-1, -2),
            reshape=False,
            order=1,
            mode="grid-constant",
        )
        for image, angle in zip(batch, angles)
    ]
    np.testing.assert_allclose(out, expected, atol=1e-6 if dtype == "float32" else 1e-12)
    assert out.dtype == dtype


def test_rotations_are_random_within_their_limit() -> None:
    ag.seed(0)
    batch = images((1, 8, 8)).repeat(6, axis=0)
    out = RandomRotation(20)(batch)
    assert len(np.unique(out, axis=0)) == 6
    np.testing.assert_array_equal(RandomRotation(0)(batch), batch)
    np.testing.assert_array_equal(RandomRotation(0)(batch.astype("uint8")), batch)
    # A quarter turn takes the right side to the top.
    np.testing.assert_allclose(rotated(batch, np.full(6, np.pi / 2)), np.rot90(batch, axes=(1, 2)))


def test_a_normalization_by_channel_and_a_chain() -> None:
    batch = images((2, 3, 4, 4))
    out = Normalize([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])(batch)
    np.testing.assert_allclose(out[:, 2], (batch[:, 2] - 3) / 4)
    assert out.dtype == batch.dtype
    chain = Compose([Normalize(1.0, 2.0), lambda x: x * 2])
    np.testing.assert_allclose(chain(batch), batch - 1)


def test_integers_are_not_normalized_but_refused() -> None:
    with pytest.raises(TypeError, match="Normalize: images must hold floats, got uint8; convert"):
        Normalize(0.5, 0.5)(np.full((1, 2, 2), 255, np.uint8))


@pytest.mark.parametrize("transform", [RandomCrop(2), RandomShift(1), RandomRotation(9)])
def test_an_empty_batch_stays_empty(transform: Any) -> None:
    assert transform(images((0, 3, 2, 2))).shape == (0, 3, 2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Normalize(0.0, 0.0), "Normalize: std must be positive"),
        (lambda: Normalize([0.0] * 2, 1.0)(images((1, 3, 2, 2))), "2 channels do not fit images"),
        (lambda: RandomHorizontalFlip(2), r"RandomHorizontalFlip: p must be in \[0, 1\], got 2"),
        (lambda: RandomVerticalFlip(-1), "RandomVerticalFlip: p"),
        (lambda: Normalize(np.nan, 1.0), "Normalize: mean must be finite"),
        (lambda: Normalize(np.zeros((3, 1, 1)), 1.0), "Normalize: mean and std must be numbers or"),
        (lambda: RandomCrop((1, 2, 3)), "RandomCrop: size must be a number or"),
        (lambda: RandomRotation(np.inf), "RandomRotation: degrees must be finite"),
        (lambda: RandomShift(-1), "RandomShift: shift must be at least 0, got -1"),
        (lambda: RandomCrop(0), "RandomCrop: size must be at least 1, got 0"),
        (lambda: RandomCrop(5)(images((1, 4, 9))), "no part of 5x5 in images of shape"),
        (lambda: RandomRotation(-1), "RandomRotation: degrees must not be negative"),
        (lambda: RandomShift(1)(images((4, 4))), r"RandomShift: images must be of .* \(4, 4\)"),
    ],
)
def test_what_cannot_be_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
