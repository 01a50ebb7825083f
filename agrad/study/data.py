"""The data sets of the studies and of `agrad train`, by name."""

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
"""The names of the image data sets."""
NAMES = (*IMAGES[:2], "imdb", *IMAGES[2:])
"""The names of all data sets."""


@dataclass(frozen=True)
class DataSet:
    """Examples and labels for training and for testing.

    Examples are images, float32 of shape (N, height, width), if `vocabulary` is None. Otherwise
    they are texts: ids below `vocabulary`, int32 of shape (N, length).
    """

    train: tuple[Any, Any]
    test: tuple[Any, Any]
    vocabulary: int | None = None

    def to(self, device: str) -> "DataSet":
        """Return the data set with its arrays on `device`."""
        train, test = (
            (move(inputs, device), move(labels, device))
            for inputs, labels in (self.train, self.test)
        )
        return replace(self, train=train, test=test)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.train[1].max()) + 1


def load_data(name: str) -> DataSet:
    """Return the data set called `name`, one of `NAMES`; "imdb" has the first 200 words each."""
    if name == "imdb":
        return DataSet(
            data_sets.imdb("train", _VOCABULARY), data_sets.imdb("test", _VOCABULARY), _VOCABULARY
        )
    return DataSet(_IMAGE_SETS[name]("train"), _IMAGE_SETS[name]("test"))
