"""Recurrent layers: a whole sequence, in one direction, as one operation.

The result is a record of the sequence: the hidden states, for an LSTM the cell states too, and what
the gates are computed from. The sweeps need all of these, at both ends of an update, and nothing
else hands them on. `States` takes the states out of a record.

A sweep first computes the factors of all its steps at once: with a gate's derivative in the
factors, the gradient of what the gate is computed from is a product of the state's gradient and a
factor. An average sweep differs in the factors alone. A product of two factors has the mean of the
other factor at both ends, and an activation has its divided difference, as if each product and each
activation were an operation of its own.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from agrad.backend import Array, kernels
from agrad.ops.activation import Sigmoid, Tanh
from agrad.ops.adjoint import adjoint
from agrad.ops.operation import (
    Apply,
    Gradients,
    Linear,
    Operation,
    Point,
    Requirement,
    midpoint,
)
from agrad.ops.sums import sum_over

__all__ = ["GRU", "LSTM", "RNN", "Padded", "Recurrent", "States"]


class _Given(NamedTuple):
    """The inputs of a recurrent operation; the optional ones may be None."""

    projected: Array
    weight: Array
    hidden: Array | None
    cell: Array | None
    bias: Array | None
    lengths: Array | None


class _Record(NamedTuple):
    """The parts of a record.

    Attributes:
        hidden: (T + 1, N, H), the first and each later state; in the order of time, so that in
            reverse the first one comes last.
        cell: Likewise, empty if there is none.
        inner: (T, N, gates H), what `step` keeps.
    """

    hidden: Array
    cell: Array
    inner: Array


class _Factors(NamedTuple):
    """The factors of a sweep, (T, N, ..., H) each.

    Attributes:
        gates: (T, N, gates, H); times the gradient of the state, the gradient of the gates' sums.
        carried: Of the earlier hidden state, apart from the gates; None for 0.
        to_cell: Of the hidden state's gradient in the cell's; None without a cell.
        cell_carried: Of the earlier cell state in the later one; None without a cell.
        new: (T, N, H), in place of those of the last gate for the projected inputs; None if they
            are the same.
    """

    gates: Array
    carried: Array | None = None
    to_cell: Array | None = None
    cell_carried: Array | None = None
    new: Array | None = None


_States = Sequence[Any]
"""Hidden states and, empty if there are none, cell states."""

_Pull = Callable[[int, Array, Array, Array, Array], Any]
"""Takes a step and the gradients of the hidden and the cell state after it, and replaces the latter
by that before it. It writes the gradients of the product with the weight and, if it is another, of
the projected inputs. It returns that of the hidden state before the step apart from the product, or
None."""


class Recurrent(Operation):
    """The states of a recurrent layer, for projected inputs (T, N, gates H), weight (gates H, H).

    More inputs may follow: the first hidden state (N, H), for an LSTM also the first cell state,
    both zero by default; a bias (gates H,); and lengths (N,), where a sequence stops. From there on
    it keeps its state; in reverse it keeps the first state until there.

    Only the states of the result have gradients, not what the gates are computed from.

    Args:
        reverse: Whether to go from the last element to the first.
        started: Whether first states are given.
        biased: Whether a bias is given.
        masked: Whether lengths are given.
    """

    promotes = False
    gates = 1
    has_cell = False
    has_reset = False

    def __init__(self, reverse: bool, started: bool, biased: bool, masked: bool) -> None:
        self.reverse, self.started, self.biased, self.masked = reverse, started, biased, masked

    def step(
        self, projected: Array, inner: Array, before: Sequence[Array], after: Sequence[Array]
    ) -> None:
        """Write the states after a step, and complete `inner` in place.

        Args:
            projected: (N, gates H).
            inner: (N, gates H), the product of the hidden state and the weight, plus the bias.
            before: The states before the step.
            after: Those after it.
        """
        raise TypeError(f"{type(self).__name__}: the operation defines no step")

    def factors(self, ends: Sequence[tuple[_Given, _Record]]) -> _Factors:
        """Return the factors at one point, or between two ends."""
        raise TypeError(f"{type(self).__name__}: the operation defines no factors")

    def pull(self, ends: Sequence[tuple[_Given, _Record]]) -> _Pull:
        """Return how to pull gradients through a step, at one point or between two ends."""
        gates, carried, to_cell, cell_carried, new = self._idled(self.factors(ends), ends[0][0])

        def pull(t: int, state: Array, cell: Array, out: Array, projected_out: Array) -> Any:
            parts = out.reshape(gates.shape[1:])
            if to_cell is None or cell_carried is None:
                np.multiply(state[:, np.newaxis], gates[t], out=parts)
            else:
                # The last gate is that of the hidden state, the others those of the cell.
                cell += state * to_cell[t]
                np.multiply(cell[:, np.newaxis], gates[t, :, :-1], out=parts[:, :-1])
                np.multiply(state, gates[t, :, -1], out=parts[:, -1])
                cell *= cell_carried[t]
            if new is not None:
                width = state.shape[1]
                projected_out[:, :-width] = out[:, :-width]
                np.multiply(state, new[t], out=projected_out[:, -width:])
            return None if carried is None else state * carried[t]

        return pull

    def requires(self, *inputs: Array) -> Iterator[Requirement]:
        lengths = self._given(inputs).lengths
        if lengths is not None:
            steps = len(inputs[0])

            def error() -> ValueError:
                wrong = lengths[(lengths < 0) | (lengths > steps)]
                return ValueError(
                    f"{type(self).__name__}: lengths has {wrong[0]}, outside 0 to {steps}, the "
                    "length of the input"
                )

            yield ((lengths >= 0) & (lengths <= steps)).all(), error

    def forward(self, *inputs: Array) -> Array:
        given = self._given(inputs)
        projected, weight = given.projected, given.weight
        steps, batch, width = *projected.shape[:2], weight.shape[1]
        states = 2 if self.has_cell else 1
        size = states * (steps + 1) * batch * width + projected.size
        out = np.empty(size, projected.dtype, like=projected)
        record = self._parts(out, projected, weight)
        held = record[:states]
        for state, first in zip(held, (given.hidden, given.cell)):
            state[self._first(steps)] = 0 if first is None else first
        idle = self._idle(given)
        matmul, transposed = kernels(projected).product.matmul, weight.T
        for t in self._order(steps):
            before = [state[t + self.reverse] for state in held]
            inner = matmul(before[0], transposed, out=record.inner[t])
            if given.bias is not None:
                inner += given.bias
            after = [state[t + (not self.reverse)] for state in held]
            self.step(projected[t], inner, before, after)
            if idle is not None:
                for old, new in zip(before, after):
                    new[...] = np.where(idle[t], old, new)
        return out

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, *inputs: Array
    ) -> Gradients:
        given = self._given(inputs)
        record = self._parts(out, given.projected, given.weight)
        pull = self.pull([(given, record)])
        return self._swept(grad, needs, given, pull, given.weight, self._before(record))

    def average_backward(
        self, grad: Array, needs: tuple[bool, ...], start: Point, end: Point
    ) -> Gradients:
        ends = []
        for point in (start, end):
            given = self._given(point.inputs)
            ends.append((given, self._parts(point.out, given.projected, given.weight)))
        weight = midpoint(*(given.weight for given, _ in ends))
        hidden = midpoint(*(self._before(record) for _, record in ends))
        return self._swept(grad, needs, ends[0][0], self.pull(ends), weight, hidden)

    def _swept(
        self,
        grad: Array,
        needs: tuple[bool, ...],
        given: _Given,
        pull: _Pull,
        weight: Array,
        hidden: Array,
    ) -> Gradients:
        """Return the gradients of the inputs.

        Args:
            grad: The gradient of the record.
            needs: Which inputs need a gradient.
            given: The inputs.
            pull: That of `pull`.
            weight: Between the ends.
            hidden: The hidden states before each step, between the ends.
        """
        steps, batch, width = *given.projected.shape[:2], weight.shape[1]
        matmul = kernels(weight).product.matmul
        grads = self._parts(grad, given.projected, weight)
        inner_grad = np.empty_like(given.projected, order="C")
        projected_grad = np.empty_like(inner_grad) if self.has_reset else inner_grad
        first, after = self._first(steps), 0 if self.reverse else 1
        later = np.zeros((batch, width), weight.dtype, like=weight)
        cell = np.zeros_like(later)
        for t in reversed(self._order(steps)):
            later += grads.hidden[t + after]
            if self.has_cell:
                cell += grads.cell[t + after]
            kept = pull(t, later, cell, inner_grad[t], projected_grad[t])
            later = matmul(inner_grad[t], weight)
            if kept is not None:
                later += kept
        rows = inner_grad.reshape(steps * batch, inner_grad.shape[-1])
        found: list[Any] = [
            projected_grad,
            matmul(rows.T, hidden.reshape(steps * batch, width)) if needs[1] else None,
        ]
        if self.started:
            found.append(later + grads.hidden[first])
            if self.has_cell:
                found.append(cell + grads.cell[first])
        if self.biased:
            found.append(sum_over(rows, 0))
        return found + [None] * self.masked

    def recorded_factors(
        self, apply: Apply, sums: Sequence[Any], before: _States, after: _States
    ) -> _Factors:
        """Return the factors at one point, computed by operations on Tensors.

        Args:
            apply: Computes an operation on Tensors.
            sums: The projected inputs, and the products of the states and the weight with the bias.
            before: The states before each step, (T, N, H).
            after: Those after it.
        """
        raise TypeError(f"{type(self).__name__}: the operation defines no recorded factors")

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, *inputs: Any
    ) -> Sequence[Any]:
        given: Any = self._given(inputs)
        if given.lengths is not None:
            given = given._replace(lengths=given.lengths.data)
        projected, weight = given.projected, given.weight
        record, grads = (self._parts(part, projected, weight) for part in (out, grad))
        before, after = (
            [states(record, cell) for cell in (False, True)]
            for states in (self._before, self._after)
        )
        inner = before[0] @ weight.T
        if given.bias is not None:
            inner = inner + given.bias
        factors = self.recorded_factors(apply, (projected, inner), before, after)
        (steps, batch, _), width = projected.shape, weight.shape[1]
        gates, carried, to_cell, cell_carried, new = self._idled(factors, given)
        later: Any = 0.0
        cell: Any = 0.0
        inner_grads, projected_grads = [], []
        first, following = self._first(steps), 0 if self.reverse else 1
        for t in reversed(self._order(steps)):
            state = later + grads.hidden[t + following]
            if to_cell is None or cell_carried is None:
                parts = state[:, np.newaxis] * gates[t]
            else:
                cell = cell + grads.cell[t + following] + state * to_cell[t]
                of_cell, of_state = gates[t, :, :-1], gates[t, :, -1:]
                parts = np.concatenate(
                    [cell[:, np.newaxis] * of_cell, state[:, np.newaxis] * of_state], axis=1
                )
                cell = cell * cell_carried[t]
            inner_grads.append(parts.reshape(batch, self.gates * width))
            if new is not None:
                last = state * new[t]
                projected_grads.append(np.concatenate([inner_grads[-1][:, :-width], last], axis=1))
            later = inner_grads[-1] @ weight
            if carried is not None:
                later = later + state * carried[t]
        backwards = slice(None) if self.reverse else slice(None, None, -1)
        inner_grad = np.stack(inner_grads[backwards])
        rows = inner_grad.reshape(steps * batch, self.gates * width)
        found: list[Any] = [
            np.stack(projected_grads[backwards]) if self.has_reset else inner_grad,
            rows.T @ before[0].reshape(steps * batch, width),
        ]
        if self.started:
            found.append(later + grads.hidden[first])
            if self.has_cell:
                found.append(cell + grads.cell[first])
        if self.biased:
            found.append(rows.sum(0))
        return found + [None] * self.masked

    def _given(self, inputs: Sequence[Array]) -> _Given:
        projected, weight, *rest = inputs
        optional = [self.started, self.started and self.has_cell, self.biased, self.masked]
        following = iter(rest)
        return _Given(projected, weight, *(next(following) if has else None for has in optional))

    def _parts(self, record: Array, projected: Array, weight: Array) -> _Record:
        steps, batch, width = *projected.shape[:2], weight.shape[1]
        size = (steps + 1) * batch * width
        cells = size if self.has_cell else 0
        shape = steps + 1, batch, width
        return _Record(
            record[:size].reshape(shape),
            record[size : size + cells].reshape(shape if self.has_cell else (0, batch, width)),
            record[size + cells :].reshape(projected.shape),
        )

    def _order(self, steps: int) -> range:
        return range(steps)[::-1] if self.reverse else range(steps)

    def _first(self, steps: int) -> int:
        """The place of the first state."""
        return steps if self.reverse else 0

    def _before(self, record: _Record, cell: bool = False) -> Array:
        """Return the states before each step."""
        states = record.cell if cell else record.hidden
        return states[1:] if self.reverse else states[:-1]

    def _after(self, record: _Record, cell: bool = False) -> Array:
        """Return the states after each step."""
        states = record.cell if cell else record.hidden
        return states[:-1] if self.reverse else states[1:]

    def _idle(self, given: _Given) -> Array | None:
        """Return where a sequence has stopped, (T, N, 1)."""
        if given.lengths is None:
            return None
        return _after_the_end(given.lengths, len(given.projected))

    def _idled(self, factors: _Factors, given: _Given) -> _Factors:
        """Return the factors with those of steps that keep the state."""
        idle = self._idle(given)
        if idle is None:
            return factors
        gates, carried, to_cell, cell_carried, new = factors
        zero, one = gates.dtype.type(0), gates.dtype.type(1)
        return _Factors(
            np.where(idle[..., np.newaxis], zero, gates),
            np.where(idle, one, zero if carried is None else carried),
            None if to_cell is None else np.where(idle, zero, to_cell),
            None if cell_carried is None else np.where(idle, one, cell_carried),
            None if new is None else np.where(idle, zero, new),
        )


class RNN(Recurrent):
    """h' = f(projected + h Wᵀ) for f = tanh or ReLU."""

    def __init__(
        self, reverse: bool, started: bool, biased: bool, masked: bool, activation: str
    ) -> None:
        super().__init__(reverse, started, biased, masked)
        self.activation = activation

    def step(
        self, projected: Array, inner: Array, before: Sequence[Array], after: Sequence[Array]
    ) -> None:
        inner += projected
        after[0][...] = self._loops(inner).forward(inner)

    def factors(self, ends: Sequence[tuple[_Given, _Record]]) -> _Factors:
        sums = [record.inner for _, record in ends]
        loops = self._loops(sums[0])
        slopes = _slopes(loops, np.ones_like(sums[0]), sums, [loops.forward(x) for x in sums])
        return _Factors(slopes[:, :, np.newaxis])

    def recorded_factors(
        self, apply: Apply, sums: Sequence[Any], before: _States, after: _States
    ) -> _Factors:
        x = sums[0] + sums[1]
        if self.activation == "relu":
            slopes = np.where(x > 0, x.dtype.type(1), x.dtype.type(0))
        else:
            values = apply(Tanh(), x)
            slopes = 1 - values * values
        return _Factors(slopes[:, :, np.newaxis])

    def _loops(self, x: Array) -> Any:
        return getattr(kernels(x).activation, self.activation)


