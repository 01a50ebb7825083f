"""Layers for sequences: embedding, and global pooling that leaves out padding."""

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
    """A vector for each id, such as the id of a word.

    Args:
        num_embeddings: The number of ids.
        embedding_dim: The length of a vector.
        padding_idx: The id of padding; a negative one counts from the end. Its vector is initially
            zero and gets no gradient.

    Attributes:
        weight: float32 of shape (num_embeddings, embedding_dim), drawn from the standard normal
            distribution.

    Raises:
        ValueError: A size is below 1, or `padding_idx` is not an id.

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
                "Embedding: num_embeddings and embedding_dim must be at least 1, got "
                f"num_embeddings={num_embeddings} and embedding_dim={embedding_dim}"
            )
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(
                    f"Embedding: padding_idx is {padding_idx}, but ids range from 0 to "
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
        """Return vectors of shape (*input.shape, embedding_dim) for integer ids of any shape."""
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


@dataclass(eq=False, repr=False)
class GlobalMaxPool1d(FunctionModule):
    """The maximum of each channel over time.

    Call it with an input, or with an input and a mask; see `agrad.nn.functional.global_max_pool1d`.

    Example:
        >>> from agrad import nn
        >>> nn.GlobalMaxPool1d()([[1.0, 2.0, 9.0]], [True, True, False])
        tensor([2.])
    """

    function = staticmethod(F.global_max_pool1d)


@dataclass(eq=False, repr=False)
class GlobalAvgPool1d(FunctionModule):
    """The mean of each channel over time.

    Call it with an input, or with an input and a mask; see `agrad.nn.functional.global_avg_pool1d`.

    Example:
        >>> from agrad import nn
        >>> nn.GlobalAvgPool1d()([[1.0, 2.0, 9.0]], [True, True, False])
        tensor([1.5])
    """

    function = staticmethod(F.global_avg_pool1d)
