"""The functions that networks are made of, with PyTorch's names and argument orders.

Each takes Tensors, arrays or nested sequences and returns a Tensor.
"""

from agrad.nn.functional.activation import *  # noqa: F403
from agrad.nn.functional.convolution import *  # noqa: F403
from agrad.nn.functional.linear import *  # noqa: F403
from agrad.nn.functional.loss import *  # noqa: F403
from agrad.nn.functional.normalization import *  # noqa: F403
from agrad.nn.functional.pooling import *  # noqa: F403
from agrad.nn.functional.sequence import *  # noqa: F403