class GRU(Recurrent):
    """h' = n + z (h - n) for gates r and z, and n = tanh(projected + r (h Wᵀ + bias)).

    r and z are the sigmoid of projected + h Wᵀ + bias.
    """

    gates = 3
    has_reset = True

    def step(
        self, projected: Array, inner: Array, before: Sequence[Array], after: Sequence[Array]
    ) -> None:
        _, _, r_and_z, n = self._values(projected, inner)
        out = np.subtract(before[0], n, out=after[0])
        out *= r_and_z[:, out.shape[1] :]
        out += n

    def factors(self, ends: Sequence[tuple[_Given, _Record]]) -> _Factors:
        values = [self._values(given.projected, record.inner) for given, record in ends]
        sums, new_sums, r_and_z, n = map(list, zip(*values))
        width = n[0].shape[-1]
        r, z = np.split(_mean(r_and_z), 2, axis=-1)
        products = _mean([record.inner[..., 2 * width :] for _, record in ends])
        moves = _mean([self._before(record) - n for (_, record), n in zip(ends, n)])
        new = _slopes(kernels(z).activation.tanh, 1 - z, new_sums, n)
        to_r, to_z = np.split(_sigmoid_slopes(sums, r_and_z), 2, axis=-1)
        gates = np.stack([new * products * to_r, moves * to_z, new * r], axis=2)
        return _Factors(gates, carried=np.ascontiguousarray(z, like=z), new=new)

    def recorded_factors(
        self, apply: Apply, sums: Sequence[Any], before: _States, after: _States
    ) -> _Factors:
        (projected, inner), width = sums, before[0].shape[-1]
        r, z = (
            apply(Sigmoid(), projected[..., part] + inner[..., part])
            for part in (slice(width), slice(width, 2 * width))
        )
        products = inner[..., 2 * width :]
        n = apply(Tanh(), projected[..., 2 * width :] + r * products)
        new = (1 - z) * (1 - n * n)
        to_r, to_z = new * products * (r * (1 - r)), (before[0] - n) * (z * (1 - z))
        return _Factors(np.stack([to_r, to_z, new * r], axis=2), carried=z, new=new)

    def _values(self, projected: Array, inner: Array) -> tuple[Array, Array, Array, Array]:
        """Return what r and z are computed from, what n is, both gates, and n."""
        width = inner.shape[-1] // 3
        sums = projected[..., : 2 * width] + inner[..., : 2 * width]
        r_and_z = kernels(inner).logistic.sigmoid(sums)
        new_sums = r_and_z[..., :width] * inner[..., 2 * width :]
        new_sums += projected[..., 2 * width :]
        return sums, new_sums, r_and_z, kernels(inner).activation.tanh.forward(new_sums)


