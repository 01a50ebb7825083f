"""Networks: modules, layers, losses and initial values, with PyTorch's names."""

from agrad.nn import functional as functional
from agrad.nn import init as init
from agrad.nn.activation import *  # noqa: F403
from agrad.nn.batch_norm import *  # noqa: F403
from agrad.nn.container import *  # noqa: F403
from agrad.nn.convolution import *  # noqa: F403
from agrad.nn.layers import *  # noqa: F403
from agrad.nn.loss import *  # noqa: F403
from agrad.nn.module import *  # noqa: F403
from agrad.nn.pooling import *  # noqa: F403
from agrad.nn.sequence import *  # noqa: F403
