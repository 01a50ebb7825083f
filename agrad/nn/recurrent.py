"""Recurrent layers."""

import math
from typing import Any, ClassVar

import numpy as np

from agrad.core.tensor import Tensor, apply, as_tensor
from agrad.functions import concatenate, stack
from agrad.nn import functional as F
from agrad.nn import init
from agrad.nn.module import Module, Parameter
from agrad.ops import recurrent as ops

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


class _Recurrent(Module):
    """Layers of a recurrent network, in one or both directions."""

    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        name = type(self).__name__
        if min(input_size, hidden_size, num_layers) < 1:
            raise ValueError(
                f"{name}: input_size, hidden_size and num_layers must be at least 1, got "
                f"input_size={input_size}, hidden_size={hidden_size} and num_layers={num_layers}"
            )
        if not 0 <= dropout <= 1:
            raise ValueError(f"{name}: dropout must lie in [0, 1], got {dropout}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        rows, bound = self.gates * hidden_size, 1 / math.sqrt(hidden_size)
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size * self._directions
            for direction in range(self._directions):
                shapes: dict[str, tuple[int, ...]]
                shapes = {"weight_ih": (rows, width), "weight_hh": (rows, hidden_size)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                for kind, shape in shapes.items():
                    parameter = Parameter(np.empty(shape, np.float32))
                    init.uniform_(parameter, -bound, bound)
                    setattr(self, self.name_of(kind, layer, direction), parameter)

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @staticmethod
    def name_of(kind: str, layer: int, direction: int) -> str:
        """Return the name of a parameter."""
        return f"{kind}_l{layer}" + ("_reverse" if direction == 1 else "")

    def operation(self, reverse: bool, started: bool, masked: bool) -> ops.Recurrent:
        """Return the operation of one layer in one direction."""
        raise TypeError(f"{type(self).__name__}: the layer defines no operation")

    def _run(self, input: Any, hx: Any, lengths: Any) -> tuple[Tensor, list[Tensor]]:
        """Return the output, and the last states of each kind."""
        x = as_tensor(input)
        single = x.ndim == 2
        self._require_input(x)
        if single:
            x = x.reshape(len(x), 1, x.shape[1])
        elif self.batch_first:
            x = x.transpose(1, 0, 2)
        firsts = self._first_states(x, hx, single)
        if lengths is not None:
            lengths = self._checked_lengths(x, lengths)
        lasts: list[list[Tensor]] = [[] for _ in range(self.states)]
        for layer in range(self.num_layers):
            outs = []
            for direction in range(self._directions):
                place = layer * self._directions + direction
                first = [state[place] for state in firsts]
                out, *last = self._layer(x, layer, direction, first, lengths)
                outs.append(out)
                for kind, state in zip(lasts, last):
                    kind.append(state)
            x = outs[0] if len(outs) == 1 else concatenate(outs, axis=-1)
            if layer + 1 < self.num_layers:
                x = F.dropout(x, self.dropout, self.training)
        states = [stack(kind) for kind in lasts]
        if single:
            return x[:, 0], [state[:, 0] for state in states]
        return x.transpose(1, 0, 2) if self.batch_first else x, states

    def _layer(
        self, x: Tensor, layer: int, direction: int, first: list[Tensor], lengths: Tensor | None
    ) -> list[Tensor]:
        """Return the output (T, N, H), and the last states (N, H)."""
        weight_ih, weight_hh = (
            getattr(self, self.name_of(kind, layer, direction))
            for kind in ("weight_ih", "weight_hh")
        )
        biases = [
            getattr(self, self.name_of(kind, layer, direction))
            for kind in ("bias_ih", "bias_hh")
            if self.bias
        ]
        reverse = direction == 1
        operation = self.operation(reverse, bool(first), lengths is not None)
        added, inner = (biases[:1], biases[1:]) if operation.biased else (biases, [])
        projected = F.linear(x, weight_ih, sum(added[1:], added[0]) if added else None)
        record = apply(
            operation, projected, weight_hh, *first, *inner, *([] if lengths is None else [lengths])
        )
        steps, batch, width = *x.shape[:2], self.hidden_size
        after = 0 if reverse else batch * width
        out = apply(ops.States(after, (steps, batch, width)), record)
        end = 0 if reverse else steps
        last = [out[0 if reverse else -1]]
        if operation.has_cell:
            cells = (steps + 1) * batch * width
            last.append(apply(ops.States(cells + end * batch * width, (batch, width)), record))
        return [out if lengths is None else apply(ops.Padded(), out, lengths), *last]

    def _require_input(self, x: Tensor) -> None:
        name, axes = type(self).__name__, "(N, L, E)" if self.batch_first else "(L, N, E)"
        dtype = self._own(Parameter)[self.name_of("weight_ih", 0, 0)].dtype
        time = 1 if self.batch_first and x.ndim == 3 else 0
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size or x.shape[time] == 0:
            raise ValueError(
                f"{name}: input must have shape {axes} or (L, E) with E = {self.input_size} and L "
                f"at least 1, got {x.shape}"
            )
        if x.dtype != dtype:
            raise TypeError(f"{name}: input must be {dtype} like the weights, got {x.dtype}")

    def _first_states(self, x: Tensor, hx: Any, single: bool) -> list[Tensor]:
        """Return the first states, (layers, N, H) of each kind, or none."""
        if hx is None:
            return []
        name = type(self).__name__
        given = (hx,) if self.states == 1 else tuple(hx)
        if len(given) != self.states:
            raise ValueError(f"{name}: hx must be a pair (h_0, c_0), got {len(given)} arrays")
        count = self.num_layers * self._directions
        expected = (count, *([] if single else [x.shape[1]]), self.hidden_size)
        states = [as_tensor(state) for state in given]
        for state in states:
            if state.shape != expected or state.dtype != x.dtype:
                raise ValueError(
                    f"{name}: hx must be {x.dtype} of shape (layers · directions"
                    f"{'' if single else ', N'}, H) = {expected}, got {state.dtype} of shape "
                    f"{state.shape}"
                )
        return [state.reshape(count, x.shape[1], self.hidden_size) for state in states]

    def _checked_lengths(self, x: Tensor, lengths: Any) -> Tensor:
        checked = as_tensor(lengths)
        if checked.dtype.kind not in "iu" or checked.shape != x.shape[1:2]:
            raise ValueError(
                f"{type(self).__name__}: lengths must hold {x.shape[1]} integers, one for each "
                f"sequence, got {checked.dtype} of shape {checked.shape}"
            )
        return checked

    def extra_repr(self) -> str:
        options = {
            "num_layers": (self.num_layers, 1),
            "bias": (self.bias, True),
            "batch_first": (self.batch_first, False),
            "dropout": (self.dropout, 0.0),
            "bidirectional": (self.bidirectional, False),
        }
        changed = [f"{name}={value}" for name, (value, usual) in options.items() if value != usual]
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *changed])


