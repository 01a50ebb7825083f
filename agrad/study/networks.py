"""The networks of the studies: deep, sequential, without skip connections."""

from collections.abc import Callable
from typing import Any

from agrad import nn

__all__ = ["ACTIVATIONS", "INITS", "dense_network"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky-relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
}

INITS: dict[str, Callable[[nn.Parameter], Any]] = {
    "glorot": nn.init.xavier_uniform_,
    "he": nn.init.kaiming_normal_,
    "lecun": nn.init.lecun_normal_,
    "orthogonal": nn.init.orthogonal_,
}

_RECTIFIERS = {"elu", "gelu", "leaky-relu", "relu", "silu", "softplus"}


def dense_network(
    inputs: int,
    classes: int,
    *,
    depth: int = 30,
    width: int = 64,
    activation: str = "tanh",
    init: str | None = None,
) -> nn.Sequential:
    """Return `depth` hidden layers of `width` units each, then a linear layer to the classes.

    Args:
        inputs: features of an example, after flattening.
        classes: logits of an example.
        depth: hidden layers, each followed by the activation; may be 0.
        width: units of a hidden layer.
        activation: one of `ACTIVATIONS`.
        init: one of `INITS`, for all weights; biases start at 0. By default the one that suits the
            activation: He's for rectifiers, LeCun's for SELU, Glorot's for the others.

    Raises:
        ValueError: an unknown activation or init, or a size below 1.

    Example:
        >>> from agrad.study.networks import dense_network
        >>> len(dense_network(64, 10, depth=30))
        62
    """
    for name, value, known in (("activation", activation, ACTIVATIONS), ("init", init, INITS)):
        if value is not None and value not in known:
            raise ValueError(f"dense_network: {name} must be one of {sorted(known)}, got {value!r}")
    for name, size, least in (
        ("inputs", inputs, 1),
        ("classes", classes, 1),
        ("depth", depth, 0),
        ("width", width, 1),
    ):
        if size < least:
            raise ValueError(f"dense_network: {name} must be at least {least}, got {size}")
    if init is None:
        init = "he" if activation in _RECTIFIERS else "lecun" if activation == "selu" else "glorot"

    layers: list[nn.Module] = [nn.Flatten()]
    features = inputs
    for _ in range(depth):
        layers += [nn.Linear(features, width), ACTIVATIONS[activation]()]
        features = width
    layers.append(nn.Linear(features, classes))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            INITS[init](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
