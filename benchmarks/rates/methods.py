"""The methods of the suite, by name: agrad's optimizers, and those of PyTorch packages."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any
from unittest.mock import patch

import numpy as np

import agrad
from agrad import nn, optim
from agrad.core.tensor import as_tensor
from agrad.errors import NonFiniteError
from agrad.optim.line_search import search
from agrad.optim.losses import Losses
from agrad.train import DECAY, capture_step, train_step
from agrad.train.loop import decay_factor

__all__ = ["ABLATIONS", "AUTO", "METHODS", "RATES", "START", "STARTS", "Method", "Peer", "decay"]

# Half-decades. Adam's rates for networks lie around 1e-3: lower for deep ones, higher for shallow
# and linear ones, for large batches, and where a decay follows, as it does here. Below 1e-4 no task
# has enough steps to converge, and a step of 1e-1 is as large as a weight. The grid was chosen
# before any curve was seen. The report counts how often the best rate lies at its edge.
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
START = 1e-4
STARTS = (1e-6, 1e-5, 1e-3, 1e-2)

AUTO = "auto"


def decay(step: int, steps: int) -> float:
    """Return the factor of the rate at a step, 1 to `steps`, as `train` decays automatic rates."""
    return decay_factor(step, steps, DECAY)


class Own:
    """Steps of one of agrad's optimizers, captured."""

    def __init__(self, model: nn.Module, loss_function: Any, optimizer: optim.Optimizer) -> None:
        self.optimizer = optimizer
        self._step = capture_step(model, optimizer, loss_function)

    def step(self, inputs: Any, targets: Any, factor: float) -> float:
        """Make a step at `factor` times the rate, and return the loss before it."""
        self.optimizer.scale = factor
        return self._step(inputs, targets)

    def evaluating(self) -> AbstractContextManager[None]:
        """Give the model the weights to use, rather than those to train, in a `with` block."""
        return nullcontext()


