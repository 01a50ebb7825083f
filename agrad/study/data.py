"""The data that the studies and `agrad train` learn from, by name."""

from dataclasses import dataclass, replace
from typing import Any

from agrad import data as data_sets
from agrad.backend import move

__all__ = ["IMAGES", "NAMES", "DataSet", "load_data"]

_IMAGE_SETS = {
    "digits": data_sets.digits,
    "fashion-mnist": data_sets.fashion_mnist,
    "mnist": data_sets.mnist,
}
_VOCABULARY = 5000
IMAGES = tuple(_IMAGE_SETS)
"""The names of the sets of images."""
NAMES = (*IMAGES[:2], "imdb", *IMAGES[2:])
"""All names."""


@dataclass(frozen=True)
class DataSet:
    """Examples and labels for training and for testing.

    Examples are images, float32 of shape (N, height, width), or, where `vocabulary` is a number,
    texts: as many ids, int32 of shape (N, length).
    """

    train: tuple[Any, Any]
    test: tuple[Any, Any]
    vocabulary: int | None = None

    def to(self, device: str) -> "DataSet":
        """Return the data set on a device."""
        train, test = (
            (move(inputs, device), move(labels, device))
            for inputs, labels in (self.train, self.test)
        )
        return replace(self, train=train, test=test)

    @property
    def classes(self) -> int:
        """How many classes the labels tell apart."""
        return int(self.train[1].max()) + 1


def load_data(name: str) -> DataSet:
    """Return the data set of that name, one of `NAMES`; of "imdb" the first 200 words of each."""
    if name == "imdb":
        return DataSet(
            data_sets.imdb("train", _VOCABULARY), data_sets.imdb("test", _VOCABULARY), _VOCABULARY
        )
    return DataSet(_IMAGE_SETS[name]("train"), _IMAGE_SETS[name]("test"))
