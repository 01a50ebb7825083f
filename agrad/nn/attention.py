"""Attention with several heads."""

from typing import Any

import numpy as np

from agrad.core.tensor import Tensor, as_tensor, as_tensors
from agrad.functions import broadcast_to, concatenate, expand_dims, pad, split
from agrad.nn import functional as F
from agrad.nn import init
from agrad.nn.functional.attention import attention_weights
from agrad.nn.layers import Linear
from agrad.nn.module import Module, Parameter

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Attention by several heads, each with its own projections of queries, keys and values.

    Args:
        embed_dim: E, the length of queries and outputs, a multiple of `num_heads`.
        num_heads: H.
        dropout: The probability with which a weight is set to zero in training.
        bias: Whether the projections have biases.
        add_bias_kv: Whether to append a learned key and value to every sequence.
        add_zero_attn: Whether to append a key and a value of zeros.
        kdim: The length of keys; E by default.
        vdim: The length of values; E by default.
        batch_first: Whether sequences have the shape (N, L, E) rather than (L, N, E).

    Attributes:
        in_proj_weight: (3 E, E), the projections of queries, keys and values; None if kdim or vdim
            differs from E.
        q_proj_weight: (E, E) if `in_proj_weight` is None; else None.
        k_proj_weight: (E, kdim), likewise.
        v_proj_weight: (E, vdim), likewise.
        in_proj_bias: (3 E,), initially zeros; or None.
        out_proj: The projection of the outputs, a `Linear`.
        bias_k: (1, 1, E), the appended key; or None.
        bias_v: (1, 1, E), the appended value; or None.

    Raises:
        ValueError: A length or the number of heads is below 1, embed_dim is not a multiple of
            num_heads, or `dropout` is outside [0, 1].

    Source: Vaswani et al., "Attention Is All You Need", 2017.

    Example:
        >>> import numpy as np
        >>> from agrad import nn
        >>> attention = nn.MultiheadAttention(8, num_heads=2, batch_first=True)
        >>> x = np.ones((3, 5, 8), np.float32)
        >>> out, weights = attention(x, x, x)
        >>> out.shape, weights.shape
        ((3, 5, 8), (3, 5, 5))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
    ) -> None:
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        if min(embed_dim, num_heads, self.kdim, self.vdim) < 1 or embed_dim % num_heads:
            raise ValueError(
                "MultiheadAttention: lengths must be at least 1, and embed_dim a multiple of "
                f"num_heads; got embed_dim={embed_dim}, num_heads={num_heads}, "
                f"kdim={self.kdim}, vdim={self.vdim}"
            )
        if not 0 <= dropout <= 1:
            raise ValueError(f"MultiheadAttention: dropout must lie in [0, 1], got {dropout}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.add_zero_attn = add_zero_attn

        def weight(rows: int, columns: int) -> Parameter:
            return init.xavier_uniform_(Parameter(np.empty((rows, columns), np.float32)))

        together = self.kdim == self.vdim == embed_dim
        self.in_proj_weight = weight(3 * embed_dim, embed_dim) if together else None
        self.q_proj_weight = None if together else weight(embed_dim, embed_dim)
        self.k_proj_weight = None if together else weight(embed_dim, self.kdim)
        self.v_proj_weight = None if together else weight(embed_dim, self.vdim)
        self.in_proj_bias = Parameter(np.zeros(3 * embed_dim, np.float32)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)
        self.bias_k = self._appendix() if add_bias_kv else None
        self.bias_v = self._appendix() if add_bias_kv else None

    def _appendix(self) -> Parameter:
        return init.xavier_normal_(Parameter(np.empty((1, 1, self.embed_dim), np.float32)))

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the outputs, and the weights if they are needed.

        A query that may attend to nothing gets the bias of the output projection.

        Args:
            query: (L, N, E); (N, L, E) if `batch_first`; or (L, E) for a single sequence.
            key: Likewise, of length S in place of L, and kdim in place of E.
            value: Likewise, of length S and vdim.
            key_padding_mask: (N, S), or (S,) for a single sequence. Booleans: true where a key must
                be ignored. Floats: added to the scores.
            need_weights: Whether to return the weights.
            attn_mask: (L, S), or (N H, L, S) for each head of each sequence. Booleans: true where a
                query may not attend to a key. Floats: added to the scores.
            average_attn_weights: Whether the weights are averaged over the heads.
            is_causal: Whether query i attends only to keys 0 to i, and to those appended.

        Returns:
            The outputs, of the shape of `query`, and None or the weights: (N, L, S), (N, H, L, S)
            without averaging; without N for a single sequence.

        Raises:
            ValueError: The shapes do not match.
            TypeError: An input is neither float32 nor float64, or a mask neither boolean nor
                floating-point.
        """
        q, k, v = as_tensors(query, key, value)
        single = q.ndim == 2
        self._require_shapes(q, k, v)
        if single:
            q, k, v = (expand_dims(x, 1 - self._time) for x in (q, k, v))
        q, k, v = self._projected(q, k, v, same=query is key is value)
        k, v, appended = self._appended(k, v)
        q, k, v = map(self._heads, (q, k, v))
        length = k.shape[2] - appended
        masks = self._masks(q, length, key_padding_mask, attn_mask)
        if appended:
            if is_causal:
                masks.append(as_tensor(~np.tri(q.shape[2], length, dtype=bool, like=q.data)))
            masks = [pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, appended)]) for mask in masks]
        causal = is_causal and not appended
        weights = attention_weights("MultiheadAttention", q, k, masks, False, causal)
        used = F.dropout(weights, self.dropout, self.training)
        heads = used @ v  # (N, H, L, E / H)
        order = (0, 2, 1, 3) if self.batch_first else (2, 0, 1, 3)
        joined = heads.transpose(order)
        out = self.out_proj(joined.reshape(*joined.shape[:2], self.embed_dim))
        if single:
            out, used = out.squeeze(1 - self._time), used[0]
        if not need_weights:
            return out, None
        return out, used.mean(axis=-3) if average_attn_weights else used

    @property
    def _time(self) -> int:
        """The axis of time in a batch."""
        return 1 if self.batch_first else 0

    def _require_shapes(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        axes = "(N, L, E)" if self.batch_first else "(L, N, E)"
        lengths = self.embed_dim, self.kdim, self.vdim
        fits = q.ndim in (2, 3) and q.ndim == k.ndim == v.ndim and k.shape[:-1] == v.shape[:-1]
        fits = fits and (q.shape[-1], k.shape[-1], v.shape[-1]) == lengths
        if not fits or (q.ndim == 3 and q.shape[1 - self._time] != k.shape[1 - self._time]):
            raise ValueError(
                f"MultiheadAttention: query, key and value must have shape {axes} or (L, E) with "
                f"E = {self.embed_dim}, {self.kdim} and {self.vdim}, and agree in N, key and value "
                f"in L too; got {q.shape}, {k.shape} and {v.shape}"
            )

    def _projected(self, q: Tensor, k: Tensor, v: Tensor, same: bool) -> tuple[Tensor, ...]:
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if weight is not None and same:
            return tuple(split(F.linear(q, weight, bias), 3, axis=-1))
        weights = (
            (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            if weight is None
            else split(weight, 3)
        )
        biases = (None, None, None) if bias is None else split(bias, 3)
        return tuple(map(F.linear, (q, k, v), weights, biases))

    def _appended(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return keys and values with the appended ones at the end, and how many were appended."""
        before = k.shape[self._time]
        if self.bias_k is not None and self.bias_v is not None:
            count = k.shape[1 - self._time]
            shape = (count, 1, self.embed_dim) if self.batch_first else (1, count, self.embed_dim)
            k, v = (
                concatenate([x, broadcast_to(bias, shape)], self._time)
                for x, bias in ((k, self.bias_k), (v, self.bias_v))
            )
        if self.add_zero_attn:
            k, v = (pad(x, [(0, int(axis == self._time)) for axis in range(3)]) for x in (k, v))
        return k, v, k.shape[self._time] - before

    def _heads(self, x: Tensor) -> Tensor:
        """Return (N, H, L, E / H) for a batch of sequences."""
        heads = x.reshape(*x.shape[:2], self.num_heads, self.embed_dim // self.num_heads)
        return heads.transpose((0, 2, 1, 3) if self.batch_first else (1, 2, 0, 3))

    def _masks(self, q: Tensor, length: int, padding_mask: Any, attn_mask: Any) -> list[Tensor]:
        """Return masks that broadcast to (N, H, L, S)."""
        count, heads, queries = q.shape[:3]
        masks = []
        if padding_mask is not None:
            mask = as_tensor(padding_mask)
            if mask.shape not in [(count, length), *[(length,)] * (count == 1)]:
                raise ValueError(
                    "MultiheadAttention: key_padding_mask must have shape (N, S) = "
                    f"{(count, length)}, got {mask.shape}"
                )
            masks.append(mask.reshape(count, 1, 1, length))
        if attn_mask is not None:
            mask = as_tensor(attn_mask)
            if mask.shape not in ((queries, length), (count * heads, queries, length)):
                raise ValueError(
                    f"MultiheadAttention: attn_mask must have shape (L, S) = {(queries, length)} "
                    f"or (N H, L, S) = {(count * heads, queries, length)}, got {mask.shape}"
                )
            if mask.ndim == 3:
                mask = mask.reshape(count, heads, queries, length)
            masks.append(mask)
        return masks
