"""The functions that make up networks, with PyTorch's names and argument orders.

Each takes Tensors, arrays or nested sequences and returns a Tensor.
"""

from agrad.nn.functional.activation import (
    elu,
    gelu,
    glu,
    hardswish,
    leaky_relu,
    log_softmax,
    mish,
    prelu,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    tanh,
)
from agrad.nn.functional.affine import linear
from agrad.nn.functional.attention import scaled_dot_product_attention
from agrad.nn.functional.convolution import conv1d, conv2d, conv_transpose1d, conv_transpose2d
from agrad.nn.functional.loss import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    mse_loss,
    nll_loss,
)
from agrad.nn.functional.normalization import (
    batch_norm,
    dropout,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
)
from agrad.nn.functional.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from agrad.nn.functional.resize import interpolate, pad
from agrad.nn.functional.sequence import embedding, global_avg_pool1d, global_max_pool1d

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "global_avg_pool1d",
    "global_max_pool1d",
    "glu",
    "group_norm",
    "hardswish",
    "instance_norm",
    "interpolate",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "mish",
    "mse_loss",
    "nll_loss",
    "pad",
    "prelu",
    "relu",
    "rms_norm",
    "scaled_dot_product_attention",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
]