class RNN(_Recurrent):
    """A recurrent network: h' = f(W_ih x + b_ih + W_hh h + b_hh) for f = tanh or ReLU.

    Args:
        input_size: E, the length of the input's vectors.
        hidden_size: H, the length of the states.
        num_layers: The number of layers; each takes the output of the one before.
        nonlinearity: "tanh" or "relu".
        bias: Whether the sums have biases.
        batch_first: Whether sequences have the shape (N, L, E) rather than (L, N, E).
        dropout: The probability with which an element of the output of a layer other than the last
            is set to zero in training.
        bidirectional: Whether each layer also runs backwards; its output then joins those of both
            directions.

    Attributes:
        weight_ih_l0: (H, E), W_ih of layer 0. In later layers, E is H times the number of
            directions.
        weight_hh_l0: (H, H); W_hh.
        bias_ih_l0, bias_hh_l0: (H,).
        weight_ih_l0_reverse, ...: The same of the other direction.

    All parameters are drawn from U(±1/√H).

    Raises:
        ValueError: A number is out of range, or the nonlinearity unknown.

    Source: Elman, "Finding Structure in Time", 1990.

    Example:
        >>> import numpy as np
        >>> from agrad import nn
        >>> out, last = nn.RNN(3, 4, batch_first=True)(np.ones((2, 5, 3), np.float32))
        >>> out.shape, last.shape
        ((2, 5, 4), (1, 2, 4))
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )

    def operation(self, reverse: bool, started: bool, masked: bool) -> ops.Recurrent:
        return ops.RNN(reverse, started, False, masked, self.nonlinearity)

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> tuple[Tensor, Tensor]:
        """Return the output and the last states.

        Args:
            input: (L, N, E); (N, L, E) if `batch_first`; or (L, E) for a single sequence.
            hx: The first states, (layers · directions, N, H), without N for a single sequence; zero
                by default.
            lengths: (N,), integers from 0 to L: where each sequence stops; padding follows. In
                PyTorch, such a batch is a PackedSequence.

        Returns:
            The output, of the input's shape with H times the directions in place of E, and zero at
            padding; and the last states, of the shape of `hx`: those before the padding.

        Raises:
            ValueError: A shape does not match, or a length is out of range.
            TypeError: The input does not have the dtype of the weights.
        """
        out, (last,) = self._run(input, hx, lengths)
        return out, last


class GRU(_Recurrent):
    """A network of gated recurrent units.

    With the gates r and z, h' = (1 - z) n + z h for n = tanh(W_in x + b_in + r (W_hn h + b_hn)).

    The arguments are those of `RNN`, without `nonlinearity`.

    Attributes:
        weight_ih_l0: (3 H, E), of layer 0; the rows are those of r, z and n. In later layers, E is
            H times the number of directions.
        weight_hh_l0: (3 H, H).
        bias_ih_l0, bias_hh_l0: (3 H,).
        weight_ih_l0_reverse, ...: The same of the other direction.

    All parameters are drawn from U(±1/√H).

    Raises:
        ValueError: A number is out of range.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014.

    Example:
        >>> import numpy as np
        >>> from agrad import nn
        >>> out, last = nn.GRU(3, 4, bidirectional=True)(np.ones((5, 2, 3), np.float32))
        >>> out.shape, last.shape
        ((5, 2, 8), (2, 2, 4))
    """

    gates = 3

    def operation(self, reverse: bool, started: bool, masked: bool) -> ops.Recurrent:
        return ops.GRU(reverse, started, self.bias, masked)

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> tuple[Tensor, Tensor]:
        """Return the output and the last states; see `RNN.forward`."""
        out, (last,) = self._run(input, hx, lengths)
        return out, last


class LSTM(_Recurrent):
    """A network of long short-term memory.

    With the gates i, f and o, c' = f c + i tanh(W_ig x + b_ig + W_hg h + b_hg) and h' = o tanh c'.

    The arguments are those of `RNN`, without `nonlinearity`.

    Attributes:
        weight_ih_l0: (4 H, E), of layer 0; the rows are those of i, f, g and o. In later layers, E
            is H times the number of directions.
        weight_hh_l0: (4 H, H).
        bias_ih_l0, bias_hh_l0: (4 H,).
        weight_ih_l0_reverse, ...: The same of the other direction.

    All parameters are drawn from U(±1/√H).

    Raises:
        ValueError: A number is out of range.

    Source: Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997.

    Example:
        >>> import numpy as np
        >>> from agrad import nn
        >>> lstm = nn.LSTM(3, 4, num_layers=2)
        >>> out, (h, c) = lstm(np.ones((5, 2, 3), np.float32), lengths=[5, 2])
        >>> out.shape, h.shape, c.shape
        ((5, 2, 4), (2, 2, 4), (2, 2, 4))
    """

    gates = 4
    states = 2

    def operation(self, reverse: bool, started: bool, masked: bool) -> ops.Recurrent:
        return ops.LSTM(reverse, started, False, masked)

    def forward(
        self, input: Any, hx: Any = None, lengths: Any = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the output and the last states, a pair (h_n, c_n).

        `hx` is a pair (h_0, c_0) too; all else is as for `RNN.forward`.
        """
        out, (hidden, cell) = self._run(input, hx, lengths)
        return out, (hidden, cell)


