"""Data sets as objects: subsets, splits and batches, with and without a thread."""

import copy
import itertools
import pickle
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agrad as ag
from agrad.data import (
    Batches,
    Prefetch,
    RandomShift,
    Subset,
    collate,
    collate_sequences,
    random_split,
)


class Noisy:
    """Examples that draw random numbers: a number with noise, and the number."""

    def __init__(self, count: int = 7) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return index + ag.random.generator().normal(size=2), index


def listed(batches: Any, count: int) -> list[Any]:
    taken = itertools.islice(batches.forever(), count)
    return [[array.tolist() for array in batch] for batch in taken]


@pytest.mark.parametrize("wrap", [lambda batches: batches, Prefetch, lambda b: Prefetch(b, size=5)])
def test_the_seed_the_epoch_and_the_batch_determine_what_a_data_set_draws(wrap: Any) -> None:
    expected = listed(Batches(Noisy(), batch_size=3, seed=1), 9)
    ag.seed(8)
    before = ag.random.get_state()
    assert listed(wrap(Batches(Noisy(), batch_size=3, seed=1)), 9) == expected
    assert ag.random.get_state() == before
    noise = np.concatenate([np.subtract(x, np.expand_dims(y, 1)) for x, y in expected])
    assert len(np.unique(noise.round(9))) == noise.size  # every epoch and batch has new draws
    assert sorted(np.concatenate([labels for _, labels in expected[:3]])) == list(range(7))


@given(
    stops=st.lists(st.integers(0, 5), max_size=4),
    size=st.integers(1, 4),
    batch_size=st.integers(1, 8),
)
def test_prefetched_batches_resume_like_batches(
    stops: list[int], size: int, batch_size: int
) -> None:
    def make() -> Batches:
        return Batches(Noisy(), batch_size=batch_size, seed=3)

    plain, ahead = make(), Prefetch(make(), size)
    for stop in stops:
        assert listed(ahead, stop) == listed(plain, stop)
        assert listed(ahead, 1) == listed(plain, 1)  # what was loaded ahead is not lost
        assert ahead.state_dict() == plain.state_dict()
        assert ahead.epoch == plain.epoch
        ahead_again = Prefetch(make(), size)
        ahead_again.load_state_dict(plain.state_dict())
        ahead = ahead_again
    assert list(map(len, ahead)) == list(map(len, plain))
    assert len(ahead) == len(plain)


def test_an_error_comes_with_the_batch_it_belongs_to() -> None:
    class Broken(Noisy):
        def __getitem__(self, index: int) -> Any:
            if index == 4:
                raise KeyError("the fifth")
            return super().__getitem__(index)

    batches = Prefetch(Batches(Broken(), batch_size=2, shuffle=False, seed=0))
    seen = []
    with pytest.raises(KeyError, match="the fifth"):
        seen.extend(batches)
    assert len(seen) == 2
    assert batches.state_dict()["batch"] == 2
    assert threading.active_count() == 1 or not [
        t for t in threading.enumerate() if t.name.startswith("Thread-") and "_fill" in t.name
    ]


def test_no_thread_outlives_a_loop_that_is_left() -> None:
    for _ in Prefetch(Batches(Noisy(), batch_size=1), size=1):
        break
    assert not [thread for thread in threading.enumerate() if "_fill" in thread.name]


@pytest.mark.parametrize("way", ["another loop", "a state"])
def test_a_loop_does_not_go_on_beside_another_or_from_another_state(way: str) -> None:
    batches = Prefetch(Batches(np.arange(8), batch_size=1, shuffle=False))
    loop = iter(batches)
    assert [next(loop)[0].item() for _ in range(2)] == [0, 1]
    if way == "another loop":
        other = iter(batches)
        assert next(other)[0].item() == 2
    else:
        batches.load_state_dict({**batches.state_dict(), "batch": 3})
    with pytest.raises(RuntimeError, match="Prefetch: another loop has begun since, or a state"):
        next(loop)
    rest = other if way == "another loop" else batches
    assert [x.item() for (x,) in pickle.loads(pickle.dumps(batches))] == [3, 4, 5, 6, 7]
    assert [x.item() for (x,) in rest] == [3, 4, 5, 6, 7]
    assert [x.item() for (x,) in copy.deepcopy(batches)] == [*range(8)]


