"""Leaves side by side in one array: they keep their values, and nothing in use is overwritten."""

import copy
import weakref
from collections import deque
from typing import Any

import numpy as np
import pytest

import agrad as ag
from agrad import nn, optim
from agrad.core.flat import Flat, GradientPlaces, adjacent_view
from agrad.optim import block as block_module

RANDOM = np.random.default_rng(0)


def leaves() -> list[ag.Tensor]:
    arrays = [RANDOM.standard_normal(shape, np.float32) for shape in ((3, 2), (), (4,), (0, 5))]
    return [ag.Tensor(array, requires_grad=True) for array in arrays]


def test_adopted_leaves_have_their_values_in_one_array() -> None:
    tensors = leaves()
    before = [tensor.data.copy() for tensor in tensors]
    flat = Flat(tensors)
    whole = flat.adopt()
    assert whole.size == flat.size == 11
    for tensor, values in zip(tensors, before):
        np.testing.assert_array_equal(tensor.data, values, strict=True)
        assert tensor.size == 0 or np.shares_memory(tensor.data, whole)
    assert flat.adopt() is whole
    flat.writable()[...] = 7
    assert all((tensor.data == 7).all() for tensor in tensors)


def test_new_values_of_a_leaf_are_copied_into_its_part() -> None:
    tensors = leaves()
    flat = Flat(tensors)
    flat.adopt()
    tensors[2].data = [1.0, 2.0, 3.0, 4.0]
    own = tensors[0].data.copy()
    assert flat.adopt()[-4:].tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(tensors[0].data, own)


def test_a_graph_keeps_the_values_that_it_was_recorded_with() -> None:
    tensors = leaves()
    flat = Flat(tensors)
    flat.adopt()
    loss = (tensors[0] * tensors[0]).sum()
    before = tensors[0].data.copy()
    flat.writable()[...] = 0
    assert not tensors[0].data.any()
    loss.backward()
    np.testing.assert_array_equal(tensors[0].grad, 2 * before)
    whole = flat.adopt()
    assert flat.writable() is whole  # no graph is left


def test_adopted_leaves_are_protected_while_a_graph_needs_them() -> None:
    tensors = leaves()
    flat = Flat(tensors)
    flat.adopt()
    loss = (tensors[0] * tensors[0]).sum()
    with pytest.raises(ValueError, match="read-only"):
        tensors[0].data[0] = 1
    assert np.shares_memory(tensors[0].data, flat.adopt())
    del loss  # the graph is gone
    tensors[0].data[0] = 1


HOLDERS: dict[str, Any] = {
    "buffer": lambda buffer: buffer,
    "array": lambda buffer: buffer.array,
    "view": lambda buffer: buffer.views[2],
    "part of a view": lambda buffer: buffer.views[0][1:],
    "part of a part, turned": lambda buffer: buffer.views[0][1:].T[::-1],
    "view without elements": lambda buffer: buffer.views[3],
    "part without elements": lambda buffer: buffer.views[0][:0],
    "view without axes": lambda buffer: buffer.views[1],
    "memory": lambda buffer: memoryview(buffer.views[0]),
    "array on its memory": lambda buffer: np.frombuffer(memoryview(buffer.views[2]), np.float32),
    "window": lambda buffer: np.lib.stride_tricks.sliding_window_view(buffer.views[2], 2),
    "iterator": lambda buffer: buffer.views[2].flat,
}


@pytest.mark.parametrize("held", HOLDERS)
def test_a_buffer_is_lent_again_when_no_part_of_it_is_referenced(held: str) -> None:
    flat = Flat(leaves())
    flat.adopt()
    buffer = flat.buffer()
    kept = HOLDERS[held](buffer)
    place = address(buffer.array)
    del buffer
    other = flat.buffer()
    assert address(other.array) != place
    del kept, other
    assert address(flat.buffer().array) == place


def address(array: Any) -> int:
    return int(array.ctypes.data)


def test_the_parts_of_the_values_and_of_the_last_buffer_are_known() -> None:
    flat = Flat(leaves())
    buffer = flat.buffer()
    assert flat.whole(list(buffer.views)) is buffer.array
    assert flat.whole([*buffer.views[:3], None]) is None
    assert flat.whole([None] * 4) is None
    values = flat.adopt()
    assert flat.whole([tensor.data for tensor in flat.tensors]) is values
    assert flat.whole(list(buffer.views)) is buffer.array
    flat.buffer()
    assert flat.whole(list(buffer.views)) is None


