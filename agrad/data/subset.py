"""Data sets as objects: subsets, random splits, and the collation of examples into batches."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agrad import random
from agrad.arguments import integer
from agrad.data.several import is_several, mapped, packed, positional, unpacked

__all__ = ["Dataset", "Subset", "collate", "collate_sequences", "random_split"]

Collate = Callable[[list[Any]], tuple[Any, ...]]
_Fit = Callable[[list[NDArray[Any]]], list[NDArray[Any]]]


class Dataset(Protocol):
    """Examples by number: anything with `__len__` and `__getitem__`.

    An example is a tuple of arrays or numbers, such as an image and its class, or a single array or
    number. For a model of several inputs, a part of it may be a tuple of arrays or a dict. In
    `Batches`, its draws from `agrad.random.generator()` depend only on the seed, the epoch and the
    batch.
    """

    def __len__(self) -> int:
        """Return the number of examples."""

    def __getitem__(self, index: int, /) -> Any:
        """Return an example."""


class Subset:
    """Some examples of a data set, in a given order.

    Args:
        dataset: The data set.
        indices: The numbers of the examples.

    Raises:
        ValueError: An index is out of range.
        TypeError: An index is not an integer.

    Example:
        >>> from agrad.data import Subset
        >>> subset = Subset("abcdef", [4, 0])
        >>> len(subset), subset[0]
        (2, 'e')
    """

    def __init__(self, dataset: Dataset, indices: Iterable[int]) -> None:
        self.dataset = positional(dataset)
        given = np.asarray(list(indices))
        if given.size and given.dtype.kind not in "iu":
            raise TypeError(f"Subset: indices must be integers, got {given.dtype}")
        self.indices = given.astype(np.int64)
        wrong = self.indices[(self.indices < 0) | (self.indices >= len(dataset))]
        if wrong.size:
            raise ValueError(f"Subset: the index {wrong[0]} is not in the {len(dataset)} examples")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]


def random_split(data: Any, lengths: Sequence[float], seed: int | None = None) -> list[Any]:
    """Divide examples at random into disjoint parts.

    Args:
        data: A data set, or a tuple of arrays of equal length; entries of the tuple may be tuples
            or dicts of arrays.
        lengths: The sizes of the parts, which add up to the number of examples; or their shares,
            which add up to 1. Shares are rounded down; the examples left over go to the first
            parts, one each.
        seed: The non-negative seed; by default drawn from `agrad.random.generator()`.

    Returns:
        A `Subset` for each part, or for arrays a tuple of arrays.

    Raises:
        ValueError: The sum is neither the number of examples nor 1, or a length is negative; arrays
            differ in length.
        TypeError: `seed` is not an integer, or an entry of a tuple is not an array.

    Example:
        >>> import numpy as np
        >>> from agrad.data import random_split
        >>> x, y = np.arange(10), np.arange(10) ** 2
        >>> (train_x, train_y), (test_x, test_y) = random_split((x, y), [0.8, 0.2], seed=0)
        >>> test_x, test_y
        (array([8, 1]), array([64,  1]))
    """
    if isinstance(data, tuple):
        data = tuple(mapped(positional, entry) for entry in data)
        arrays = [array for entry in data for array in unpacked(entry)[1]]
        for array in arrays:
            if not hasattr(array, "shape"):
                raise TypeError(
                    f"random_split: data has a {type(array).__name__}; convert it with "
                    "numpy.asarray"
                )
    else:
        arrays = [data]
    counts = [len(array) for array in arrays]
    if len(set(counts)) != 1:
        raise ValueError(f"random_split: data must have arrays of equal length, got {counts}")
    sizes = _sizes(counts[0], list(lengths))
    if seed is None:
        seed = int(random.generator().integers(2**63))
    seed = integer("random_split", "seed", seed, least=0)
    order = np.random.default_rng(seed).permutation(counts[0])
    parts = np.split(order, np.cumsum(sizes)[:-1])
    if isinstance(data, tuple):
        return [tuple(_rows(entry, part) for entry in data) for part in parts]
    return [Subset(data, part) for part in parts]


def _rows(entry: Any, rows: NDArray[Any]) -> Any:
    return mapped(lambda array: array[rows], entry)


def _sizes(count: int, lengths: list[float]) -> list[int]:
    if any(not length >= 0 for length in lengths):
        raise ValueError(f"random_split: lengths must not be negative, got {lengths}")
    if sum(lengths) == count and all(length == int(length) for length in lengths):
        return [int(length) for length in lengths]
    if not math.isclose(sum(lengths), 1):
        raise ValueError(
            f"random_split: the sum of lengths must be {count}, the number of examples, or 1, "
            f"got {lengths}"
        )
    sizes = [int(count * length) for length in lengths]
    for i in range(count - sum(sizes)):
        sizes[i % len(sizes)] += 1
    return sizes


def collate(examples: list[Any]) -> tuple[Any, ...]:
    """Return a batch: the parts of the examples, stacked along a new first axis.

    Args:
        examples: Tuples of arrays or numbers of the same shapes; any other example is a
            single part. A part may be a tuple of arrays, or a dict, and stays one in the batch.

    Raises:
        ValueError: The parts of the examples differ in number, names or shape.

    Example:
        >>> import numpy as np
        >>> from agrad.data import collate
        >>> images, labels = collate([(np.zeros((2, 2)), 3), (np.ones((2, 2)), 4)])
        >>> images.shape, labels
        ((2, 2, 2), array([3, 4]))
    """
    return _collated("collate", examples, list)


def collate_sequences(examples: list[Any]) -> tuple[Any, ...]:
    """Return a batch of examples of different lengths, padded with zeros at their ends.

    Every part whose examples have axes is padded along the first of them, to the longest of the
    batch. For ids, 0 is the padding of a `Vocabulary` and of `nn.Embedding(..., padding_idx=0)`.

    Args:
        examples: Tuples of arrays or numbers, such as ids of shape (length,) and a class; see
            `collate`.

    Raises:
        ValueError: The parts of the examples differ in number or names, or in more than the length
            of their first axis.

    Example:
        >>> import numpy as np
        >>> from agrad.data import collate_sequences
        >>> collate_sequences([(np.array([4, 5, 6]), 1), (np.array([7]), 0)])
        (array([[4, 5, 6],
               [7, 0, 0]]), array([1, 0]))
    """
    return _collated("collate_sequences", examples, _padded)


def _collated(owner: str, examples: list[Any], fitted: _Fit) -> tuple[Any, ...]:
    tuples = [example if isinstance(example, tuple) else (example,) for example in examples]
    sizes = {len(example) for example in tuples}
    if len(sizes) != 1:
        raise ValueError(f"{owner}: the examples have different numbers of parts, {sorted(sizes)}")
    return tuple(_part(owner, f"part {i}", part, fitted) for i, part in enumerate(zip(*tuples)))


def _part(owner: str, name: str, parts: Sequence[Any], fitted: _Fit) -> Any:
    """Return one part of the batch, made from that part of each example."""
    if not any(map(is_several, parts)):
        return _stacked(owner, name, fitted([_array(owner, name, part) for part in parts]))
    kinds = {(names, len(arrays)) for names, arrays in map(unpacked, parts)}
    if len(kinds) > 1:
        raise ValueError(f"{owner}: {name} must have the same parts in all examples")
    names, arrays = unpacked(parts[0])
    columns = zip(*(unpacked(part)[1] for part in parts))
    keys = names or range(len(arrays))
    return packed(
        names,
        [_part(owner, f"{name}[{key!r}]", column, fitted) for key, column in zip(keys, columns)],
    )


def _array(owner: str, name: str, part: Any) -> NDArray[Any]:
    try:
        return np.asarray(part)
    except ValueError:
        raise ValueError(
            f"{owner}: {name} of an example is a {type(part).__name__}, not an array; an "
            "example of several parts must be a tuple"
        ) from None


def _stacked(owner: str, name: str, parts: list[NDArray[Any]]) -> NDArray[Any]:
    shapes = {part.shape for part in parts}
    if len(shapes) > 1:
        raise ValueError(
            f"{owner}: {name} of the examples has the shapes {sorted(shapes)[:3]}; they must agree"
        )
    return np.stack(parts)


def _padded(parts: list[NDArray[Any]]) -> list[NDArray[Any]]:
    if any(part.ndim == 0 for part in parts):
        return parts
    longest = max(len(part) for part in parts)
    return [np.pad(part, [(0, longest - len(part)), *[(0, 0)] * (part.ndim - 1)]) for part in parts]