def test_a_refused_state_does_not_end_a_loop() -> None:
    batches = Prefetch(Batches(np.arange(4), batch_size=1, shuffle=False))
    seen = []
    for (x,) in batches:
        with pytest.raises(ValueError, match="not a state of Batches"):
            batches.load_state_dict({})
        seen.append(x.item())
    assert seen == [0, 1, 2, 3]


def test_a_thread_that_waits_for_a_batch_ends_when_another_loop_begins() -> None:
    waiting, go_on = threading.Event(), threading.Event()

    def slow(x: Any) -> Any:
        waiting.set()
        go_on.wait(10)
        return x

    batches = Prefetch(Batches(np.arange(4), batch_size=1, shuffle=False, transform=slow))
    errors: list[Exception] = []

    def consume() -> None:
        try:
            list(batches)
        except RuntimeError as error:
            errors.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert waiting.wait(10)
    threading.Timer(0.1, go_on.set).start()
    assert len(list(batches)) == 4
    consumer.join(10)
    assert len(errors) == 1


def test_a_transform_changes_the_first_array() -> None:
    images, labels = np.ones((6, 4, 4), np.float32), np.arange(6)
    found = [
        listed(Batches(images, labels, batch_size=4, seed=0, transform=RandomShift(2)), 4)
        for _ in range(2)
    ]
    assert found[0] == found[1]
    plain = listed(Batches(images, labels, batch_size=4, seed=0), 4)
    assert [batch[1] for batch in found[0]] == [batch[1] for batch in plain]
    assert found[0] != plain


def test_weights_are_the_shares_of_the_draws() -> None:
    weights = np.array([0.0, 1.0, 3.0])
    batches = Batches(
        np.repeat([0, 1, 2], 400), batch_size=600, weights=weights.repeat(400), seed=0
    )
    drawn = np.concatenate([x for (x,) in itertools.islice(batches.forever(), 4)])
    counts = np.bincount(drawn, minlength=3)
    assert len(drawn) == 2400
    assert counts[0] == 0
    # A binomial standard deviation is 21.
    assert abs(counts[1] - 600) < 85
    state = batches.state_dict()
    with pytest.raises(ValueError, match="not a state of Batches"):
        Batches(np.arange(1200), batch_size=600).load_state_dict(state)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([np.ones(3)], {"collate": collate}, "collate needs a data set"),
        ([np.ones(3)], {"weights": [1, 2]}, r"weights must be of shape \(3,\), .* got \(2,\)"),
        ([np.ones(3)], {"weights": [1, -2, 1]}, "weights must be finite, not negative and not"),
        ([np.ones(3)], {"weights": [0, 0, 0]}, "weights must be finite, not negative and not"),
        ([np.ones(3)], {"weights": [1, 1, 1], "shuffle": False}, "weights need shuffle=True"),
        ([Noisy(0)], {}, "no batch of 2 in 0 examples"),
    ],
)
def test_options_that_do_not_fit_are_named(data: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"Batches: {message}"):
        Batches(*data, batch_size=2, **options)


def test_masks_and_fractions_and_lists_are_refused() -> None:
    with pytest.raises(TypeError, match="Subset: indices must be integers, got bool"):
        Subset(Noisy(), np.arange(3) < 2)
    with pytest.raises(TypeError, match="Subset: indices must be integers, got float64"):
        Subset(Noisy(), [1.5])
    with pytest.raises(TypeError, match="random_split: data has a list; convert it"):
        random_split(([1, 2], np.ones(2)), [1, 1])
    with pytest.raises(ValueError, match=r"collate: part 0 of an example is a list, .* a tuple"):
        collate([[np.ones(2), 1]])


def test_prefetch_takes_only_batches() -> None:
    with pytest.raises(TypeError, match="Prefetch: batches must be Batches, got a list"):
        Prefetch([])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Prefetch: size must be at least 1, got 0"):
        Prefetch(Batches(Noisy(), batch_size=1), size=0)


