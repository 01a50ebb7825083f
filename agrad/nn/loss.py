"""Losses as modules; see `agrad.nn.functional` for options, shapes and errors."""

from dataclasses import dataclass

from numpy.typing import ArrayLike

from agrad.core.tensor import Tensor, as_tensor
from agrad.nn import functional as F
from agrad.nn.function_module import FunctionModule

__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "MSELoss", "NLLLoss"]


@dataclass(eq=False, repr=False)
class CrossEntropyLoss(FunctionModule):
    """The cross entropy of logits and target classes; see `agrad.nn.functional.cross_entropy`.

    Example:
        >>> from agrad import nn
        >>> nn.CrossEntropyLoss(reduction="sum")([[1.0, 2.0, 3.0], [0.0, 0.0, 99.0]], [2, 0])
        tensor(99.40761)
    """

    weight: ArrayLike | Tensor | None = None
    ignore_index: int = -100
    reduction: str = "mean"
    label_smoothing: float = 0.0
    function = staticmethod(F.cross_entropy)

    def __post_init__(self) -> None:
        self.weight = _constant(self.weight)


@dataclass(eq=False, repr=False)
class NLLLoss(FunctionModule):
    """The negative log-likelihood of target classes; see `agrad.nn.functional.nll_loss`.

    Example:
        >>> from agrad import nn
        >>> nn.NLLLoss()([[-0.5, -1.0], [-2.0, -0.25]], [0, 1])
        tensor(0.375)
    """

    weight: ArrayLike | Tensor | None = None
    ignore_index: int = -100
    reduction: str = "mean"
    function = staticmethod(F.nll_loss)

    def __post_init__(self) -> None:
        self.weight = _constant(self.weight)


@dataclass(eq=False, repr=False)
class MSELoss(FunctionModule):
    """The mean squared error; see `agrad.nn.functional.mse_loss`.

    Example:
        >>> from agrad import nn
        >>> nn.MSELoss()([1.0, 2.0], [1.0, 4.0])
        tensor(2.)
    """

    reduction: str = "mean"
    function = staticmethod(F.mse_loss)


@dataclass(eq=False, repr=False)
class BCEWithLogitsLoss(FunctionModule):
    """The binary cross entropy; see `agrad.nn.functional.binary_cross_entropy_with_logits`.

    Example:
        >>> from agrad import nn
        >>> nn.BCEWithLogitsLoss(reduction="none")([0.0, 100.0], [1.0, 0.0])
        tensor([  0.6931472, 100.       ])
    """

    weight: ArrayLike | Tensor | None = None
    reduction: str = "mean"
    pos_weight: ArrayLike | Tensor | None = None
    function = staticmethod(F.binary_cross_entropy_with_logits)

    def __post_init__(self) -> None:
        self.weight, self.pos_weight = _constant(self.weight), _constant(self.pos_weight)


def _constant(weight: ArrayLike | Tensor | None) -> Tensor | None:
    """Return weights as a Tensor, which a captured loss takes as they are."""
    return None if weight is None else as_tensor(weight)