class _Cell(_Recurrent):
    """One step of a layer."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias=bias)

    @staticmethod
    def name_of(kind: str, layer: int, direction: int) -> str:
        """Return the name of a parameter."""
        return kind

    def _step(self, input: Any, hx: Any) -> list[Tensor]:
        """Return the next states."""
        x, name = as_tensor(input), type(self).__name__
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"{name}: input must have shape (N, E) or (E,) with E = {self.input_size}, got "
                f"{x.shape}"
            )
        if hx is not None:
            given = [as_tensor(state) for state in ((hx,) if self.states == 1 else tuple(hx))]
            expected = (*x.shape[:-1], self.hidden_size)
            if len(given) != self.states or any(state.shape != expected for state in given):
                raise ValueError(
                    f"{name}: hx must be {'one state' if self.states == 1 else 'a pair of states'} "
                    f"of shape {expected}, got {[state.shape for state in given]}"
                )
            firsts = [state.reshape(1, *state.shape) for state in given]
            hx = firsts[0] if self.states == 1 else firsts
        if x.ndim == 1:
            # A sequence of one vector.
            return [state[0] for state in self._run(x.reshape(1, -1), hx, None)[1]]
        return [state[0] for state in self._run(x.reshape(1, *x.shape), hx, None)[1]]


class RNNCell(_Cell):
    """One step of `RNN`.

    Args:
        input_size: E, the length of the input's vectors.
        hidden_size: H, the length of the states.
        bias: Whether the sums have biases.
        nonlinearity: "tanh" or "relu".

    Attributes:
        weight_ih: (H, E).
        weight_hh: (H, H).
        bias_ih, bias_hh: (H,).

    Raises:
        ValueError: A number is out of range, or the nonlinearity unknown.

    Example:
        >>> import numpy as np
        >>> from agrad import nn
        >>> cell, state = nn.RNNCell(3, 4), None
        >>> for x in np.ones((5, 2, 3), np.float32):
        ...     state = cell(x, state)
        >>> state.shape
        (2, 4)
    """

    gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh"
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"RNNCell: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}"
            )
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, bias)

    def extra_repr(self) -> str:
        return super().extra_repr() + (
            "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        )

    def operation(self, reverse: bool, started: bool, masked: bool) -> ops.Recurrent:
        return ops.RNN(reverse, started, False, masked, self.nonlinearity)

    def forward(self, input: Any, hx: Any = None) -> Tensor:
        """Return the next state, of the shape of `hx`.

        Args:
            input: (N, E), or (E,) for a single vector.
            hx: The state, (N, H) or (H,); zero by default.

        Raises:
            ValueError: A shape does not match.
            TypeError: The input does not have the dtype of the weights.
        """
        (state,) = self._step(input, hx)
        return state


class GRUCell(_Cell):
    """One step of `GRU`.

    The arguments are those of `RNNCell`, without `nonlinearity`.

    Attributes:
        weight_ih: (3 H, E).
        weight_hh: (3 H, H).
        bias_ih, bias_hh: (3 H,).

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> import numpy as np
        >>> from agrad import nn
        >>> nn.GRUCell(3, 4)(np.ones((2, 3), np.float32)).shape
        (2, 4)
    """

    gates = 3

    def operation(self, reverse: bool, started: bool, masked: bool) -> ops.Recurrent:
        return ops.GRU(reverse, started, self.bias, masked)

    def forward(self, input: Any, hx: Any = None) -> Tensor:
        """Return the next state; see `RNNCell.forward`."""
        (state,) = self._step(input, hx)
        return state


class LSTMCell(_Cell):
    """One step of `LSTM`.

    The arguments are those of `RNNCell`, without `nonlinearity`.

    Attributes:
        weight_ih: (4 H, E).
        weight_hh: (4 H, H).
        bias_ih, bias_hh: (4 H,).

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> import numpy as np
        >>> from agrad import nn
        >>> h, c = nn.LSTMCell(3, 4)(np.ones((2, 3), np.float32))
        >>> h.shape, c.shape
        ((2, 4), (2, 4))
    """

    gates = 4
    states = 2

    def operation(self, reverse: bool, started: bool, masked: bool) -> ops.Recurrent:
        return ops.LSTM(reverse, started, False, masked)

    def forward(self, input: Any, hx: Any = None) -> tuple[Tensor, Tensor]:
        """Return the next states, a pair (h, c).

        `hx` is a pair (h, c) too; all else is as for `RNNCell.forward`.
        """
        hidden, cell = self._step(input, hx)
        return hidden, cell
