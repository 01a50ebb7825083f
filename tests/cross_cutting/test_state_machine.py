"""Any sequence of actions on Tensors, compared with the naive engine."""

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from naive_engine import Adam, Expression, apply, searched_step

import agrad as ag
from agrad import optim
from agrad.backend import Array
from agrad.errors import FreedGraphError

# Up to this magnitude the naive engine's quadrature is exact.
LARGEST = 5.0
# The naive engine recurses into a shared value once for each use.
LARGEST_GRAPH = 60

UNARY: dict[str, Callable[..., ag.Tensor]] = {
    "tanh": ag.tanh,
    "sin": ag.sin,
    "square": ag.square,
    "column sums": lambda x: x.sum(0, keepdims=True),
}
BINARY: dict[str, Callable[..., ag.Tensor]] = {
    "add": ag.add,
    "subtract": ag.subtract,
    "multiply": ag.multiply,
    "matmul": ag.matmul,
}
names = st.sampled_from([*UNARY, *BINARY])

numbers = st.integers(0, 9)
matrices = hnp.arrays(np.float64, (2, 2), elements=st.integers(-8, 8).map(lambda n: n / 8))


def must_raise(error: type[Exception], action: Callable[[], Any]) -> None:
    try:
        action()
    except error:
        return
    raise AssertionError(f"did not raise {error.__name__}")


