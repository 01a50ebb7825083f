"""Strategies for whole models, and for updates of parameters."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import DTypeLike

from agrad import nn
from agrad.backend import Array
from agrad.core.tensor import Tensor
from agrad.random import get_state, seed, set_state
from agrad.testing.strategies._arrays import seeds

__all__ = ["Model", "models", "updates"]

SMOOTH: list[Callable[[], nn.Module]] = [nn.Tanh, nn.Sigmoid, nn.SiLU, nn.GELU, nn.Softplus]
KINKED: list[Callable[[], nn.Module]] = [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU]

sizes = st.integers(1, 4)


class Model(NamedTuple):
    """A module, and an array to call it with."""

    module: nn.Sequential
    input: Array


Layers = tuple[list[nn.Module], Array]


@st.composite
def _dense(draw: st.DrawFn, activations: Any, rng: np.random.Generator) -> Layers:
    width = draw(sizes)
    x = rng.normal(size=(draw(sizes), width))
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 3))):
        following = draw(sizes)
        layers += [nn.Linear(width, following, bias=draw(st.booleans())), draw(activations)()]
        width = following
    if draw(st.booleans()):
        layers.append(nn.LayerNorm(width, eps=0.1))
    return layers, x


@st.composite
def _image(draw: st.DrawFn, activations: Any, rng: np.random.Generator, smooth: bool) -> Layers:
    channels, filters, side = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(sizes) + 3
    # With fewer images, batch normalization of a pixel would be nearly constant.
    x = rng.normal(size=(3, channels, side, side))
    layers: list[nn.Module] = [
        nn.Conv2d(channels, filters, draw(st.integers(1, 3)), padding=draw(st.integers(0, 1)))
    ]
    if draw(st.booleans()):
        layers.append(nn.BatchNorm2d(filters))
    pools = [nn.AvgPool2d(2)] if smooth else [nn.AvgPool2d(2), nn.MaxPool2d(2)]
    layers += [draw(activations)(), draw(st.sampled_from(pools))]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(filters, draw(sizes))]
    return layers, x


@st.composite
def _text(draw: st.DrawFn, activations: Any, rng: np.random.Generator, smooth: bool) -> Layers:
    words, features, length = draw(sizes), draw(sizes), draw(st.integers(1, 5))
    ids = rng.integers(0, words, (draw(sizes), features, length))
    # Each feature of a text is embedded as one number, so that channels precede positions.
    layers: list[nn.Module] = [nn.Embedding(words, 1), nn.Flatten(2)]
    layers += [nn.Conv1d(features, draw(sizes), 1), draw(activations)()]
    pool = (
        nn.GlobalAvgPool1d
        if smooth
        else draw(st.sampled_from([nn.GlobalAvgPool1d, nn.GlobalMaxPool1d]))
    )
    return [*layers, pool()], ids


def models(*, smooth: bool = False, dtype: DTypeLike = np.float64) -> st.SearchStrategy[Model]:
    """Draw small networks for vectors, images and texts, each with a matching input.

    Args:
        smooth: Whether to leave out networks with kinks, such as those of ReLU and max pooling.
        dtype: The dtype of parameters and input, float32 or float64.

    Example:
        >>> from hypothesis import find
        >>> from agrad.testing import strategies as ags
        >>> module, x = find(ags.models(), lambda model: "MaxPool2d" in repr(model.module))
        >>> x.shape, module(x).shape
        ((3, 1, 4, 4), (3, 1))
    """
    activations = st.sampled_from(SMOOTH if smooth else [*SMOOTH, *KINKED])

    @st.composite
    def strategy(draw: st.DrawFn) -> Model:
        number = draw(seeds)
        rng = np.random.default_rng(number)
        state = get_state()
        seed(number)
        try:
            layers, x = draw(
                _dense(activations, rng)
                | _image(activations, rng, smooth)
                | _text(activations, rng, smooth)
            )
        finally:
            set_state(state)
        module = nn.Sequential(*layers).to(dtype)
        return Model(module, x.astype(dtype) if x.dtype.kind == "f" else x)

    return strategy()


def updates(
    params: Sequence[Tensor], *, smallest: float = 1e-12, largest: float = 10.0
) -> st.SearchStrategy[dict[Tensor, Array]]:
    """Draw updates of some of the parameters, of all sizes.

    Args:
        params: The Tensors to move; an update has the shape and dtype of its Tensor.
        smallest: The smallest size of an update; sizes are log-uniform.
        largest: The largest size; no element is larger in magnitude.

    Raises:
        ValueError: There are no parameters, or the sizes do not satisfy 0 < smallest ≤ largest.

    Example:
        >>> import agrad as ag
        >>> from hypothesis import find
        >>> from agrad.testing import strategies as ags
        >>> x = ag.tensor([1.0, 2.0], requires_grad=True)
        >>> find(ags.updates([x]), lambda update: abs(update[x]).max() > 1)[x].dtype
        dtype('float32')
    """
    if not params or not 0 < smallest <= largest:
        raise ValueError(
            f"updates: needs parameters, and 0 < smallest <= largest; got {len(params)} of them, "
            f"smallest={smallest} and largest={largest}"
        )

    @st.composite
    def strategy(draw: st.DrawFn) -> dict[Tensor, Array]:
        size = 10.0 ** draw(st.floats(float(np.log10(smallest)), float(np.log10(largest))))
        rng = np.random.default_rng(draw(seeds))
        move = [True, *[draw(st.booleans()) for _ in params[1:]]]
        return {
            param: np.asarray(size * rng.uniform(-1, 1, param.shape), dtype=param.dtype)
            for param, moves in zip(params, move, strict=True)
            if moves
        }

    return strategy()
