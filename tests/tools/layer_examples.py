"""Example layers with inputs for them: at least one of every layer of `agrad.nn` but the losses.

Tests of properties of all layers use them: `tests/nn/test_layers.py`,
`tests/nn/test_pytorch_weights.py` and `tests/test_onnx.py`.
"""

import re
from typing import Any, NamedTuple

import numpy as np

from agrad import nn


class Inputs(NamedTuple):
    """The inputs of a layer.

    Attributes:
        parts: For each input the shape of numbers to draw, or an array.
        batch_axis: The axis of the examples in all inputs; None for a single example without one.
    """

    parts: tuple[Any, ...]
    batch_axis: int | None = 0


# The shape of the only input, whose first axis is the batch.
_BATCHES: dict[str, tuple[int, ...]] = {
    "Linear(5, 3)": (4, 5),
    "Linear(5, 3, bias=False)": (2, 4, 5),
    "Identity()": (2, 3),
    "Flatten()": (2, 3, 4),
    "Flatten(0, 1)": (2, 3, 4),
    "Unflatten(1, (2, 3))": (2, 6, 4),
    "Unflatten(-1, (4, 1))": (2, 6, 4),
    "Dropout(0.5).eval()": (2, 5),
    "Dropout1d(0.5).eval()": (2, 3, 4),
    "Dropout2d(0.5).eval()": (2, 3, 4, 2),
    "Dropout3d(0.5).eval()": (2, 3, 4, 2, 3),
    "Sequential(Linear(5, 4), Tanh(), Sequential(Linear(4, 3), LayerNorm(3)), ReLU())": (6, 5),
    # activations
    "ReLU()": (4, 5),
    "LeakyReLU(0.2)": (4, 5),
    "PReLU()": (4, 5),
    "PReLU(5, init=0.5)": (3, 5, 4),
    "ELU(1.5)": (4, 5),
    "SELU()": (4, 5),
    "Tanh()": (4, 5),
    "Sigmoid()": (4, 5),
    "Softplus()": (4, 5),
    "Softplus(2.0)": (4, 5),
    "Softsign()": (4, 5),
    "SiLU()": (4, 5),
    "GELU()": (4, 5),
    "GELU(approximate='tanh')": (4, 5),
    "Mish()": (4, 5),
    "Hardswish()": (4, 5),
    "GLU()": (4, 6),
    "GLU(dim=1)": (2, 6, 5),
    "Softmax(dim=-1)": (2, 4, 5),
    "LogSoftmax(dim=1)": (2, 4, 5),
    "LogSigmoid()": (4, 5),
    # normalization
    "LayerNorm(5)": (4, 5),
    "LayerNorm((4, 5), eps=1e-2)": (3, 4, 5),
    "LayerNorm(5, elementwise_affine=False)": (4, 5),
    "LayerNorm(5, bias=False)": (4, 5),
    "RMSNorm(5)": (2, 4, 5),
    "RMSNorm((4, 5), eps=1e-2)": (3, 4, 5),
    "RMSNorm(5, elementwise_affine=False)": (4, 5),
    "GroupNorm(2, 6)": (3, 6, 4),
    "GroupNorm(2, 6, eps=1e-3)": (3, 6),
    "GroupNorm(3, 6, eps=1e-2, affine=False)": (3, 6, 4, 2),
    "GroupNorm(1, 6, bias=False)": (3, 6, 4),
    "BatchNorm1d(5)": (7, 5),
    "BatchNorm1d(5, momentum=0.2)": (4, 5, 3),
    "BatchNorm1d(5, bias=False)": (7, 5),
    "BatchNorm1d(5, momentum=None, affine=False)": (3, 5, 4),
    "BatchNorm2d(5)": (4, 5, 3, 2),
    "BatchNorm2d(5).eval()": (3, 5, 4, 2),
    "BatchNorm2d(5, affine=False)": (2, 5, 3, 2),
    "BatchNorm2d(5, eps=1e-2, track_running_stats=False)": (3, 5, 4, 2),
    "BatchNorm2d(5, track_running_stats=False).eval()": (3, 5, 4, 2),
    "BatchNorm3d(5)": (2, 5, 3, 4, 2),
    "InstanceNorm1d(5)": (3, 5, 4),
    "InstanceNorm1d(5, affine=True)": (2, 5, 4),
    "InstanceNorm1d(5, affine=True, track_running_stats=True)": (3, 5, 4),
    "InstanceNorm1d(5, affine=True, bias=False, track_running_stats=True)": (3, 5, 4),
    "InstanceNorm2d(5, momentum=None, track_running_stats=True)": (3, 5, 4, 2),
    "InstanceNorm2d(5, track_running_stats=True)": (2, 5, 4, 2),
    "InstanceNorm2d(5, affine=True, track_running_stats=True).eval()": (3, 5, 4, 2),
    "InstanceNorm3d(5, affine=True)": (2, 5, 2, 4, 2),
    "InstanceNorm3d(5, affine=True, track_running_stats=True)": (3, 5, 2, 4, 2),
    # convolutions
    "Conv1d(4, 6, 3)": (2, 4, 9),
    "Conv1d(4, 6, 3, groups=2)": (2, 4, 9),
    "Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2)": (2, 4, 9),
    "Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2, bias=False)": (2, 4, 9),
    "Conv2d(4, 6, (3, 5))": (2, 4, 9, 7),
    "Conv2d(4, 6, (3, 5), padding='same')": (2, 4, 9, 7),
    "Conv2d(4, 6, (3, 5), padding='same', bias=False)": (2, 4, 9, 7),
    "Conv2d(4, 6, (2, 4), padding='same')": (2, 4, 9, 7),
    "Conv3d(4, 6, (2, 3, 1), groups=2)": (2, 4, 3, 5, 4),
    "Conv3d(4, 6, (2, 3, 1), padding='same', dilation=2)": (2, 4, 3, 9, 7),
    "Conv3d(4, 6, (2, 3, 2), (1, 2, 2), (2, 1, 0), groups=2)": (2, 4, 5, 9, 7),
    "ConvTranspose1d(4, 6, 3, stride=2)": (2, 4, 9),
    "ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2)": (2, 4, 9),
    "ConvTranspose2d(4, 6, (3, 2), groups=2)": (2, 4, 5, 3),
    "ConvTranspose2d(4, 6, (3, 2), stride=2, dilation=2)": (2, 4, 5, 3),
    "ConvTranspose2d(4, 6, (3, 2), stride=2, bias=False, dilation=2)": (2, 4, 5, 3),
    "ConvTranspose3d(4, 6, (2, 3, 1))": (2, 4, 3, 5, 3),
    "ConvTranspose3d(4, 6, 2, (2, 1, 3), (1, 0, 0))": (2, 4, 3, 5, 3),
    "ConvTranspose3d(4, 6, (3, 2, 2), (2, 1, 3), (1, 0, 0), (1, 0, 2), groups=2)": (2, 4, 3, 5, 3),
    # pooling
    "MaxPool1d(2)": (2, 4, 9),
    "MaxPool1d(3, 2, ceil_mode=True)": (2, 4, 8),
    "MaxPool2d(3, 2, padding=1, ceil_mode=True)": (2, 4, 9, 8),
    "MaxPool3d((2, 3, 3), 2, padding=1, ceil_mode=True)": (2, 4, 4, 9, 8),
    "AvgPool1d(3, stride=2)": (2, 4, 9),
    "AvgPool1d(3, stride=2, ceil_mode=True)": (2, 4, 8),
    "AvgPool2d((2, 3), padding=1, count_include_pad=False)": (2, 4, 9, 8),
    "AvgPool2d(3, 2, 1, ceil_mode=True, divisor_override=5)": (2, 4, 8, 8),
    "AvgPool3d(2, 1, ceil_mode=True)": (2, 4, 4, 5, 5),
    "AvgPool3d((3, 2, 3), 2, padding=1, divisor_override=5)": (2, 4, 4, 9, 8),
    "AdaptiveAvgPool1d(1)": (2, 4, 9),
    "AdaptiveAvgPool2d((4, 3))": (2, 4, 9, 8),
    "AdaptiveAvgPool2d((None, 2))": (2, 4, 9, 8),
    "AdaptiveAvgPool3d((2, 4, 3))": (2, 4, 5, 9, 8),
    "GlobalAvgPool1d()": (2, 3, 5),
    "GlobalMaxPool1d()": (2, 3, 5),
    # changes of size
    "Upsample(scale_factor=2)": (2, 3, 5),
    "Upsample(scale_factor=(1.7, 0.6))": (2, 3, 5, 7),
    "Upsample(size=(3, 11))": (2, 3, 5, 7),
    "Upsample(size=7, mode='linear')": (2, 3, 5),
    "Upsample(size=9, mode='linear', align_corners=True)": (2, 3, 5),
    "Upsample(scale_factor=(2, 1.5), mode='bilinear')": (2, 3, 5, 4),
    "Upsample(size=(9, 3), mode='bilinear', align_corners=True)": (2, 3, 5, 4),
    "Upsample(scale_factor=(2, 0.6, 1.7))": (2, 3, 2, 5, 4),
    "Upsample(scale_factor=(2, 1.5, 0.7), mode='trilinear')": (2, 3, 2, 5, 4),
    "Upsample(size=(1, 9, 3), mode='trilinear', align_corners=True)": (2, 3, 2, 5, 4),
    "ZeroPad1d(2)": (2, 3, 4),
    "ZeroPad2d((1, -1, 0, 2))": (2, 3, 4, 5),
    "ConstantPad1d((1, 2), 2.5)": (2, 3, 4),
    "ConstantPad2d(1, 0.5)": (2, 3, 4, 5),
    "ReflectionPad1d((2, 3))": (2, 3, 4),
    "ReflectionPad2d((4, 0, 1, 3))": (2, 3, 4, 5),
    "ReplicationPad1d(5)": (2, 3, 4),
    "ReplicationPad2d((1, 0, 2, 6))": (2, 3, 4, 5),
    "CircularPad1d((4, 1))": (2, 3, 4),
    "CircularPad2d(2)": (2, 3, 4, 5),
    # sequences
    "RNN(3, 4, nonlinearity='relu', batch_first=True)": (2, 5, 3),
    "RNN(3, 4, 2, bias=False, bidirectional=True, batch_first=True)": (2, 5, 3),
    "GRU(3, 4, 2, bidirectional=True, batch_first=True)": (2, 5, 3),
    "LSTM(3, 4, 2, bidirectional=True, batch_first=True)": (2, 5, 3),
    "RNNCell(3, 4, nonlinearity='relu')": (2, 3),
    "GRUCell(3, 4)": (2, 3),
    "LSTMCell(3, 4)": (2, 3),
    "LSTMCell(3, 4, bias=False)": (2, 3),
    "TransformerEncoderLayer(8, 2, 16, activation='gelu', batch_first=True).eval()": (2, 5, 8),
    "TransformerEncoder(TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()": (2, 5, 8),
    "PositionalEncoding(8, batch_first=True).eval()": (2, 5, 8),
}

