"""The networks of the studies: deep, sequential, without skip connections."""

from collections.abc import Callable
from typing import Any

from agrad import nn
from agrad.core.tensor import Tensor
from agrad.study.data import DataSet

__all__ = [
    "ACTIVATIONS",
    "INITS",
    "KINDS",
    "dense_network",
    "image_network",
    "make_network",
    "text_network",
]

KINDS = ("dense", "conv")

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


def make_network(kind: str, data: DataSet, **options: Any) -> nn.Sequential:
    """Return the network of that kind, one of `KINDS`, for the data.

    Args:
        kind: "dense", or "conv" for an `image_network` or a `text_network`, whichever suits.
        data: what it is to learn.
        **options: `depth`, `width`, `activation` and `init`.

    Raises:
        ValueError: another kind, "dense" for texts, or what the network itself refuses.
    """
    if kind not in KINDS:
        raise ValueError(f"make_network: kind must be one of {KINDS}, got {kind!r}")
    if data.vocabulary is not None:
        if kind == "dense":
            raise ValueError("make_network: texts need the kind 'conv', got 'dense'")
        return text_network(data.vocabulary, data.classes, **options)
    image = data.train[0][0]
    if kind == "conv":
        return image_network(image.shape, data.classes, **options)
    return dense_network(image.size, data.classes, **options)


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
    init = _checked(
        "dense_network",
        activation,
        init,
        [("inputs", inputs, 1), ("classes", classes, 1), ("depth", depth, 0), ("width", width, 1)],
    )
    layers: list[nn.Module] = [nn.Flatten()]
    features = inputs
    for _ in range(depth):
        layers += [nn.Linear(features, width), ACTIVATIONS[activation]()]
        features = width
    layers.append(nn.Linear(features, classes))
    return _initialized(nn.Sequential(*layers), init)


def image_network(
    size: tuple[int, int],
    classes: int,
    *,
    depth: int = 12,
    width: int = 32,
    activation: str = "relu",
    init: str | None = None,
) -> nn.Sequential:
    """Return `depth` convolutions of `width` channels each, then a linear layer to the classes.

    The convolutions are 3x3 and keep the size; their blocks, three as equal as can be, end with a
    pooling that halves it, so that a channel's mean is over a few pixels at last.

    Args:
        size: height and width of an image; images are (N, height, width).
        classes: logits of an example.
        depth: convolutions, each followed by the activation; may be 0.
        width: channels of a convolution.
        activation: one of `ACTIVATIONS`.
        init: as for `dense_network`.

    Raises:
        ValueError: an unknown activation or init, a size below 1, or images of fewer than 8 pixels
            a side.

    Example:
        >>> from agrad.study.networks import image_network
        >>> network = image_network((28, 28), 10, depth=12)
        >>> network([[[0.0] * 28] * 28] * 2).shape
        (2, 10)
    """
    init = _checked(
        "image_network",
        activation,
        init,
        [
            *(("height", size[0], 8), ("width of an image", size[1], 8)),
            *(("classes", classes, 1), ("depth", depth, 0), ("width", width, 1)),
        ],
    )
    layers = [
        nn.Unflatten(1, (1, size[0])),
        *_conv_blocks(nn.Conv2d, nn.MaxPool2d, 3, 1, depth, width, activation),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width if depth else 1, classes)),
    ]
    return _initialized(nn.Sequential(*layers), init)


def text_network(
    vocabulary: int,
    classes: int,
    *,
    depth: int = 12,
    width: int = 32,
    activation: str = "relu",
    init: str | None = None,
) -> nn.Sequential:
    """Return an embedding, `depth` convolutions over time, and a linear layer to the classes.

    The convolutions take three words each and keep the length; their blocks, four as equal as can
    be, end with a pooling that halves it. The mean over what time is left goes to the classes.

    Args:
        vocabulary: ids that texts may have; texts are integers of shape (N, length), of length 16
            at least, filled up with the id 0.
        classes: logits of a text.
        depth: convolutions, each followed by the activation; may be 0.
        width: channels of a convolution, and numbers that stand for a word, which are small at the
            start: normal ones with a standard deviation of 0.1.
        activation: one of `ACTIVATIONS`.
        init: as for `dense_network`.

    Raises:
        ValueError: an unknown activation or init, or a size below 1.

    Example:
        >>> from agrad.study.networks import text_network
        >>> network = text_network(5000, 2, depth=12)
        >>> network([[17, 4, 0, 0] * 50] * 3).shape
        (3, 2)
    """
    init = _checked(
        "text_network",
        activation,
        init,
        [
            *(("vocabulary", vocabulary, 1), ("classes", classes, 1)),
            *(("depth", depth, 0), ("width", width, 1)),
        ],
    )
    embedding = nn.Embedding(vocabulary, width, padding_idx=0)
    embedding.weight.writable()[:] *= 0.1
    layers = [
        *(embedding, _ChannelsFirst()),
        *_conv_blocks(nn.Conv1d, nn.MaxPool1d, 4, width, depth, width, activation),
        *(nn.GlobalAvgPool1d(), nn.Linear(width, classes)),
    ]
    return _initialized(nn.Sequential(*layers), init)


class _ChannelsFirst(nn.Module):
    """From an embedding's (N, length, channels) to a convolution's (N, channels, length)."""

    def forward(self, input: Tensor) -> Tensor:
        return input.swapaxes(1, 2)


def _conv_blocks(
    conv: Callable[..., nn.Module],
    pool: Callable[[int], nn.Module],
    blocks: int,
    channels: int,
    depth: int,
    width: int,
    activation: str,
) -> list[nn.Module]:
    """Return blocks of convolutions that keep the size, each with a pooling that halves it."""
    layers: list[nn.Module] = []
    for block in range(blocks):
        for _ in range(depth * block // blocks, depth * (block + 1) // blocks):
            layers += [conv(channels, width, 3, padding=1), ACTIVATIONS[activation]()]
            channels = width
        layers.append(pool(2))
    return layers


def _checked(
    network: str, activation: str, init: str | None, sizes: list[tuple[str, int, int]]
) -> str:
    """Return the init, by default the one that suits the activation; refuse what is unknown."""
    for name, value, known in (("activation", activation, ACTIVATIONS), ("init", init, INITS)):
        if value is not None and value not in known:
            raise ValueError(f"{network}: {name} must be one of {sorted(known)}, got {value!r}")
    for name, size, least in sizes:
        if size < least:
            raise ValueError(f"{network}: {name} must be at least {least}, got {size}")
    if init is not None:
        return init
    return "he" if activation in _RECTIFIERS else "lecun" if activation == "selu" else "glorot"


def _initialized(network: nn.Sequential, init: str) -> nn.Sequential:
    """Give every weight its initial values, and every bias 0."""
    for layer in network:
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            INITS[init](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network
