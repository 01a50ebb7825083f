"""The data sets themselves, and the packages and splits they ask for."""

import hashlib
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agrad.data import digits, fashion_mnist, mnist


@pytest.mark.parametrize("module", ["pooch", "rich.progress"])
def test_missing_packages_are_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'need (pooch|rich): pip install "agrad\[demo\]"'):
        mnist()
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r'need sklearn: pip install "agrad\[demo\]"'):
        digits()


@pytest.mark.parametrize("data_set", [digits, mnist, fashion_mnist])
def test_the_split_is_train_or_test(data_set: Any) -> None:
    with pytest.raises(ValueError, match=r"split must be .*, got 'tset'"):
        data_set("tset")


def test_digits_are_split_evenly_and_wholly() -> None:
    source = pytest.importorskip("sklearn.datasets").load_digits()
    (images, labels), (test_images, test_labels) = digits("train"), digits("test")
    assert (images.shape, test_images.shape) == ((1437, 8, 8), (360, 8, 8))
    assert (images.dtype, labels.dtype) == (np.float32, np.int64)
    assert (images.min(), images.max()) == (0, 1)
    shares = np.bincount(test_labels) / np.bincount(source.target)
    assert np.all(np.abs(shares - 0.2) < 0.01)

    def counts(images: Any, labels: Any) -> Any:
        table = np.column_stack([labels, images.reshape(len(images), -1)])
        return np.unique(table, axis=0, return_counts=True)

    both = counts(np.concatenate([images, test_images]) * 16, np.concatenate([labels, test_labels]))
    for found, expected in zip(both, counts(source.images, source.target)):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("split", "md5s"),
    [
        ("train", "6bbc9ace898e44ae57da46a324031adb a25bea736e30d166cdddb491f175f624"),
        ("test", "2646ac647ad5339dbf082846283269ea 27ae3e4e09519cfbb04c329615203637"),
    ],
)
def test_mnist_is_what_was_published(data_path: Path, split: Any, md5s: str) -> None:
    images, labels = mnist(split)
    count = len(labels)
    assert images.shape == (count, 28, 28)
    assert (images.dtype, labels.dtype) == (np.float32, np.int64)
    pixels = np.rint(images * 255).astype(np.uint8)
    np.testing.assert_array_equal(pixels[:100] / np.float32(255), images[:100])
    for array, expected in zip((pixels, labels.astype(np.uint8)), md5s.split()):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        assert hashlib.md5(header + array.tobytes()).hexdigest() == expected


@pytest.mark.parametrize(("split", "each"), [("train", 6000), ("test", 1000)])
def test_fashion_mnist_has_ten_even_classes(data_path: Path, split: Any, each: int) -> None:
    images, labels = fashion_mnist(split)
    assert images.shape == (10 * each, 28, 28)
    assert (images.min(), images.max()) == (0, 1)
    np.testing.assert_array_equal(np.bincount(labels), [each] * 10)
