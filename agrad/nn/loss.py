"""Losses as modules; see `agrad.nn.functional` for options, shapes and errors."""

from dataclasses import dataclass

from numpy.typing import ArrayLike

from agrad.core.tensor import Tensor, as_tensor
from agrad.nn import functional as F
from agrad.nn.function_module import FunctionModule

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CTCLoss",
    "CosineEmbeddingLoss",
    "CosineSimilarity",
    "CrossEntropyLoss",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "PairwiseDistance",
    "PoissonNLLLoss",
    "SmoothL1Loss",
    "TripletMarginLoss",
]


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


@dataclass(eq=False, repr=False)
class L1Loss(FunctionModule):
    """The mean absolute error; see `agrad.nn.functional.l1_loss`.

    Example:
        >>> from agrad import nn
        >>> nn.L1Loss()([1.0, 2.0], [1.0, 4.0])
        tensor(1.)
    """

    reduction: str = "mean"
    function = staticmethod(F.l1_loss)


@dataclass(eq=False, repr=False)
class HuberLoss(FunctionModule):
    """The Huber loss; see `agrad.nn.functional.huber_loss`.

    Example:
        >>> from agrad import nn
        >>> nn.HuberLoss()([1.0, 2.0], [1.5, 2.5])
        tensor(0.125)
    """

    reduction: str = "mean"
    delta: float = 1.0
    function = staticmethod(F.huber_loss)


@dataclass(eq=False, repr=False)
class SmoothL1Loss(FunctionModule):
    """The Huber loss divided by beta; see `agrad.nn.functional.smooth_l1_loss`.

    Example:
        >>> from agrad import nn
        >>> nn.SmoothL1Loss(beta=2.0)([1.0, 2.0], [1.5, 2.5])
        tensor(0.0625)
    """

    reduction: str = "mean"
    beta: float = 1.0
    function = staticmethod(F.smooth_l1_loss)


@dataclass(eq=False, repr=False)
class BCELoss(FunctionModule):
    """The binary cross entropy of probabilities; see `agrad.nn.functional.binary_cross_entropy`.

    Example:
        >>> from agrad import nn
        >>> nn.BCELoss(reduction="sum")([0.5, 0.0], [1.0, 0.0])
        tensor(0.6931472)
    """

    weight: ArrayLike | Tensor | None = None
    reduction: str = "mean"
    function = staticmethod(F.binary_cross_entropy)

    def __post_init__(self) -> None:
        self.weight = _constant(self.weight)


@dataclass(eq=False, repr=False)
class KLDivLoss(FunctionModule):
    """The Kullback-Leibler divergence; see `agrad.nn.functional.kl_div`.

    Example:
        >>> from agrad import nn
        >>> nn.KLDivLoss(reduction="batchmean")([[-0.5, -1.0]], [[0.0, 1.0]])
        tensor(1.)
    """

    reduction: str = "mean"
    log_target: bool = False
    function = staticmethod(F.kl_div)


@dataclass(eq=False, repr=False)
class GaussianNLLLoss(FunctionModule):
    """The negative log-likelihood of normals; see `agrad.nn.functional.gaussian_nll_loss`.

    Example:
        >>> from agrad import nn
        >>> nn.GaussianNLLLoss()([1.0, 2.0], [1.0, 4.0], [1.0, 1.0])
        tensor(1.)
    """

    full: bool = False
    eps: float = 1e-6
    reduction: str = "mean"
    function = staticmethod(F.gaussian_nll_loss)


@dataclass(eq=False, repr=False)
class PoissonNLLLoss(FunctionModule):
    """The negative log-likelihood of counts; see `agrad.nn.functional.poisson_nll_loss`.

    Example:
        >>> from agrad import nn
        >>> nn.PoissonNLLLoss()([0.0, 0.0], [1.0, 3.0])
        tensor(1.)
    """

    log_input: bool = True
    full: bool = False
    eps: float = 1e-8
    reduction: str = "mean"
    function = staticmethod(F.poisson_nll_loss)


@dataclass(eq=False, repr=False)
class HingeEmbeddingLoss(FunctionModule):
    """The hinge loss of distances of pairs; see `agrad.nn.functional.hinge_embedding_loss`.

    Example:
        >>> from agrad import nn
        >>> nn.HingeEmbeddingLoss()([0.25, 0.25], [1, -1])
        tensor(0.5)
    """

    margin: float = 1.0
    reduction: str = "mean"
    function = staticmethod(F.hinge_embedding_loss)


@dataclass(eq=False, repr=False)
class CosineEmbeddingLoss(FunctionModule):
    """The hinge loss of angles of pairs; see `agrad.nn.functional.cosine_embedding_loss`.

    Example:
        >>> from agrad import nn
        >>> nn.CosineEmbeddingLoss()([[1.0, 0.0]], [[0.0, 2.0]], [1])
        tensor(1.)
    """

    margin: float = 0.0
    reduction: str = "mean"
    function = staticmethod(F.cosine_embedding_loss)


@dataclass(eq=False, repr=False)
class TripletMarginLoss(FunctionModule):
    """The hinge loss of distances in triplets; see `agrad.nn.functional.triplet_margin_loss`.

    Example:
        >>> from agrad import nn
        >>> loss = nn.TripletMarginLoss(margin=3.0, eps=0.0)
        >>> loss([[0.0]], [[1.0]], [[3.0]])
        tensor(1.)
    """

    margin: float = 1.0
    p: float = 2.0
    eps: float = 1e-6
    swap: bool = False
    reduction: str = "mean"
    function = staticmethod(F.triplet_margin_loss)


@dataclass(eq=False, repr=False)
class CTCLoss(FunctionModule):
    """The negative log-likelihood of unaligned labels; see `agrad.nn.functional.ctc_loss`.

    Example:
        >>> from agrad import nn
        >>> log_probs = nn.LogSoftmax(dim=2)([[[0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]])
        >>> nn.CTCLoss()(log_probs, [[1]], [2], [1])
        tensor(1.0986123)
    """

    blank: int = 0
    reduction: str = "mean"
    zero_infinity: bool = False
    function = staticmethod(F.ctc_loss)


@dataclass(eq=False, repr=False)
class CosineSimilarity(FunctionModule):
    """The cosines of angles between vectors; see `agrad.nn.functional.cosine_similarity`.

    Example:
        >>> from agrad import nn
        >>> nn.CosineSimilarity()([[1.0, 0.0]], [[3.0, 4.0]])
        tensor([0.6])
    """

    dim: int = 1
    eps: float = 1e-8
    function = staticmethod(F.cosine_similarity)


@dataclass(eq=False, repr=False)
class PairwiseDistance(FunctionModule):
    """The p-norms of differences along the last axis; see `agrad.nn.functional.pairwise_distance`.

    Example:
        >>> from agrad import nn
        >>> nn.PairwiseDistance(eps=0.0)([[0.0, 0.0]], [[3.0, 4.0]])
        tensor([5.])
    """

    p: float = 2.0
    eps: float = 1e-6
    keepdim: bool = False
    function = staticmethod(F.pairwise_distance)


def _constant(weight: ArrayLike | Tensor | None) -> Tensor | None:
    """Return weights as a Tensor, because a captured loss would refuse to freeze an array."""
    return None if weight is None else as_tensor(weight)
