"""Hypothesis strategies for arrays, operations, random graphs, models and updates.

Failing examples shrink to the shortest one that still fails, print as readable text, and can be
reproduced from the seed or the blob that Hypothesis prints. The strategies need Hypothesis:
`pip install "agrad[testing]"`.
"""

try:
    import hypothesis  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'agrad.testing.strategies needs Hypothesis: pip install "agrad[testing]"', name=error.name
    ) from error

from agrad.testing.strategies._arrays import MAGNITUDES as MAGNITUDES
from agrad.testing.strategies._arrays import arrays as arrays
from agrad.testing.strategies._arrays import axes as axes
from agrad.testing.strategies._arrays import broadcastable as broadcastable
from agrad.testing.strategies._arrays import elements as elements
from agrad.testing.strategies._arrays import seeds as seeds
from agrad.testing.strategies._arrays import shapes as shapes
from agrad.testing.strategies._instructions import INSTRUCTIONS as INSTRUCTIONS
from agrad.testing.strategies._instructions import Instruction as Instruction
from agrad.testing.strategies._layouts import LAYOUTS as LAYOUTS
from agrad.testing.strategies._layouts import lay_out as lay_out
from agrad.testing.strategies._layouts import layouts as layouts
from agrad.testing.strategies._models import Model as Model
from agrad.testing.strategies._models import models as models
from agrad.testing.strategies._models import updates as updates
from agrad.testing.strategies._operations import OPERATIONS as OPERATIONS
from agrad.testing.strategies._operations import Case as Case
from agrad.testing.strategies._operations import elementwise as elementwise
from agrad.testing.strategies._operations import operations as operations
from agrad.testing.strategies._points import NONZERO as NONZERO
from agrad.testing.strategies._points import POSITIVE as POSITIVE
from agrad.testing.strategies._points import REAL as REAL
from agrad.testing.strategies._points import Domain as Domain
from agrad.testing.strategies._points import points as points
from agrad.testing.strategies._programs import Program as Program
from agrad.testing.strategies._programs import programs as programs
