"""NumPy's functions on Tensors: called by NumPy's name or agrad's, they record.

What NumPy also has as a method of arrays is a method of `Tensor`; the function here calls it.
"""

from agrad.functions import constant, elementwise, linalg, reduction, shape
from agrad.functions.constant import *  # noqa: F403
from agrad.functions.elementwise import *  # noqa: F403
from agrad.functions.linalg import *  # noqa: F403
from agrad.functions.reduction import *  # noqa: F403
from agrad.functions.shape import *  # noqa: F403

__all__ = (
    constant.__all__ + elementwise.__all__ + linalg.__all__ + reduction.__all__ + shape.__all__
)