class LSTM(Recurrent):
    """c' = f c + i g and h' = o tanh c', for gates i, f, o and g = tanh.

    The gates i, f and o are the sigmoid of their parts of projected + h Wᵀ, whose order is that of
    i, f, g and o.
    """

    gates = 4
    has_cell = True

    def step(
        self, projected: Array, inner: Array, before: Sequence[Array], after: Sequence[Array]
    ) -> None:
        kernels(inner).recurrent.lstm_step(projected, inner, before[1], *after)

    def pull(self, ends: Sequence[tuple[_Given, _Record]]) -> _Pull:
        ((given, record), *others) = ends
        if others or given.lengths is not None:
            return super().pull(ends)
        before, after = self._before(record, cell=True), self._after(record, cell=True)
        step = kernels(before).recurrent.lstm_step_backward

        def pull(t: int, state: Array, cell: Array, out: Array, _: Array) -> None:
            step(record.inner[t], before[t], after[t], state, cell, out)

        return pull

    def factors(self, ends: Sequence[tuple[_Given, _Record]]) -> _Factors:
        sums = [record.inner for _, record in ends]
        cells = [self._after(record, cell=True) for _, record in ends]
        tanh = kernels(sums[0]).activation.tanh
        squashed = [tanh.forward(cell) for cell in cells]
        gates = [kernels(x).logistic.sigmoid(x) for x in sums]
        parts = map(self._parts_of, gates, sums)
        i, f, g, o = (_mean(list(values)) for values in zip(*parts))
        steps, batch, width = g.shape
        new_sums = [x[..., 2 * width : 3 * width] for x in sums]
        new = _slopes(tanh, i, new_sums, [tanh.forward(x) for x in new_sums])
        slopes = _sigmoid_slopes(sums, gates).reshape(steps, batch, 4, width)
        slopes[:, :, 0] *= g
        slopes[:, :, 1] *= _mean([self._before(record, cell=True) for _, record in ends])
        slopes[:, :, 2] = new
        slopes[:, :, 3] *= _mean(squashed)
        return _Factors(slopes, to_cell=_slopes(tanh, o, cells, squashed), cell_carried=f)

    def recorded_factors(
        self, apply: Apply, sums: Sequence[Any], before: _States, after: _States
    ) -> _Factors:
        x, width = sums[0] + sums[1], before[0].shape[-1]
        parts = [x[..., k * width : (k + 1) * width] for k in range(4)]
        i, f, g, o = (
            apply(kind(), part) for kind, part in zip((Sigmoid, Sigmoid, Tanh, Sigmoid), parts)
        )
        squashed = apply(Tanh(), after[1])
        slopes = [
            g * (i * (1 - i)),
            before[1] * (f * (1 - f)),
            i * (1 - g * g),
            squashed * (o * (1 - o)),
        ]
        to_cell = o * (1 - squashed * squashed)
        return _Factors(np.stack(slopes, axis=2), to_cell=to_cell, cell_carried=f)

    def _parts_of(self, gates: Array, sums: Array) -> tuple[Array, Array, Array, Array]:
        """Return i, f, g and o, given the sigmoid of all sums, whose third part is of no use."""
        width = sums.shape[-1] // 4
        g = kernels(sums).activation.tanh.forward(sums[..., 2 * width : 3 * width])
        return gates[..., :width], gates[..., width : 2 * width], g, gates[..., 3 * width :]


