"""Small data sets for image classification, each a pair of images and labels."""

import gzip
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agrad.data.arguments import check_split
from agrad.data.download import fetch
from agrad.data.idx import read_idx
from agrad.extras import installed_file

__all__ = ["digits", "fashion_mnist", "mnist"]

Split = Literal["train", "test"]
Examples = tuple[NDArray[np.float32], NDArray[np.int64]]


def digits(split: Split = "train") -> Examples:
    """Return scikit-learn's handwritten digits: images of 8x8 pixels and their labels.

    No download is needed. Sorted by label, every fifth example goes into the test split (360
    examples) and the others into the training split (1,437), so every digit is divided 1:4.

    Args:
        split: "train" or "test".

    Returns:
        Images, float32 in [0, 1] of shape (N, 8, 8), and labels, int64 from 0 to 9 of shape (N,).

    Raises:
        ValueError: `split` is neither "train" nor "test".
        ImportError: scikit-learn is missing.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI repository.

    Example:
        >>> from agrad.data import digits
        >>> images, labels = digits("test")
        >>> images.shape, images.dtype, labels.dtype
        ((360, 8, 8), dtype('float32'), dtype('int64'))
    """
    check_split(split)
    # Importing sklearn.datasets, which could load them, takes longer than a first training.
    with gzip.open(installed_file("sklearn", "datasets/data/digits.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    images, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    test = np.zeros(len(labels), dtype=bool)
    test[np.argsort(labels, kind="stable")[::5]] = True
    chosen = test if split == "test" else ~test
    return images[chosen] / np.float32(16), labels[chosen]


def mnist(split: Split = "train") -> Examples:
    """Return MNIST: images of handwritten digits, 28x28 pixels, and their labels.

    The first call downloads 11 MB into the folder named by the environment variable `AGRAD_DATA`,
    or into the user's cache folder if the variable is not set. Existing files are not checked
    against the published ones.

    Args:
        split: "train" or "test".

    Returns:
        Images, float32 in [0, 1] of shape (N, 28, 28), and labels, int64 from 0 to 9 of shape (N,);
        N is 60,000 for training and 10,000 for testing.

    Raises:
        ValueError: `split` is neither "train" nor "test".
        CorruptDataError: A file is damaged.
        OSError: A file is missing and cannot be downloaded or written.
        ImportError: A file is missing and pooch or rich is not installed.

    Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".
    """
    return _MNIST.load(split)


def fashion_mnist(split: Split = "train") -> Examples:
    """Return Fashion-MNIST: images of ten kinds of clothing, in the format of MNIST.

    Arguments, results and errors are those of `mnist`. The first call downloads 31 MB.

    Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking
    Machine Learning Algorithms", arXiv:1708.07747.
    """
    return _FASHION_MNIST.load(split)


@dataclass(frozen=True)
class _IdxDataSet:
    """A data set published as four files, like MNIST."""

    folder: str
    mirrors: tuple[str, ...]
    md5: dict[str, str]
    train: int = 60_000
    test: int = 10_000

    def load(self, split: Any) -> Examples:
        check_split(split)
        prefix, count = ("train", self.train) if split == "train" else ("t10k", self.test)
        images = self._read(f"{prefix}-images-idx3-ubyte.gz", (count, 28, 28))
        labels = self._read(f"{prefix}-labels-idx1-ubyte.gz", (count,))
        return np.divide(images, 255, dtype=np.float32), labels.astype(np.int64)

    def _read(self, file: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        return read_idx(fetch(f"{self.folder}/{file}", self.md5[file], self.mirrors), shape)


_MNIST = _IdxDataSet(
    folder="mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    md5={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
)

_FASHION_MNIST = _IdxDataSet(
    folder="fashion_mnist",
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    md5={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
)