def test_gradients_of_a_run_have_one_destination_if_its_leaves_are_in_order() -> None:
    tensors = leaves()
    flat, other = Flat(tensors[1:]), Flat(tensors[:1])
    assert flat.adopt().size == 5
    assert other.adopt().size == 6
    runs = {5: [1, 2], 6: [2, 1], 7: [1, 3], 8: [0, 1], 9: [0], 4: [1, 10]}
    arrays = GradientPlaces(dict(enumerate(tensors)), runs).arrays(11)
    wholes = arrays[5:10]
    assert arrays[4] is arrays[10] is None
    assert [whole is not None for whole in wholes] == [True, False, False, False, True]
    for whole, numbers in ((wholes[0], (1, 2)), (wholes[-1], (0,))):
        whole[...] = np.arange(whole.size)
        parts = [arrays[number].ravel() for number in numbers]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert GradientPlaces(dict(enumerate(leaves())), {4: [0, 1]}).arrays(5) == [None] * 5


def test_only_adjacent_parts_are_joined() -> None:
    base = np.arange(12, dtype=np.float32)
    first, second, third = base[1:5].reshape(2, 2), base[5:7], base[7:11].reshape(2, 2)
    whole = adjacent_view([first, second, third])
    assert whole is not None
    assert whole.base is base
    np.testing.assert_array_equal(whole, base[1:11])
    apart = [[second, first], [first, third], [first, second.copy()], [first, second, third.T]]
    for arrays in (*apart, [base], [first, base[5:7].view(np.int32)], [base[::2][:3]]):
        assert adjacent_view(arrays) is None


def test_scratch_is_the_same_each_time_and_never_lent() -> None:
    flat = Flat(leaves())
    update, end = flat.scratch("update"), flat.scratch("end")
    assert flat.scratch("update") is update
    places = {address(update.array), address(end.array), address(flat.adopt())}
    places.add(address(flat.buffer().array))
    assert len(places) == 4


def test_releasing_keeps_other_scratch_and_loans() -> None:
    flat = Flat(leaves())
    update, loan, idle = (
        flat.scratch("update"),
        flat.buffer(),
        weakref.ref(flat.scratch("end").array),
    )
    place = address(loan.array)
    flat.release("end")
    assert idle() is None
    assert flat.scratch("update") is update
    assert address(flat.buffer().array) not in (place, address(update.array))
    del loan
    flat.release("end")
    assert address(flat.buffer().array) == place


def test_gathering_copies_arrays_that_are_not_in_place() -> None:
    flat = Flat([leaves()[0], leaves()[0]])
    flat.adopt()
    buffer = flat.buffer()
    buffer.array[...] = np.arange(12)
    assert flat.gather(buffer.views) is buffer.array
    swapped = flat.gather(buffer.views[::-1])
    assert swapped.tolist() == [*range(6, 12), *range(6)]
    fresh = [view.copy() for view in buffer.views]
    np.testing.assert_array_equal(flat.gather(fresh), buffer.array)


def network() -> nn.Module:
    ag.seed(3)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))


RULES = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.1, momentum=0.5, centered=True),
    "Adam": lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.1),
    "Muon": lambda p: optim.Muon(p, lr=0.1),
}


