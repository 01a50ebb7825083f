"""Small data sets for image classification, each as a pair of images and labels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agrad.data.download import fetch, require
from agrad.data.idx import read_idx

__all__ = ["Split", "digits", "fashion_mnist", "mnist"]

Split = Literal["train", "test"]
Examples = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class _File:
    name: str
    shape: tuple[int, ...]
    md5: str


@dataclass(frozen=True)
class _Published:
    """A data set of IDX files: the folder that keeps them, who publishes them, and the files."""

    folder: str
    mirrors: tuple[str, ...]
    files: dict[str, tuple[_File, _File]]  # images and labels of each split

    def load(self, split: Split) -> Examples:
        images, labels = (
            read_idx(fetch(f"{self.folder}/{file.name}", file.md5, self.mirrors), file.shape)
            for file in self.files[_checked(split)]
        )
        return images / np.float32(255), labels.astype(np.int64)


_MNIST = _Published(
    folder="mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    files={
        "train": (
            _File(
                "train-images-idx3-ubyte.gz",
                (60_000, 28, 28),
                md5="f68b3c2dcbeaaa9fbdd348bbdeb94873",
            ),
            _File(
                "train-labels-idx1-ubyte.gz", 
                (60_000,), 
                md5="d53e105ee54ea40749a09fcbcd1e9432",
            ),
        ),
        "test": (
            _File(
                "t10k-images-idx3-ubyte.gz",
                (10_000, 28, 28),
                md5="9fb629c4189551a2d022fa330f9573f3",
            ),
            _File(
                "t10k-labels-idx1-ubyte.gz",
                (10_000,),
                md5="ec29112dd5afa0611ce80d1b7f02629c",
            ),
        ),
    },
)
