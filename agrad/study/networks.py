"""The networks of the studies: deep and sequential, without skip connections."""

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
    """Return a network of the given kind for a data set.

    Args:
        kind: One of `KINDS`: "dense" for a `dense_network`, "conv" for an `image_network` or a
            `text_network`, depending on the data.
        data: The data set to learn.
        **options: `depth`, `width`, `activation` and `init` of the network.

    Raises:
        ValueError: `kind` is unknown, or "dense" for texts; or the network rejects an option.
    """
    if kind not in KINDS:
        raise ValueError(f"make_network: kind must be one of {KINDS}, got {kind!r}")
    if data.vocabulary is not None:
        if kind == "dense":
            raise ValueError("make_network: kind must be 'conv' for texts, got 'dense'")
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
        inputs: The number of features of an example, after flattening.
        classes: The number of logits of an example.
        depth: The number of hidden layers, each followed by the activation; may be 0.
        width: The number of units of a hidden layer.
        activation: One of `ACTIVATIONS`.
        init: One of `INITS`, for all weights; biases start at 0. The default suits the activation:
            He's for rectifiers, LeCun's for SELU, Glorot's for the others.

    Raises:
        ValueError: `activation` or `init` is unknown, or a size is too small.

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

    The convolutions are 3x3 and keep the size. They form three blocks, as equal as possible, and
    each block ends with a pooling that halves the size. The linear layer takes the mean of each
    channel.

    Args:
        size: The height and width of an image; images are of shape (N, height, width).
        classes: The number of logits of an example.
        depth: The number of convolutions, each followed by the activation; may be 0.
        width: The number of channels of a convolution.
        activation: One of `ACTIVATIONS`.
        init: As for `dense_network`.

    Raises:
        ValueError: `activation` or `init` is unknown, a size is too small, or an image has a side
            below 8 pixels.

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
            ("height", size[0], 8),
            ("width of an image", size[1], 8),
            ("classes", classes, 1),
            ("depth", depth, 0),
            ("width", width, 1),
        ],
    )
    layers = [
        nn.Unflatten(1, (1, size[0])),
        *_conv_blocks(nn.Conv2d, nn.MaxPool2d, 3, 1, depth, width, activation),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width if depth else 1, classes),
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

    The convolutions have a kernel of three words and keep the length. They form four blocks, as
    equal as possible, and each block ends with a pooling that halves the length. The linear layer
    takes the mean of each channel over time.

    Args:
        vocabulary: The number of ids. Texts are integers of shape (N, length), padded with id 0;
            their length is at least 16.
        classes: The number of logits of a text.
        depth: The number of convolutions, each followed by the activation; may be 0.
        width: The number of channels of a convolution, and the size of a word's vector. Initial
            vectors are small: normal, with a standard deviation of 0.1.
        activation: One of `ACTIVATIONS`.
        init: As for `dense_network`.

    Raises:
        ValueError: `activation` or `init` is unknown, or a size is too small.

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
            ("vocabulary", vocabulary, 1),
            ("classes", classes, 1),
            ("depth", depth, 0),
            ("width", width, 1),
        ],
    )
    embedding = nn.Embedding(vocabulary, width, padding_idx=0)
    embedding.weight.writable()[:] *= 0.1
    layers = [
        embedding,
        _ChannelsFirst(),
        *_conv_blocks(nn.Conv1d, nn.MaxPool1d, 4, width, depth, width, activation),
        nn.GlobalAvgPool1d(),
        nn.Linear(width, classes),
    ]
    return _initialized(nn.Sequential(*layers), init)


class _ChannelsFirst(nn.Module):
    """Swap the (N, length, channels) of an embedding to the (N, channels, length) of Conv1d."""

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
    """Validate the options and return the init, by default the one that suits the activation."""
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
    """Initialize all weights, and set all biases to 0."""
    for layer in network:
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            INITS[init](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network