def train(model: nn.Module, optimizer: Any, steps: int, captured: bool = False) -> list[Any]:
    forward = ag.capture(model) if captured else model
    inputs = np.random.default_rng(1).standard_normal((steps, 5, 4)).astype(np.float32)
    for batch in inputs:
        optimizer.zero_grad()
        loss = (forward(batch) ** 2).mean()
        if isinstance(optimizer, optim.AverageGradient):
            optimizer.step(loss)
        else:
            loss.backward()
            optimizer.step()
    return [parameter.data.copy() for parameter in model.parameters()]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_gives_the_same_in_parts(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for chunk in 1 << 16, 7:
        monkeypatch.setattr(block_module, "CHUNK", chunk)
        model = network()
        results.append(train(model, RULES[rule](model.parameters()), 4))
    for whole, parts in zip(*results):
        # The last elements of a part do not fill a vector, and other operations are fused there.
        np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rule", RULES)
def test_parameters_side_by_side_step_as_if_alone(rule: str) -> None:
    together, alone = network(), network()
    whole = train(together, RULES[rule](together.parameters()), 4)
    rules = [RULES[rule]([parameter]) for parameter in alone.parameters()]

    class Each:
        def zero_grad(self) -> None:
            for each in rules:
                each.zero_grad()

        def step(self) -> None:
            for each in rules:
                each.step()

    for one, other in zip(whole, train(alone, Each(), 4)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_swapped_gradients_move_the_parameters_that_have_them() -> None:
    a, b = (ag.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([a, b], lr=1.0)
    loss = ag.capture(lambda: (a * 2.0 + b * 20.0).sum())
    loss().backward()
    optimizer.step()
    optimizer.zero_grad()
    loss().backward()
    a.grad, b.grad = b.grad, a.grad
    optimizer.step()
    assert (a.tolist(), b.tolist()) == ([-21.0, -20.0], [-21.0, -20.0])


def test_a_gradient_in_the_place_of_another_is_used() -> None:
    a, b = (ag.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([a, b], lr=1.0)
    loss = ag.capture(lambda: (a * 2.0 + b * 20.0).sum())
    for _ in range(2):
        optimizer.zero_grad()
        loss().backward()
        b.grad = 2 * b.grad
        optimizer.step()
    assert (a.item(), b.item()) == (-3.0, -79.0)


@pytest.mark.parametrize("average", [False, True])
def test_gradients_in_use_are_not_overwritten(average: bool) -> None:
    model = network()
    optimizer: Any = optim.RMSprop(model.parameters(), lr=0.01)
    if average:
        optimizer = optim.AverageGradient(optimizer)
    train(model, optimizer, 2, captured=True)
    held = [parameter.grad for parameter in model.parameters()]
    rows = held[0][0]
    values, first = [grad.copy() for grad in held], rows.copy()
    del held[0]
    train(model, optimizer, 3, captured=True)
    np.testing.assert_array_equal(rows, first)
    for grad, value in zip(held, values[1:]):
        np.testing.assert_array_equal(grad, value)


@pytest.mark.parametrize("average", [False, True])
def test_after_the_first_steps_no_gradient_is_copied(
    average: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = 0
    gather = Flat.gather

    def noted(flat: Flat, arrays: Any) -> Any:
        nonlocal copies
        copies += flat.whole(arrays) is None
        return gather(flat, arrays)

    monkeypatch.setattr(Flat, "gather", noted)
    after = []
    for steps in (3, 6):
        model, copies = network(), 0
        optimizer: Any = optim.RMSprop(model.parameters(), lr=0.01)
        if average:
            optimizer = optim.AverageGradient(optimizer)
        train(model, optimizer, steps, captured=True)
        after.append(copies)
    assert after[0] == after[1]


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("captured", [False, True])
def test_gradients_kept_from_many_steps_all_stay(captured: bool, average: bool) -> None:
    """Whole gradients, parts of them, and gradients of parameters without elements."""

    class WithEmpty(nn.Module):
        def __init__(self) -> None:
            self.empty = nn.Parameter(np.empty((0, 3), np.float32))
            self.network = network()
            self.none = nn.Parameter(np.empty(0, np.float32))

        def forward(self, x: Any) -> ag.Tensor:
            return self.network(x) + self.empty.sum() + self.none.sum()

    model = WithEmpty()
    optimizer: Any = optim.Adam(model.parameters(), lr=0.01)
    optimizer = optim.AverageGradient(optimizer) if average else optimizer
    forward = ag.capture(model) if captured else model
    kept, values = [], []
    for step in range(12):
        optimizer.zero_grad()
        optimizer.step((forward(np.full((5, 4), step, np.float32)) ** 2 + 1.0).mean())
        for i, parameter in enumerate(model.parameters()):
            grad = parameter.grad if (step + i) % 3 else parameter.grad[..., ::2].T
            if (step + i) % 4:
                kept.append(grad)
                values.append(grad.copy())
        for grad, value in zip(kept, values, strict=True):
            np.testing.assert_array_equal(grad, value)
        if step % 5 == 4:
            del kept[::2], values[::2]


@pytest.mark.parametrize("average", [False, True])
def test_after_the_first_steps_no_memory_is_allocated(average: bool) -> None:
    """This holds even if some gradients are kept for a while."""
    model = network()
    optimizer: Any = optim.RMSprop(model.parameters(), lr=0.01)
    optimizer = optim.AverageGradient(optimizer, every=2) if average else optimizer
    forward = ag.capture(model)
    places: list[set[int]] = [set(), set()]
    kept: deque[Any] = deque(maxlen=3)
    for step in range(40):
        optimizer.zero_grad()
        optimizer.step((forward(np.ones((5, 4), np.float32)) ** 2).mean())
        first, *_, last = model.parameters()
        assert first.grad is not None
        kept.append(last.grad)
        places[step >= 20].add(address(first.grad))
    assert len(places[1]) <= 6
    assert places[1] <= places[0]


def test_gradients_accumulate_over_captured_calls() -> None:
    results = []
    for captured in False, True:
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        forward = ag.capture(model) if captured else model
        batches = np.random.default_rng(2).standard_normal((3, 2, 5, 4)).astype(np.float32)
        for pair in batches:
            optimizer.zero_grad()
            for batch in pair:
                (forward(batch) ** 2).mean().backward()
            optimizer.step()
        results.append([parameter.data for parameter in model.parameters()])
    for one, other in zip(*results):
        np.testing.assert_array_equal(one, other)


def assert_alike(left: list[Any], right: list[Any], stacks: bool) -> None:
    """Compare arrays bit for bit or, for stacks of layers, up to a few roundings."""
    for one, other in zip(left, right):
        tolerance = 1e-5 * np.abs(other).max() if stacks else 0
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@pytest.fixture(params=[False, True])
def stacks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether captured dense layers run as stacks."""
    if not request.param:
        monkeypatch.setattr("agrad.tracing.dense._LARGEST_WEIGHT", 0)
    return bool(request.param)


def test_a_weight_of_two_layers_gets_both_gradients(stacks: bool) -> None:
    x = RANDOM.standard_normal((5, 4)).astype(np.float32)
    results = []
    for captured in False, True:
        ag.seed(0)
        layer = nn.Linear(4, 4)
        model = nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), layer, nn.ReLU())
        forward = ag.capture(model) if captured else model
        optimizer = optim.AverageGradient(optim.SGD(layer.parameters(), lr=0.5))
        for _ in range(3):
            optimizer.zero_grad()
            optimizer.step((forward(x) ** 2).sum())
        results.append([parameter.data for parameter in layer.parameters()])
    assert_alike(results[1], results[0], stacks)


def test_the_first_average_after_plain_steps(stacks: bool) -> None:
    """Plain steps do not keep the input of an activation, so the sweep computes it again."""
    results = []
    for captured in False, True:
        model = network()
        forward = ag.capture(model) if captured else model
        x = np.ones((5, 4), np.float32)
        for _ in range(2):
            (forward(x) ** 2).mean().backward()
        loss = (forward(x) ** 2).mean()
        updates = {p: np.full(p.shape, 0.01, np.float32) for p in model.parameters()}
        loss.average_backward(updates)
        results.append([p.average_grad for p in model.parameters()])
    assert_alike(results[1], results[0], stacks)


def test_a_copy_of_a_model_is_independent() -> None:
    model = network()
    train(model, optim.RMSprop(model.parameters()), 2, captured=True)
    twin = copy.deepcopy(model)
    before = [parameter.data.copy() for parameter in model.parameters()]
    held = [parameter.grad.copy() for parameter in model.parameters()]
    train(twin, optim.RMSprop(twin.parameters()), 2, captured=True)
    for parameter, values, grad in zip(model.parameters(), before, held):
        np.testing.assert_array_equal(parameter.data, values)
        np.testing.assert_array_equal(parameter.grad, grad)
    assert any((p.data != values).any() for p, values in zip(twin.parameters(), before))


@pytest.mark.parametrize("gradient_first", [False, True])
def test_a_model_converted_after_a_step_needs_another_optimizer(gradient_first: bool) -> None:
    model = network()
    optimizer = optim.SGD(model.parameters())
    train(model, optimizer, 1, captured=True)
    if not gradient_first:
        optimizer.zero_grad()
    model.to("float64")
    if not gradient_first:
        (model(np.ones((5, 4))) ** 2).mean().backward()
    message = "SGD: parameter 0 is float64, its state float32; make the optimizer after"
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    assert all(parameter.dtype == np.float64 for parameter in model.parameters())
    train_on = optim.SGD(model.parameters())
    train_on.step()


def test_two_optimizers_may_share_a_parameter() -> None:
    shared, own = (ag.tensor([1.0], requires_grad=True) for _ in range(2))
    first, second = optim.SGD([shared, own], lr=1.0), optim.SGD([shared], lr=1.0)
    for _ in range(2):
        (shared * 2.0 + own).sum().backward()
        first.step()
        second.step()
        first.zero_grad()
    assert (shared.item(), own.item()) == (-7.0, -1.0)
