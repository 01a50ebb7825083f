"""Transformers: positional encodings, the layers of encoders and decoders, and their stacks."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from agrad.core.tensor import Tensor, as_tensor
from agrad.nn import functional as F
from agrad.nn.attention import MultiheadAttention
from agrad.nn.container import ModuleList
from agrad.nn.layers import Dropout, LayerNorm, Linear
from agrad.nn.module import Module

__all__ = [
    "PositionalEncoding",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]

_ACTIVATIONS: dict[str, Callable[[Any], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class PositionalEncoding(Module):
    """Add sines and cosines of the position to each vector of a sequence; then apply dropout.

    Element 2i of the vector at position p gets sin(p / 10000^(2i/E)), and element 2i + 1 the
    cosine. For learned encodings, add an `Embedding` of the positions instead.

    Args:
        d_model: E, the length of the vectors.
        dropout: The probability with which an element of the sum is set to zero in training.
        max_len: The length of the longest sequence.
        batch_first: Whether sequences have the shape (N, L, E) rather than (L, N, E).

    Attributes:
        pe: A buffer (max_len, d_model), which `state_dict` leaves out.

    Raises:
        ValueError: A length is below 1, or `dropout` is outside [0, 1].

    Source: Vaswani et al., "Attention Is All You Need", 2017.

    Example:
        >>> import numpy as np
        >>> from agrad import nn
        >>> encode = nn.PositionalEncoding(2, dropout=0.0)
        >>> encode(np.zeros((2, 2), np.float32)).data.round(4)
        array([[0.    , 1.    ],
               [0.8415, 0.5403]], dtype=float32)
    """

    pe: Tensor

    def __init__(
        self, d_model: int, dropout: float = 0.1, max_len: int = 5000, batch_first: bool = False
    ) -> None:
        if d_model < 1 or max_len < 1:
            raise ValueError(
                "PositionalEncoding: d_model and max_len must be at least 1, got "
                f"d_model={d_model} and max_len={max_len}"
            )
        self.d_model = d_model
        self.batch_first = batch_first
        self.dropout = Dropout(dropout)
        elements = np.arange(d_model)
        turns = np.arange(max_len)[:, np.newaxis] / 10000 ** ((elements - elements % 2) / d_model)
        values = np.where(elements % 2 == 0, np.sin(turns), np.cos(turns))
        self.register_buffer("pe", values.astype(np.float32), persistent=False)

    def forward(self, input: Any) -> Tensor:
        """Return an output of the input's shape: (L, N, E), (N, L, E) or (L, E).

        Raises:
            ValueError: The input has another shape, or is longer than `max_len`.
        """
        x = as_tensor(input)
        time = 1 if self.batch_first and x.ndim == 3 else 0
        if x.ndim not in (2, 3) or x.shape[-1] != self.d_model or x.shape[time] > len(self.pe):
            axes = "(N, L, E)" if self.batch_first else "(L, N, E)"
            raise ValueError(
                f"PositionalEncoding: input must have shape {axes} or (L, E) with E = "
                f"{self.d_model} and L at most {len(self.pe)}, got {x.shape}"
            )
        encoding = self.pe[: x.shape[time]]
        if time < x.ndim - 2:
            encoding = encoding[:, np.newaxis]
        out: Tensor = self.dropout(x + encoding)
        return out

    def extra_repr(self) -> str:
        return f"{self.d_model}, max_len={len(self.pe)}"


class _Layer(Module):
    """The common base of encoder and decoder layers: the feed-forward block."""

    self_attn: MultiheadAttention
    linear1: Linear
    dropout: Dropout
    linear2: Linear
    norm_first: bool
    activation: Callable[[Any], Any]

    def _set_activation(self, activation: str | Callable[[Any], Any]) -> None:
        if isinstance(activation, str):
            if activation not in _ACTIVATIONS:
                raise ValueError(
                    f"{type(self).__name__}: activation must be 'relu', 'gelu' or a function, got "
                    f"{activation!r}"
                )
            activation = _ACTIVATIONS[activation]
        self.activation = activation

    def _feed_forward(self, x: Tensor) -> Any:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))

    def _added(self, x: Tensor, norm: LayerNorm, dropout: Dropout, block: Any) -> Tensor:
        """Return x plus the block's result; either the block's input or the sum is normalized."""
        if self.norm_first:
            first: Tensor = x + dropout(block(norm(x)))
            return first
        last: Tensor = norm(x + dropout(block(x)))
        return last


class TransformerEncoderLayer(_Layer):
    """Self-attention and a feed-forward block, each with a residual connection and normalization.

    Args:
        d_model: E, the length of the vectors.
        nhead: The number of attention heads, which divides d_model.
        dim_feedforward: The number of hidden units of the feed-forward block.
        dropout: The probability with which elements are set to zero in training: attention weights,
            hidden units, and the results of both blocks.
        activation: Of the hidden units: "relu", "gelu" or a function.
        layer_norm_eps: Added to the variances.
        batch_first: Whether sequences have the shape (N, L, E) rather than (L, N, E).
        norm_first: Whether to normalize the input of each block rather than the sums.
        bias: Whether linear layers and normalizations have biases.

    Attributes:
        self_attn: A `MultiheadAttention`.
        linear1, linear2: The `Linear` layers of the feed-forward block.
        norm1, norm2: A `LayerNorm` for each block.

    Raises:
        ValueError: A number is out of range, or the activation is unknown.

    Source: Vaswani et al., "Attention Is All You Need", 2017.

    Example:
        >>> import numpy as np
        >>> from agrad import nn
        >>> layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
        >>> layer(np.ones((3, 5, 8), np.float32), is_causal=True).shape
        (3, 5, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout=dropout, bias=bias, batch_first=batch_first
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self._set_activation(activation)

    def forward(
        self,
        src: Any,
        src_mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Return an output of the shape of `src`.

        Args:
            src: (L, N, E); (N, L, E) if `batch_first`; or (L, E) for a single sequence.
            src_mask: `attn_mask` of `MultiheadAttention`.
            src_key_padding_mask: Its `key_padding_mask`.
            is_causal: Its `is_causal`.
        """

        def attend(x: Tensor) -> Tensor:
            out, _ = self.self_attn(
                x,
                x,
                x,
                src_key_padding_mask,
                need_weights=False,
                attn_mask=src_mask,
                is_causal=is_causal,
            )
            return out  # type: ignore[no-any-return]

        x = self._added(as_tensor(src), self.norm1, self.dropout1, attend)
        return self._added(x, self.norm2, self.dropout2, self._feed_forward)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to an encoder's output, and a feed-forward block.

    Each has a residual connection and normalization. The arguments are those of
    `TransformerEncoderLayer`.

    Attributes:
        self_attn: A `MultiheadAttention` of the target to itself.
        multihead_attn: A `MultiheadAttention` of the target to the encoder's output.
        linear1, linear2: The `Linear` layers of the feed-forward block.
        norm1, norm2, norm3: A `LayerNorm` for each block.

    Raises:
        ValueError: A number is out of range, or the activation is unknown.

    Source: Vaswani et al., "Attention Is All You Need", 2017.

    Example:
        >>> import numpy as np
        >>> from agrad import nn
        >>> layer = nn.TransformerDecoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
        >>> target, memory = np.ones((3, 4, 8), np.float32), np.ones((3, 5, 8), np.float32)
        >>> layer(target, memory, tgt_is_causal=True).shape
        (3, 4, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        self.self_attn, self.multihead_attn = (
            MultiheadAttention(d_model, nhead, dropout=dropout, bias=bias, batch_first=batch_first)
            for _ in range(2)
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.dropout3 = Dropout(dropout)
        self._set_activation(activation)

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return an output of the shape of `tgt`.

        Args:
            tgt: The target, (L, N, E); (N, L, E) if `batch_first`; or (L, E).
            memory: The encoder's output, likewise, of any length.
            tgt_mask: `attn_mask` of the attention to the target itself; see `MultiheadAttention`.
            memory_mask: That of the attention to the memory.
            tgt_key_padding_mask: `key_padding_mask` of the attention to the target itself.
            memory_key_padding_mask: That of the attention to the memory.
            tgt_is_causal: Whether element i of the target attends only to its elements 0 to i.
            memory_is_causal: Whether it attends only to elements 0 to i of the memory.
        """

        def attend_to_itself(x: Tensor) -> Tensor:
            out, _ = self.self_attn(
                x,
                x,
                x,
                tgt_key_padding_mask,
                need_weights=False,
                attn_mask=tgt_mask,
                is_causal=tgt_is_causal,
            )
            return out  # type: ignore[no-any-return]

        def attend_to_memory(x: Tensor) -> Tensor:
            out, _ = self.multihead_attn(
                x,
                memory,
                memory,
                memory_key_padding_mask,
                need_weights=False,
                attn_mask=memory_mask,
                is_causal=memory_is_causal,
            )
            return out  # type: ignore[no-any-return]

        x = self._added(as_tensor(tgt), self.norm1, self.dropout1, attend_to_itself)
        x = self._added(x, self.norm2, self.dropout2, attend_to_memory)
        return self._added(x, self.norm3, self.dropout3, self._feed_forward)


class TransformerEncoder(Module):
    """Encoder layers, one after the other.

    Args:
        encoder_layer: A `TransformerEncoderLayer`; each layer is a copy of it, with the same
            initial weights.
        num_layers: The number of layers.
        norm: A normalization of the last layer's output, or None.

    Attributes:
        layers: A `ModuleList` of the layers.

    Raises:
        ValueError: `num_layers` is below 1.

    Example:
        >>> import numpy as np
        >>> from agrad import nn
        >>> layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16)
        >>> nn.TransformerEncoder(layer, num_layers=2)(np.ones((5, 3, 8), np.float32)).shape
        (5, 3, 8)
    """

    def __init__(
        self, encoder_layer: TransformerEncoderLayer, num_layers: int, norm: Module | None = None
    ) -> None:
        self.layers = _copies(self, encoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        src: Any,
        mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Return an output of the shape of `src`; the arguments are those of a layer."""
        x = as_tensor(src)
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask, is_causal)
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(Module):
    """Decoder layers, one after the other.

    Args:
        decoder_layer: A `TransformerDecoderLayer`; each layer is a copy of it, with the same
            initial weights.
        num_layers: The number of layers.
        norm: A normalization of the last layer's output, or None.

    Attributes:
        layers: A `ModuleList` of the layers.

    Raises:
        ValueError: `num_layers` is below 1.

    Example:
        >>> import numpy as np
        >>> from agrad import nn
        >>> layer = nn.TransformerDecoderLayer(8, nhead=2, dim_feedforward=16)
        >>> target, memory = np.ones((4, 3, 8), np.float32), np.ones((5, 3, 8), np.float32)
        >>> nn.TransformerDecoder(layer, num_layers=2)(target, memory).shape
        (4, 3, 8)
    """

    def __init__(
        self, decoder_layer: TransformerDecoderLayer, num_layers: int, norm: Module | None = None
    ) -> None:
        self.layers = _copies(self, decoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return an output of the shape of `tgt`; the arguments are those of a layer."""
        x = as_tensor(tgt)
        for layer in self.layers:
            x = layer(
                x,
                memory,
                tgt_mask,
                memory_mask,
                tgt_key_padding_mask,
                memory_key_padding_mask,
                tgt_is_causal,
                memory_is_causal,
            )
        return x if self.norm is None else self.norm(x)


def _copies(owner: Module, layer: Module, count: int) -> ModuleList:
    if count < 1:
        raise ValueError(f"{type(owner).__name__}: num_layers must be at least 1, got {count}")
    return ModuleList([copy.deepcopy(layer) for _ in range(count)])