class Peer:
    """Steps of a PyTorch optimizer on agrad's own arrays; agrad computes the gradients.

    PyTorch's tensors share the memory of agrad's parameters and gradients, so there is one model.
    """

    def __init__(
        self, model: nn.Module, loss_function: Any, make: Callable[[list[Any]], Any]
    ) -> None:
        import torch

        torch.set_num_threads(1)
        self._torch = torch
        self._forward = agrad.capture(model)
        self._loss_function = loss_function
        self._params = list(model.parameters())
        self._arrays = [param.writable() for param in self._params]
        self._twins = [torch.nn.Parameter(torch.from_numpy(array)) for array in self._arrays]
        self.optimizer = make(self._twins)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        # Schedule-Free trains other weights than those to use.
        self._has_modes = hasattr(self.optimizer, "eval")
        if self._has_modes:
            self.optimizer.train()

    def step(self, inputs: Any, targets: Any, factor: float) -> float:
        """Make a step at `factor` times the rate, and return the loss before it.

        Raises:
            NonFiniteError: The loss is NaN or infinite.
        """
        for param in self._params:
            param.zero_grad()
        with np.errstate(all="ignore"):  # the error below reports an overflow
            loss = self._loss_function(self._forward(as_tensor(inputs)), targets)
            value = float(loss.item())
            if not math.isfinite(value):
                raise NonFiniteError(f"the loss is {value}")
            loss.backward()
        for param, array, twin in zip(self._params, self._arrays, self._twins):
            if param.writable() is not array:
                raise RuntimeError(f"a parameter, {param.shape}, has moved to another array")
            twin.grad = self._torch.from_numpy(param.grad)
        for group, rate in zip(self.optimizer.param_groups, self._rates):
            group["lr"] = rate * factor
        self.optimizer.step()
        return value

    def loss(self, inputs: Any, targets: Any) -> float:
        """Return the loss on a batch."""
        with agrad.no_grad(), np.errstate(all="ignore"):
            return float(self._loss_function(self._forward(as_tensor(inputs)), targets).item())

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Give the model the weights to use, rather than those to train, in a `with` block."""
        if not self._has_modes:
            yield
            return
        self.optimizer.eval()
        try:
            yield
        finally:
            self.optimizer.train()


@dataclass(frozen=True)
class Method:
    """A way to train.

    Attributes:
        start: Takes a model, a loss function and a rate, and returns the object that makes steps.
        rates: The rates to run it at; None is a package's default.
        decays: Whether the rate decays at the end.
        averages: Whether the weights to use differ from those to train, and so do their losses.
    """

    start: Callable[[nn.Module, Any, Any], Own | Peer]
    rates: Sequence[float | None] = RATES
    decays: bool = True
    averages: bool = False


def own(make: Callable[..., optim.Optimizer]) -> Callable[[nn.Module, Any, float], Own]:
    return lambda model, loss, lr: Own(model, loss, make(model.parameters(), lr=lr))


def peer(package: str, name: str) -> Callable[[nn.Module, Any, None], Peer]:
    return lambda model, loss, _: Peer(model, loss, getattr(import_module(package), name))


def auto(params: Any, lr: float) -> optim.Optimizer:
    """Return the default configuration, started at `lr`."""
    return optim.AverageGradient(optim.Adam(params, lr=lr, cautious=True), lr="auto")


METHODS = {
    AUTO: Method(own(auto), (START,)),
    f"{AUTO}, no decay": Method(own(auto), (START,), decays=False),
    "Adam": Method(own(optim.Adam)),
    "AdamW": Method(own(optim.AdamW)),
    "RMSprop": Method(own(partial(optim.RMSprop, alpha=0.9))),  # as in the studies
    "cautious Adam": Method(own(partial(optim.Adam, cautious=True))),
    "cautious AdamW": Method(own(partial(optim.AdamW, cautious=True))),
    # The authors of Prodigy and D-Adaptation recommend a decay. Those of DoG recommend an average
    # of the weights in its place, for trainings of unknown length; here the length is known.
    "Prodigy": Method(peer("prodigyopt", "Prodigy"), (None,)),
    "D-Adaptation": Method(peer("dadaptation", "DAdaptAdam"), (None,)),
    "DoG": Method(peer("dog", "DoG"), (None,)),
    "Schedule-Free": Method(
        peer("schedulefree", "AdamWScheduleFree"), (None,), decays=False, averages=True
    ),
}


# -- alternatives to parts of the average gradient's step ------------------------------------------

FIXED = (1e-3, 2e-3, 4e-3)


class Twice(Own):
    """Two plain steps on each batch."""

    def step(self, inputs: Any, targets: Any, factor: float) -> float:
        """Make both steps, and return the loss before the first."""
        loss = super().step(inputs, targets, factor)
        super().step(inputs, targets, factor)
        return loss


class Estimated(Own):
    """Steps by another estimate of the average gradient, or by other fractions.

    They are not captured, since the estimates sweep the recorded graph at other points.
    """

    def __init__(
        self, model: nn.Module, loss_function: Any, rate: float, estimates: Any, fractions: Any
    ) -> None:
        self.optimizer = fixed(model.parameters(), rate)
        self._model, self._loss_function = model, loss_function
        self._parts = {"Losses": estimates, "search": fractions}

    def step(self, inputs: Any, targets: Any, factor: float) -> float:
        """Make a step at `factor` times the rate, and return the loss before it."""
        self.optimizer.scale = factor
        self.optimizer.zero_grad()
        with patch.multiple("agrad.optim.average_gradient", **self._parts):
            return train_step(self._model, self.optimizer, inputs, targets, self._loss_function)


class Estimate(Losses):
    """Losses whose average gradients are estimates by point gradients along the update."""

    shares: Sequence[float]
    weights: Sequence[float]

    def averages(self, ends: Any, retain_graph: bool) -> dict[Any, Any]:
        """Return the weighted mean of gradients at points on the way.

        Raises:
            NonFiniteError: A loss at the end is not finite.
        """
        if not np.isfinite(self.value_at(ends)):
            raise NonFiniteError("the loss at the end is not finite")
        found: dict[Any, Any] = {}
        for program in self._programs:
            for share, weight in zip(self.shares, self.weights):
                points = {
                    leaf: (1 - share) * leaf.data + share * end
                    for leaf, end in ends(program).items()
                }
                run = program.moved(points)
                seed = np.full_like(run.values[program.result], weight)
                grads = program.sweep(seed, run, run)
                for leaf, slots in program.leaves.items():
                    for grad in (grads[slot] for slot in slots if grads[slot] is not None):
                        found[leaf] = found.get(leaf, 0) + grad
        return found


class Midpoint(Estimate):
    """The gradient in the middle."""

    shares, weights = (0.5,), (1.0,)


class Trapezoid(Estimate):
    """The mean of the gradients at both ends."""

    shares, weights = (0.0, 1.0), (0.5, 0.5)


class Extrapolated(Losses):
    """Average gradients extrapolated from one and two segments."""

    def averages(self, ends: Any, retain_graph: bool) -> dict[Any, Any]:
        """Return the extrapolated average gradient."""
        found: dict[Any, Any] = {}
        for program in self._programs:
            to = ends(program)
            starts = program.starts()

            def path(share: float, to: Any = to, starts: Any = starts) -> dict[Any, Any]:
                return {leaf: (1 - share) * starts[leaf] + share * to[leaf] for leaf in to}

            found |= program.average(path, extrapolate=True, retain_graph=True)[1]
        return found


class Curved(Losses):
    """g + HΔ/2, by a Hessian-vector product."""

    def __init__(self, losses: Sequence[Any], *rest: Any) -> None:
        super().__init__(losses, *rest)
        self._losses = losses

    def averages(self, ends: Any, retain_graph: bool) -> dict[Any, Any]:
        """Return the estimate, with the Hessian at the start."""
        (program,), (loss,) = self._programs, self._losses
        if not np.isfinite(self.value_at(ends)):
            raise NonFiniteError("the loss at the end is not finite")
        to = ends(program)
        leaves = [leaf for leaf in program.leaves if leaf in to]
        vectors = [to[leaf] - leaf.data for leaf in leaves]
        with agrad.enable_grad():
            products = agrad.hvp(loss, leaves, vectors)
        grads = self.gradients()
        return {leaf: grads[leaf] + 0.5 * hv.data for leaf, hv in zip(leaves, products)}


def implicit(proposals: Any, own: Any, averages: Any, granularity: str) -> Any:
    """Scale the updates by 1/(1 - (ĝ - p)/g), the fraction of a linearly implicit step."""
    for (_, g, delta), p, average in zip(proposals, own, averages):
        rise = (average - p) * delta.array
        fall = -g * delta.array
        with np.errstate(all="ignore"):
            t = np.where(rise > 0, fall / (fall + rise), 1)
        np.multiply(delta.array, np.where(fall > 0, t, 0), out=delta.array)
    return 1.0, 1.0


def fixed(params: Any, lr: float, **options: Any) -> optim.Optimizer:
    """Return the average gradient around cautious Adam at a fixed rate, measured every step."""
    return optim.AverageGradient(optim.Adam(params, lr=lr, cautious=True), **options)


def estimated(estimates: Any = Losses, fractions: Any = search) -> Method:
    return Method(lambda model, loss, lr: Estimated(model, loss, lr, estimates, fractions), FIXED)


def option(**options: Any) -> Method:
    """Return the default configuration with other options."""

    def make(params: Any, lr: float) -> optim.Optimizer:
        return optim.AverageGradient(
            optim.Adam(params, lr=lr, cautious=True), **{"lr": "auto", **options}
        )

    return Method(own(make), (START,))


ABLATIONS = {
    "fixed: as it is": estimated(),
    "fixed: trapezoid": estimated(Trapezoid),
    "fixed: midpoint": estimated(Midpoint),
    "fixed: Hessian-vector product": estimated(Curved),
    "fixed: extrapolated": estimated(Extrapolated),
    "fixed: implicit fractions": estimated(fractions=implicit),
    "granularity row": option(granularity="row"),
    "granularity tensor": option(granularity="tensor"),
    "granularity model": option(granularity="model"),
    "every 1, no smoothing": option(every=1, smoothing=0.0),
    "every 1": option(every=1),
    "every 2": option(every=2),
    "every 8": option(every=8),
    "smoothing 0": option(smoothing=0.0),
    "smoothing 0.97": option(smoothing=0.97),
    "probe 8": option(probe_size=8),
    "probe 32": option(probe_size=32),
    "whole batch": option(probe_size=None),
    "not verified": option(verify=False),
    "Adam, two steps a batch": Method(
        lambda model, loss, lr: Twice(model, loss, optim.Adam(model.parameters(), lr=lr)), FIXED
    ),
    "half the batch, Adam": Method(own(optim.Adam), FIXED),
}
"""The methods that the ablations compare with the default configuration and with Adam."""
