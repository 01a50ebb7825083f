"""The package's random generator: seeded, resumable, one per thread."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agrad as ag
from agrad.random import generator, get_state, set_state

DRAWS = {
    "normal": lambda: generator().normal(size=3),
    # one 32-bit draw leaves half of a 64-bit word in the generator, which is part of its state
    "bits": lambda: generator().integers(2**32, size=1, dtype=np.uint32),
    "permutation": lambda: generator().permutation(5),
}


@given(n=st.integers(0, 2**200))
def test_a_seed_decides_what_is_drawn(n: int) -> None:
    for _ in range(2):
        ag.seed(n)
        np.testing.assert_array_equal(generator().random(4), np.random.default_rng(n).random(4))


def test_a_reference_to_the_generator_stays_valid() -> None:
    kept = generator()
    ag.seed(3)
    first = kept.random()
    ag.seed(3)
    assert kept is generator()
    assert kept.random() == first


@given(
    before=st.lists(st.sampled_from(sorted(DRAWS))),
    after=st.lists(st.sampled_from(sorted(DRAWS)), min_size=1),
)
def test_a_state_saved_as_json_continues_as_before(before: list[str], after: list[str]) -> None:
    for name in before:
        DRAWS[name]()
    state = json.loads(json.dumps(get_state()))
    first = [DRAWS[name]() for name in after]
    set_state(state)
    for name, expected in zip(after, first):
        np.testing.assert_array_equal(DRAWS[name](), expected)


def test_threads_that_draw_in_turn_draw_as_if_alone() -> None:
    def draw(seed: int, turn: threading.Barrier) -> list[float]:
        ag.seed(seed)
        drawn = []
        for _ in range(20):
            turn.wait(timeout=10)
            drawn.append(generator().random())
        return drawn

    alone = {seed: draw(seed, threading.Barrier(1)) for seed in (1, 2)}
    turn = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        together = {seed: pool.submit(draw, seed, turn) for seed in (1, 2)}
    assert {seed: drawn.result() for seed, drawn in together.items()} == alone


def test_threads_without_a_seed_differ() -> None:
    ag.seed(0)
    drawn = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: drawn.append(generator().random()))
        thread.start()
        thread.join()
    ag.seed(0)
    assert len({*drawn, generator().random()}) == 3


@pytest.mark.parametrize(("n", "error"), [(-1, ValueError), (0.5, TypeError), ("0", TypeError)])
def test_seed_refuses_invalid_seeds(n: object, error: type[Exception]) -> None:
    before = get_state()
    with pytest.raises(error, match="seed: n must"):
        ag.seed(n)  # type: ignore[arg-type]
    assert get_state() == before


@pytest.mark.parametrize(
    "state",
    [
        {},
        [],
        {"bit_generator": "MT19937"},
        {"bit_generator": "PCG64", "state": 3, "has_uint32": 0, "uinteger": 0},
        {
            "bit_generator": "PCG64",
            "state": {"state": -1, "inc": 1},
            "has_uint32": 0,
            "uinteger": 0,
        },
        {"bit_generator": "PCG64", "state": {"state": 2**200, "inc": 1}, "has_uint32": 0},
        {"bit_generator": "PCG64", "state": {"state": 1, "inc": 1}, "has_uint32": "x"},
    ],
    ids=repr,
)
def test_set_state_refuses_invalid_states_and_changes_nothing(state: object) -> None:
    before = get_state()
    with pytest.raises(ValueError, match="set_state: not a state"):
        set_state(state)  # type: ignore[arg-type]
    assert get_state() == before
