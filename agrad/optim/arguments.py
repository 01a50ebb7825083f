"""Checks of the parameters that optimizers are given, made before anything is stored."""

from collections.abc import Iterable, Iterator

from agrad.core.tensor import Tensor

__all__ = ["checked_params", "listed_params", "require_trainable"]


def listed_params(owner: str, params: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """Return one Tensor, or all Tensors of an iterable, as a list.

    Raises:
        TypeError: `params` is neither a Tensor nor an iterable of Tensors.
        ValueError: It is an iterator without elements, most likely one that was used before.
    """
    if isinstance(params, Tensor):
        return [params]
    if not isinstance(params, Iterable):
        raise TypeError(
            f"{owner}: params must be a Tensor or an iterable of Tensors, "
            f"got a {type(params).__name__}"
        )
    listed = list(params)
    if not listed and isinstance(params, Iterator):
        raise ValueError(
            f"{owner}: params is an iterator without elements; if it was used before, "
            "make a list of it first"
        )
    for i, param in enumerate(listed):
        if not isinstance(param, Tensor):
            raise TypeError(f"{owner}: params[{i}] must be a Tensor, got a {type(param).__name__}")
    return listed


def checked_params(owner: str, params: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Return the parameters: at least one leaf of floating-point numbers, and none of them twice.

    Raises:
        TypeError: `params` is not an iterable of Tensors.
        ValueError: There are no parameters, or one is given twice, or cannot be trained.
    """
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(
            f"{owner}: params must be an iterable of Tensors, got a {type(params).__name__}"
        )
    checked = tuple(params)
    seen: set[Tensor] = set()
    for i, param in enumerate(checked):
        if not isinstance(param, Tensor):
            raise TypeError(f"{owner}: params[{i}] must be a Tensor, got a {type(param).__name__}")
        if not param.is_leaf:
            raise ValueError(f"{owner}: params[{i}] is computed; only a leaf can be optimized")
        if param.dtype.kind != "f":
            raise ValueError(
                f"{owner}: params[{i}] is {param.dtype}; only floating-point numbers can be trained"
            )
        if param in seen:
            raise ValueError(f"{owner}: params[{i}] appears twice; pass each parameter once")
        seen.add(param)
    if not checked:
        raise ValueError(f"{owner}: params is empty; there is nothing to optimize")
    return checked


def require_trainable(owner: str, params: Iterable[Tensor]) -> None:
    """Raise a ValueError if all parameters are frozen."""
    if not any(param.requires_grad for param in params):
        raise ValueError(
            f"{owner}: params[0] requires no gradient, nor does any other parameter; "
            "set requires_grad=True"
        )
