"""Batches of arrays or of a data set, in a seeded order that can be resumed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np

from agrad import random
from agrad.arguments import integer
from agrad.backend import device_of, move
from agrad.core.tensor import plain
from agrad.data.several import is_several, mapped, positional, unpacked
from agrad.data.subset import Collate, collate

__all__ = ["Batches"]


class Batches:
    """Batches of arrays of equal length, or of a data set, shuffled differently in every epoch.

    Iterating runs through one epoch and yields tuples with one batch of each array. The last batch
    is shorter if `batch_size` does not divide the length. The order depends on the seed and the
    epoch alone. Iteration always continues after the last batch that was yielded. A loop left by
    `break` therefore resumes with the next batch, as does a new object that has loaded the state.

    Args:
        arrays: Arrays, Tensors or tables of pandas, of shape (N, ...), N examples each. Batches are
            on the device of their array. For a model of several inputs, one of them may be a tuple
            or a dict of arrays, and so is its batch. Or a single data set: an object with `__len__`
            and `__getitem__` that returns examples, tuples of arrays or numbers; see `Dataset`.
        batch_size: The number of examples in a batch.
        shuffle: Whether to shuffle the examples in every epoch; otherwise they keep their order.
        seed: The non-negative seed of the order; by default it is drawn from
            `agrad.random.generator()`, so `ag.seed` determines it.
        drop_last: Whether to omit a last batch shorter than `batch_size`.
        transform: A function of the first array of each batch, or of its tuple or dict of arrays,
            that returns its replacement, such as augmented images. Its draws from
            `agrad.random.generator()` depend only on the seed, the epoch and the batch.
        weights: A non-negative weight for each example. An epoch then draws N examples with
            replacement, each with a probability proportional to its weight; this needs `shuffle`.
        collate: A function that makes a batch, a tuple of arrays, from a list of examples of a data
            set; by default `agrad.data.collate`.

    Raises:
        TypeError: An entry of `arrays` has no shape, `batch_size` or `seed` is not an integer, or
            `transform` or `collate` is not a function.
        ValueError: There are no arrays, their lengths differ, an epoch has no batch, `batch_size`
            is below 1, or `seed` is negative; the weights are not N finite, non-negative numbers,
            or are all 0; `collate` is given for arrays.

    Example:
        >>> import numpy as np
        >>> from agrad.data import Batches
        >>> batches = Batches(np.arange(5), np.arange(5) ** 2, batch_size=2, seed=0)
        >>> for x, y in batches:
        ...     print(x, y)
        [2 4] [ 4 16]
        [3 0] [9 0]
        [1] [1]
        >>> len(batches), batches.epoch
        (3, 1)
    """

    def __init__(
        self,
        *arrays: Any,
        batch_size: int,
        shuffle: bool = True,
        seed: int | None = None,
        drop_last: bool = False,
        transform: Callable[[Any], Any] | None = None,
        weights: Any = None,
        collate: Collate | None = None,
    ) -> None:
        self._arrays = tuple(mapped(positional, part) for part in arrays)
        self._dataset = arrays[0] if len(arrays) == 1 and _is_dataset(arrays[0]) else None
        if collate is not None and self._dataset is None:
            raise ValueError("Batches: collate needs a data set, but was given with arrays")
        _require_functions(transform=transform, collate=collate)
        self._examples = (
            _common_length(self._arrays) if self._dataset is None else len(self._dataset)
        )
        self._collate = collate
        self._transform = transform
        self._shares = None if weights is None else _shares(weights, self._examples, shuffle)
        self._batch_size = integer("Batches", "batch_size", batch_size, least=1)
        self._shuffle = bool(shuffle)
        self._drop_last = bool(drop_last)
        if len(self) == 0:
            raise ValueError(
                f"Batches: no batch of {self._batch_size} in {self._examples} examples; "
                "lower batch_size, or pass drop_last=False and at least one example"
            )
        if seed is None:
            seed = int(random.generator().integers(2**63))
        self._seed = integer("Batches", "seed", seed, least=0)
        self._start(epoch=0, batch=0)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        rounding = 0 if self._drop_last else self._batch_size - 1
        return (self._examples + rounding) // self._batch_size

    @property
    def epoch(self) -> int:
        """The number of completed epochs; one is complete once its last batch has been yielded."""
        return self._epoch

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Yield the remaining batches of the current epoch."""
        epoch = self._epoch
        while self._epoch == epoch:
            yield self._next()

    def forever(self) -> Iterator[tuple[Any, ...]]:
        """Yield the batches of epoch after epoch, without end.

        Example:
            >>> import itertools
            >>> import numpy as np
            >>> from agrad.data import Batches
            >>> batches = Batches(np.arange(3), batch_size=2, shuffle=False)
            >>> for (x,) in itertools.islice(batches.forever(), 4):
            ...     print(x)
            [0 1]
            [2]
            [0 1]
            [2]
        """
        while True:
            yield from self

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the order as plain values.

        An object that loads this state continues with the next batch.

        Example:
            >>> import numpy as np
            >>> from agrad.data import Batches
            >>> batches = Batches(np.arange(4), batch_size=1, seed=0)
            >>> for (x,) in batches:
            ...     break
            >>> resumed = Batches(np.arange(4), batch_size=1)
            >>> resumed.load_state_dict(batches.state_dict())
            >>> list(resumed) == list(batches)
            True
        """
        return {
            **self._settings(),
            "seed": self._seed,
            "epoch": self._epoch,
            "batch": self._batch,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the position saved in `state`.

        After an error, these Batches are unchanged.

        Args:
            state: What `state_dict` returned.

        Raises:
            ValueError: `state` is not a state of Batches, or was saved with a different number of
                examples or different settings.
            TypeError: Its seed, epoch or batch is not an integer.
        """
        settings = self._settings()
        if set(state) != {*settings, "seed", "epoch", "batch"}:
            raise ValueError(
                f"Batches.load_state_dict: not a state of Batches; its keys are {sorted(state)}"
            )
        for name, value in settings.items():
            if state[name] != value:
                raise ValueError(
                    f"Batches.load_state_dict: the state was saved with {name}={state[name]!r}, "
                    f"these Batches have {value!r}; create them with the same arrays and settings"
                )
        seed = integer("Batches", "seed", state["seed"], least=0)
        epoch = integer("Batches", "epoch", state["epoch"], least=0)
        batch = integer("Batches", "batch", state["batch"], least=0)
        if batch >= len(self):
            raise ValueError(
                f"Batches.load_state_dict: batch must be below {len(self)}, the number of batches "
                f"in an epoch, got {batch}"
            )
        self._seed = seed
        self._start(epoch, batch)

    def _settings(self) -> dict[str, Any]:
        settings = {
            "examples": self._examples,
            "batch_size": self._batch_size,
            "shuffle": self._shuffle,
            "drop_last": self._drop_last,
        }
        return settings if self._shares is None else settings | {"weighted": True}

    def _start(self, epoch: int, batch: int) -> None:
        self._epoch = epoch
        self._batch = batch
        if not self._shuffle:
            self._order = np.arange(self._examples)
            return
        rng = np.random.default_rng([epoch, self._seed])
        if self._shares is None:
            self._order = rng.permutation(self._examples)
        else:
            self._order = rng.choice(self._examples, self._examples, p=self._shares)

    def _next(self) -> tuple[Any, ...]:
        start = self._batch * self._batch_size
        rows = self._order[start : start + self._batch_size]
        draws = self._dataset is not None or self._transform is not None
        with random.seeded(self._seed, self._epoch, self._batch) if draws else nullcontext():
            batch = self._load(rows)
        # Advance before yielding, so that a state saved while this batch is used names the next.
        self._batch += 1
        if self._batch == len(self):
            self._start(self._epoch + 1, batch=0)
        return batch

    def _load(self, rows: Any) -> tuple[Any, ...]:
        if self._dataset is None:
            places: dict[str, Any] = {}

            def taken(array: Any) -> Any:
                device = device_of(plain(array))
                if device not in places:
                    places[device] = move(rows, device)  # once for all arrays of a device
                return array[places[device]]

            batch = tuple(mapped(taken, part) for part in self._arrays)
        else:
            examples = [self._dataset[int(row)] for row in rows]
            batch = tuple((self._collate or collate)(examples))
        if self._transform is None:
            return batch
        return self._transform(batch[0]), *batch[1:]