# The shape of the only input, which has no batch axis or mixes its examples.
_SINGLE: dict[str, tuple[int, ...]] = {
    "GLU(dim=0)": (4, 5),
    "Softmax(dim=0)": (4, 5),
    "InstanceNorm1d(5, eps=1e-4, affine=True)": (5, 4),
    "InstanceNorm3d(5, eps=1e-4, affine=True)": (5, 3, 4, 2),
    "Conv2d(4, 6, 3, 2, (1, 0), groups=2)": (4, 9, 7),
    "Conv3d(4, 6, 3, (1, 2, 2), (2, 1, 0), groups=2)": (4, 5, 9, 7),
    "AdaptiveAvgPool3d((None, 2, 3))": (4, 3, 9, 8),
    "ConstantPad1d(2, -1.0)": (3, 4),
    "ReflectionPad2d((3, 1, 2, 0))": (3, 4, 5),
}

_OTHERS = {
    "RNN(3, 4, num_layers=2, bias=False)": Inputs(((5, 2, 3),), 1),
    "GRU(3, 4, num_layers=2, bidirectional=True)": Inputs(((5, 2, 3),), 1),
    "LSTM(3, 4, num_layers=2, bidirectional=True)": Inputs(((5, 2, 3),), 1),
    "Embedding(7, 3)": Inputs((np.array([[1, 2], [6, 0]]),)),
    "CosineSimilarity()": Inputs(((2, 5), (2, 5))),
    "PairwiseDistance()": Inputs(((2, 5), (2, 5))),
    "MultiheadAttention(8, 2, add_bias_kv=True)": Inputs(((5, 2, 8),) * 3, 1),
    "MultiheadAttention(8, 2, kdim=3, vdim=4)": Inputs(((5, 2, 8), (5, 2, 3), (5, 2, 4)), 1),
    "TransformerDecoder(TransformerDecoderLayer(8, 2, 16), 2).eval()": Inputs(
        ((4, 2, 8), (5, 2, 8)), 1
    ),
    # The indices are those of one element of each window.
    "MaxUnpool1d(2)": Inputs(((2, 3, 4), np.tile([1, 2, 4, 7], (2, 3, 1)))),
    "MaxUnpool2d(2)": Inputs(((2, 3, 2, 2), np.tile([[4, 2], [9, 15]], (2, 3, 1, 1)))),
    "MaxUnpool3d((1, 2, 2))": Inputs(((2, 3, 1, 2, 1), np.tile([[[1], [6]]], (2, 3, 1, 1, 1)))),
}