class States(Linear):
    """States of a record: those of the `shape` that begin at `offset`."""

    def __init__(self, offset: int, shape: tuple[int, ...]) -> None:
        self.offset, self.shape = offset, shape

    def forward(self, record: Array) -> Array:
        return self._part(record)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, record: Array
    ) -> Gradients:
        # Memory that nothing writes to or reads costs nothing, unlike that of zeros_like.
        record_grad = np.zeros(record.shape, grad.dtype, like=record)
        self._part(record_grad)[...] = grad
        return (record_grad,)

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, record: Any
    ) -> Sequence[Any]:
        return (adjoint(apply, self, 0, grad, record),)

    def _part(self, record: Array) -> Array:
        return record[self.offset : self.offset + math.prod(self.shape)].reshape(self.shape)


class Padded(Linear):
    """x (T, N, H) with zeros from where each sequence, of `lengths` (N,), has stopped."""

    promotes = False

    def forward(self, x: Array, lengths: Array) -> Array:
        return np.where(_after_the_end(lengths, len(x)), x.dtype.type(0), x)

    def backward(
        self, grad: Array, needs: tuple[bool, ...], out: Array, x: Array, lengths: Array
    ) -> Gradients:
        return np.where(_after_the_end(lengths, len(x)), grad.dtype.type(0), grad), None

    def recorded_backward(
        self, apply: Apply, grad: Any, needs: tuple[bool, ...], out: Any, x: Any, lengths: Any
    ) -> Sequence[Any]:
        return apply(self, grad, lengths), None


def _after_the_end(lengths: Array, steps: int) -> Array:
    """Return where sequences have stopped, (steps, N, 1)."""
    after: Array = np.arange(steps, like=lengths)[:, np.newaxis] >= lengths
    return after[..., np.newaxis]


def _mean(ends: Sequence[Array]) -> Array:
    return ends[0] if len(ends) == 1 else midpoint(*ends)


def _slopes(loops: Any, grad: Array, x: Sequence[Array], values: Sequence[Array]) -> Array:
    """Return grad times an activation's derivative at one point, or its divided difference."""
    slopes: Array
    if len(x) == 1:
        slopes = loops.backward(grad, values[0])
    else:
        slopes = loops.average_backward(grad, x[0], values[0], x[1], values[1])
    return slopes


def _sigmoid_slopes(x: Sequence[Array], values: Sequence[Array]) -> Array:
    """Return the sigmoid's derivative at one point, or its divided difference between two."""
    slopes: Array
    if len(x) == 1:
        slopes = 1 - values[0]
        slopes *= values[0]
    else:
        slopes = kernels(x[0]).logistic.sigmoid_divided_difference(*x)
    return slopes
