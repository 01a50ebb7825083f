"""NumPy's functions on Tensors: called by NumPy's name or agrad's, they record.

What NumPy also has as a method of arrays is a method of `Tensor`; the function here calls it.
"""

from agrad.functions.constant import *  # noqa: F403
from agrad.functions.elementwise import *  # noqa: F403
from agrad.functions.linalg import *  # noqa: F403
from agrad.functions.reduction import *  # noqa: F403
from agrad.functions.shape import *  # noqa: F403