class Machine(RuleBasedStateMachine):
    """Tensors, each with the expression that it should equal.

    Attributes:
        leaves: By name, those that require a gradient and those that do not.
        values: Results that are alive, each with its expression.
        present: By name, the expression of a leaf's present array; a new one after each change.
        grads: The expected `.grad` where it is not None; likewise `average_grads`.
    """

    @initialize(arrays=st.lists(matrices, min_size=3, max_size=3), frozen=st.booleans())
    def begin(self, arrays: list[Array], frozen: bool) -> None:
        wanted = {"a": True, "b": not frozen, "c": False}
        self.leaves = {
            name: ag.tensor(array, requires_grad=wants)
            for (name, wants), array in zip(wanted.items(), arrays, strict=True)
        }
        self.present = {name: self._leaf(name, array) for name, array in zip("abc", arrays)}
        self.values: list[tuple[ag.Tensor, Expression]] = []
        self.grads: dict[str, Array] = {}
        self.average_grads: dict[str, Array] = {}
        params = [leaf for leaf in self.leaves.values() if leaf.requires_grad]
        self.adam, self.naive_adam = optim.Adam(params, lr=0.1, eps=0.1), Adam(0.1, 0.1)
        self.search = optim.AverageGradient(optim.SGD(params, lr=0.3))
        self.saved: dict[str, Any] | None = None
        self.folder = tempfile.TemporaryDirectory()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def _leaf(self, name: str, array: Array) -> Expression:
        return Expression(array.copy(), name if self.leaves[name].requires_grad else None)

    def _pick(self, number: int) -> tuple[ag.Tensor, Expression]:
        """Return a leaf or a value: small numbers give the first leaf, and the last values."""
        everything = [(self.leaves[name], self.present[name]) for name in self.leaves]
        everything += self.values
        return everything[-number % len(everything)]

    # -- forward -----------------------------------------------------------------------------------

    @rule(steps=st.lists(st.tuples(names, numbers, numbers), min_size=2, max_size=5))
    def compute(self, steps: list[tuple[str, int, int]]) -> None:
        for name, first, second in steps:
            self._compute(name, first, second, record=True)

    @rule(name=names, first=numbers, second=numbers)
    def compute_without_recording(self, name: str, first: int, second: int) -> None:
        self._compute(name, first, second, record=False)

    def _compute(self, name: str, first: int, second: int, record: bool) -> None:
        (x, naive_x), (y, naive_y) = self._pick(first), self._pick(second)
        if name == "matmul" and x.shape[1] != y.shape[0]:
            name = "add"
        expressions = [naive_x] if name in UNARY else [naive_x, naive_y]
        expected = apply(name, *expressions)
        if np.abs(expected.value).max() > LARGEST or len([*expected.nodes()]) > LARGEST_GRAPH:
            return
        with nullcontext() if record else ag.no_grad():
            result = UNARY[name](x) if name in UNARY else BINARY[name](x, y)
        if not record:
            expected = Expression(expected.value)
        assert result.requires_grad == expected.wants_gradient
        self.values.append((result, expected))

    @precondition(lambda self: self.values)
    @rule(number=numbers)
    def forget(self, number: int) -> None:
        del self.values[number % len(self.values)]

    # -- backward ----------------------------------------------------------------------------------

    def _loss(self, number: int) -> tuple[ag.Tensor, Expression] | None:
        """Return the sum of a value, None if it has no gradient."""
        value, expression = self._pick(number)
        if not expression.wants_gradient:
            must_raise(ValueError, value.sum().backward)
            return None
        return value.sum(), apply("sum", expression)

    @staticmethod
    def _freed(expression: Expression, retain: bool) -> bool:
        """Return whether the graph was already freed; free it unless `retain`."""
        freed = any(node.freed for node in expression.nodes())
        if not freed and not retain:
            for node in expression.nodes():
                node.freed = True
        return freed

    @staticmethod
    def _accumulate(known: dict[str, Array], gradients: dict[str, Array]) -> None:
        for name, gradient in gradients.items():
            known[name] = known.get(name, 0.0) + gradient

    @rule(number=numbers, retain=st.booleans())
    def backward(self, number: int, retain: bool) -> None:
        if (drawn := self._loss(number)) is None:
            return
        loss, expression = drawn
        if self._freed(expression, retain):
            must_raise(FreedGraphError, loss.backward)
            return
        loss.backward(retain_graph=retain)
        self._accumulate(self.grads, expression.average_gradients({}))

    @rule(
        number=numbers, retain=st.booleans(), moves=st.dictionaries(st.sampled_from("ab"), matrices)
    )
    def average_backward(self, number: int, retain: bool, moves: dict[str, Array]) -> None:
        if (drawn := self._loss(number)) is None:
            return
        loss, expression = drawn
        moves = {name: move for name, move in moves.items() if name in expression.leaves()}
        while expression.largest(moves) > 4 * LARGEST:
            moves = {name: move / 2 for name, move in moves.items()}
        updates = {self.leaves[name]: move for name, move in moves.items()}
        if self._freed(expression, retain):
            must_raise(FreedGraphError, lambda: loss.average_backward(updates))
            return
        end = loss.average_backward(updates, retain_graph=retain)
        np.testing.assert_allclose(end, expression.end(moves), rtol=1e-12, atol=1e-12)
        self._accumulate(self.average_grads, expression.average_gradients(moves))

    @rule()
    def zero_grad(self) -> None:
        for leaf in self.leaves.values():
            leaf.zero_grad()
        self.grads, self.average_grads = {}, {}

    # -- steps -------------------------------------------------------------------------------------

    def _set(self, values: dict[str, Array]) -> None:
        """Note new values of leaves; large ones are halved in place, which itself is an edit."""
        for name, array in values.items():
            if np.abs(array).max() > 1:
                array = array / 2
                self.leaves[name].writable()[...] /= 2
            self.present[name] = self._leaf(name, array)

    @rule(times=st.integers(1, 3), reload=st.booleans())
    def step(self, times: int, reload: bool) -> None:
        for _ in range(times):
            if reload:
                self.save(load=True)
            if not self.grads:
                must_raise(ValueError, self.adam.step)
                return
            self.adam.step()
            values = {name: self.present[name].value for name in self.grads}
            self.naive_adam.step(values, self.grads)
            self._set(values)

    @rule(number=numbers)
    def searched_step(self, number: int) -> None:
        self.zero_grad()
        if (drawn := self._loss(number)) is None:
            return
        loss, expression = drawn
        proposed = {n: -0.3 * g for n, g in expression.average_gradients({}).items()}
        if expression.largest(proposed) > 4 * LARGEST:
            return
        if self._freed(expression, retain=False):
            must_raise(FreedGraphError, lambda: self.search.step(loss))
            return
        self.search.step(loss)
        self.grads, steps = searched_step(expression, lr=0.3)
        self._set({name: self.present[name].value + step for name, step in steps.items()})

    # -- changes in place --------------------------------------------------------------------------

    def _needed(self, expression: Expression) -> bool:
        """Return whether a living graph needs the array of `expression` itself."""
        nodes = [node for _, alive in self.values for node in alive.nodes() if not node.freed]
        return any(expression is node or expression in node.operands for node in nodes)

    @rule(number=numbers, array=matrices)
    def edit(self, number: int, array: Array) -> None:
        tensor, expression = self._pick(number)
        array = array[: len(tensor)]
        if self._needed(expression):
            must_raise(ValueError, lambda: tensor.data.__setitem__(..., array))
        elif expression.function is None:
            tensor.data[...] = array
            self._replace(tensor, expression, array)

    @rule(
        name=st.sampled_from("abc"), array=matrices, how=st.sampled_from(["item", "data", "array"])
    )
    def edit_a_leaf(self, name: str, array: Array, how: str) -> None:
        leaf = self.leaves[name]
        if how == "array":
            leaf.writable()[...] = array
        elif how == "data":
            leaf.data = array
        else:
            if leaf.requires_grad:
                must_raise(TypeError, lambda: leaf.__setitem__(..., array))
            with ag.no_grad():
                leaf[...] = array
        self.present[name] = self._leaf(name, array)

    def _replace(self, tensor: ag.Tensor, expression: Expression, array: Array) -> None:
        for name, leaf in self.leaves.items():
            if leaf is tensor:
                self.present[name] = self._leaf(name, array)
        self.values = [
            (value, Expression(array.copy()) if value is tensor else known)
            for value, known in self.values
        ]

    # -- saving ------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        return Path(self.folder.name, "state.safetensors")

    @rule(load=st.booleans())
    def save(self, load: bool) -> None:
        ag.save(self.path, {"leaves": self.leaves, "adam": self.adam.state_dict()})
        values = {name: expression.value for name, expression in self.present.items()}
        self.saved = {"values": values, "moments": dict(self.naive_adam.moments)}
        if load:
            self.load()

    @precondition(lambda self: self.saved is not None)
    @rule()
    def load(self) -> None:
        state = ag.load(self.path)
        self.adam.load_state_dict(state["adam"])
        for name, leaf in self.leaves.items():
            leaf.writable()[...] = state["leaves"][name]
        assert self.saved is not None
        self.naive_adam.moments = dict(self.saved["moments"])
        self.present = {n: self._leaf(n, value) for n, value in self.saved["values"].items()}

    # -- what must hold ----------------------------------------------------------------------------

    @invariant()
    def equal(self) -> None:
        if not hasattr(self, "leaves"):
            return
        for name, leaf in self.leaves.items():
            np.testing.assert_allclose(leaf.data, self.present[name].value, rtol=1e-9, atol=1e-9)
            known = (leaf.grad, self.grads), (leaf.average_grad, self.average_grads)
            for gradient, expected in known:
                assert (gradient is None) == (name not in expected)
                if gradient is not None:
                    np.testing.assert_allclose(gradient, expected[name], rtol=1e-8, atol=1e-8)
        for tensor, expression in self.values:
            np.testing.assert_allclose(tensor.data, expression.value, rtol=1e-9, atol=1e-9)
        everything = [(leaf, self.present[name]) for name, leaf in self.leaves.items()]
        for tensor, expression in (*everything, *self.values):
            assert tensor.data.flags.writeable != self._needed(expression)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30)