def test_sequences_are_padded_to_the_longest() -> None:
    examples = [(np.ones((n, 2)), np.arange(n), n) for n in (3, 1, 2)]
    vectors, ids, lengths = collate_sequences(examples)
    assert vectors.shape == (3, 3, 2)
    assert ids.tolist() == [[0, 1, 2], [0, 0, 0], [0, 1, 0]]
    assert lengths.tolist() == [3, 1, 2]
    assert vectors.sum() == 12
    with pytest.raises(ValueError, match=r"collate: part 0 of the examples has the shapes"):
        collate(examples)
    with pytest.raises(ValueError, match=r"different numbers of parts, \[1, 2\]"):
        collate([(1, 2), 3])


@given(count=st.integers(1, 40), first=st.floats(0, 1), seed=st.integers(0, 9))
def test_a_split_divides_the_examples(count: int, first: float, seed: int) -> None:
    one, other = random_split(Noisy(count), [first, 1 - first], seed)
    assert sorted([*one.indices, *other.indices]) == list(range(count))
    assert abs(len(one) - count * first) <= 1
    (x, y), (a, b) = random_split((np.arange(count), -np.arange(count)), [first, 1 - first], seed)
    np.testing.assert_array_equal(x, one.indices)
    np.testing.assert_array_equal(np.concatenate([x, a]), -np.concatenate([y, b]))


def test_a_split_by_numbers_and_the_seed_of_the_thread() -> None:
    ag.seed(0)
    first = random_split(Noisy(5), [2, 3])
    ag.seed(0)
    again = random_split(Noisy(5), [2, 3])
    assert list(first[0].indices) == list(again[0].indices)
    assert [len(part) for part in first] == [2, 3]
    for lengths, message in (([1, 2], "the sum of lengths must be 5"), ([-1, 6], "negative")):
        with pytest.raises(ValueError, match=message):
            random_split(Noisy(5), lengths)
    with pytest.raises(ValueError, match=r"arrays of equal length, got \[2, 3\]"):
        random_split((np.ones(2), np.ones(3)), [1])
    with pytest.raises(ValueError, match="the index 5 is not in the 5 examples"):
        Subset(Noisy(5), [0, 5])


def test_parts_of_several_arrays_are_batched_each() -> None:
    examples = [((np.ones(2) * n, np.array(n)), {"b": n, "a": np.zeros(3)}, n) for n in (3, 1)]
    pair, named, numbers = collate(examples)
    assert [array.tolist() for array in pair] == [[[3, 3], [1, 1]], [3, 1]]
    assert {name: array.shape for name, array in named.items()} == {"b": (2,), "a": (2, 3)}
    assert numbers.tolist() == [3, 1]
    assert collate([((1, 2), 0), ((3, 4), 1)])[0].tolist() == [[1, 2], [3, 4]]
    (ids,), _ = collate_sequences([((np.arange(n),), n) for n in (1, 3)])
    assert ids.tolist() == [[0, 0, 0], [0, 1, 2]]
    with pytest.raises(ValueError, match=r"collate: part 0\['a'\] of the examples has the shapes"):
        collate([({"a": np.ones(2)}, 1), ({"a": np.ones(3)}, 1)])
    for other in ({"b": 1}, 1, (np.ones(2),)):
        with pytest.raises(ValueError, match="part 0 must have the same parts in all"):
            collate([({"a": 1}, 1), (other, 1)])


def test_a_split_divides_several_arrays_alike() -> None:
    x = np.arange(10)
    for several in ((x, 2 * x), {"one": x, "two": 2 * x}):
        for (inputs, targets), size in zip(random_split((several, -x), [7, 3], seed=0), (7, 3)):
            one, two = inputs.values() if isinstance(inputs, dict) else inputs
            assert len(one) == size
            assert two.tolist() == (2 * one).tolist() == (-2 * targets).tolist()
    with pytest.raises(ValueError, match=r"arrays of equal length, got \[10, 9, 10\]"):
        random_split(((x, x[1:]), x), [0.5, 0.5])
