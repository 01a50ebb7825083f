"""Checks of gradients and average gradients, for your own operations, functions and modules.

`agrad.testing.strategies`, which needs Hypothesis, generates inputs for them.
"""

from agrad.testing.average import check_average_gradients as check_average_gradients
from agrad.testing.gradients import check_gradients as check_gradients
from agrad.testing.order import measure_order as measure_order
from agrad.testing.report import AverageReport as AverageReport
from agrad.testing.report import CheckError as CheckError
from agrad.testing.report import GradientReport as GradientReport
from agrad.testing.report import Kink as Kink