def _is_dataset(data: Any) -> bool:
    """Return whether `data` holds examples by number, and is neither an array nor a list."""
    if hasattr(data, "shape") or isinstance(data, list | tuple | dict | str | bytes):
        return False
    return hasattr(data, "__len__") and hasattr(data, "__getitem__")


def _require_functions(**functions: Any) -> None:
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise TypeError(f"Batches: {name} must be a function, got a {type(function).__name__}")


def _shares(weights: Any, examples: int, shuffle: bool) -> Any:
    """Return the probabilities of the examples."""
    try:
        shares = np.asarray(weights, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"Batches: weights must be numbers, got {weights!r:.50}") from None
    if not shuffle:
        raise ValueError("Batches: weights need shuffle=True")
    if shares.shape != (examples,):
        raise ValueError(
            f"Batches: weights must be of shape ({examples},), one for each example, got "
            f"{shares.shape}"
        )
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.any()):
        raise ValueError("Batches: weights must be finite, not negative and not all 0")
    return shares / shares.sum()


def _common_length(arrays: tuple[Any, ...]) -> int:
    """Return the length that the arrays' first axes share."""
    lengths = []
    for position, part in enumerate(arrays):
        names, own = unpacked(part)
        for i, array in enumerate(own):
            where = f"argument {position}"
            if is_several(part):
                where += f"[{names[i]!r}]" if names else f"[{i}]"
            if not hasattr(array, "shape"):
                raise TypeError(
                    f"Batches: {where} is of type {type(array).__name__}; "
                    "convert it with numpy.asarray"
                )
            if not array.shape:
                raise ValueError(f"Batches: {where} is 0-d; it has no axis of examples")
            lengths.append(array.shape[0])
    if not lengths:
        raise ValueError("Batches: at least one array is needed")
    if len(set(lengths)) > 1:
        raise ValueError(
            f"Batches: the arrays have {lengths} examples; their first axes must have equal length"
        )
    return int(lengths[0])
