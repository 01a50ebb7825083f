"""Layers of sequences: embedding, and global pooling over those positions that are no padding."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from agrad.core.tensor import Tensor
from agrad.nn import functional as F
from agrad.nn import init
from agrad.nn.function_module import FunctionModule
from agrad.nn.module import Module, Parameter

__all__ = ["Embedding", "GlobalAvgPool1d", "GlobalMaxPool1d"]


class Embedding(Module):
    """A vector for each id, such as a word's.

    Args:
        num_embeddings: the number of ids.
        embedding_dim: the length of a vector.
        padding_idx: the id of padding, negative to count from the end. Its vector starts as zeros
            and gets no gradient.

    Attributes:
        weight: (num_embeddings, embedding_dim), drawn from the standard normal distribution.

    Raises:
        ValueError: fewer than one id or element, or a padding_idx that is no id.

    Example:
        >>> from agrad import nn
        >>> layer = nn.Embedding(10, 2, padding_idx=0)
        >>> layer([[3, 7, 0]]).shape
        (1, 3, 2)
        >>> layer([0]).tolist()
        [[0.0, 0.0]]
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None
    ) -> None:
        if num_embeddings < 1 or embedding_dim < 1:
            raise ValueError(
                "Embedding: needs at least one id and one element, got "
                f"num_embeddings={num_embeddings} and embedding_dim={embedding_dim}"
            )
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(
                    f"Embedding: padding_idx is {padding_idx}, the ids are 0 to "
                    f"{num_embeddings - 1}"
                )
            padding_idx %= num_embeddings
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        weight = Parameter(np.empty((num_embeddings, embedding_dim), np.float32))
        self.weight = init.normal_(weight)
        if padding_idx is not None:
            self.weight.writable()[padding_idx] = 0

    def forward(self, input: Any) -> Tensor:
        """Return (*input.shape, embedding_dim) for ids of any shape."""
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


@dataclass(eq=False, repr=False)
class GlobalMaxPool1d(FunctionModule):
    """Each channel's largest element over time: of an input, or of an input and a mask.

    See `agrad.nn.functional.global_max_pool1d`.

    Example:
        >>> from agrad import nn
        >>> nn.GlobalMaxPool1d()([[1.0, 2.0, 9.0]], [True, True, False])
        tensor([2.])
    """

    function = staticmethod(F.global_max_pool1d)


@dataclass(eq=False, repr=False)
class GlobalAvgPool1d(FunctionModule):
    """Each channel's mean over time: of an input, or of an input and a mask.

    See `agrad.nn.functional.global_avg_pool1d`.

    Example:
        >>> from agrad import nn
        >>> nn.GlobalAvgPool1d()([[1.0, 2.0, 9.0]], [True, True, False])
        tensor([1.5])
    """

    function = staticmethod(F.global_avg_pool1d)