LAYERS: dict[str, Inputs] = {
    **{text: Inputs((shape,)) for text, shape in _BATCHES.items()},
    **{text: Inputs((shape,), None) for text, shape in _SINGLE.items()},
    **_OTHERS,
}
"""The inputs of each layer; a layer is the text that makes it, with the names of `agrad.nn`."""

CONTAINERS = {"Module", "ModuleDict", "ModuleList", "Parameter", "ParameterList"}
"""Containers of layers or weights, which compute nothing themselves."""

WITHOUT_PYTORCH = {"GlobalAvgPool1d", "GlobalMaxPool1d", "PositionalEncoding"}
"""Layers that PyTorch does not have."""

IN_PYTORCH = [text for text in LAYERS if text.partition("(")[0] not in WITHOUT_PYTORCH]
"""The entries of `LAYERS` that PyTorch has too."""


def layers_of_nn() -> set[str]:
    """Return the names of all layers of `agrad.nn` but the losses."""
    classes = {name for name, kind in vars(nn).items() if isinstance(kind, type)}
    losses = {name for name in classes if name.endswith("Loss")}
    return classes - losses - CONTAINERS - {"IncompatibleKeys"}


def layers_in(texts: Any) -> set[str]:
    """Return the names of the layers that the texts make."""
    return set(re.findall(r"\b([A-Z]\w+)\(", " ".join(texts)))


def make(module: Any, text: str) -> Any:
    """Return a layer of `agrad.nn` or of `torch.nn`."""
    return eval(text, vars(module))


def draw(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> Any:
    """Return normal numbers, the same at each call for a shape and a seed."""
    return np.random.default_rng(sum(shape) + seed).normal(size=shape).astype(dtype)


def inputs_of(text: str, dtype: Any = np.float32, seed: int = 0) -> tuple[Any, ...]:
    """Return the inputs of one of `LAYERS`."""
    return tuple(
        draw(part, dtype, seed + 100 * i) if isinstance(part, tuple) else part
        for i, part in enumerate(LAYERS[text].parts)
    )


def first(result: Any) -> Any:
    """Return the output of a layer without its states or weights."""
    return result[0] if isinstance(result, tuple) else result
