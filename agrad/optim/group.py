"""Parameter groups: parameters with a learning rate and options of their own."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agrad.arguments import require_not_negative
from agrad.core.tensor import Tensor
from agrad.optim.arguments import checked_params
from agrad.optim.rule import Rule

__all__ = ["ParameterGroup", "Params", "groups_of"]

Params = Iterable[Tensor] | Iterable[Mapping[str, Any]]
"""Parameters, or dicts that describe parameter groups."""


class ParameterGroup(Mapping[str, Any]):
    """Parameters that share a learning rate and a rule, as a mapping from names to options.

    The keys are PyTorch's: "params", "lr", and the options of the rule. All but "params" can be
    set, as in `optimizer.param_groups[0]["lr"] = 1e-4`.

    Args:
        owner: The name at the start of error messages.
        params: The parameters, checked.
        lr: The learning rate.
        rule: The rule for them.
    """

    def __init__(self, owner: str, params: tuple[Tensor, ...], lr: float, rule: Rule) -> None:
        self._owner = owner
        self.params = params
        self.lr = lr
        self.rule = rule

    @property
    def lr(self) -> float:
        """The learning rate, before a schedule's factor."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        require_not_negative(self._owner, lr=value)
        self._lr = float(value)

    def __getitem__(self, name: str) -> Any:
        return self._options[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)

    # Groups are equal by identity: equal options do not make two groups one.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        options = self._options | {"params": f"<{len(self.params)} parameters>"}
        return f"ParameterGroup({', '.join(f'{name}={value}' for name, value in options.items())})"

    def __setitem__(self, name: str, value: Any) -> None:
        """Set the learning rate or an option.

        Raises:
            ValueError: The option is unknown, or the value is out of its range.
            TypeError: The value is not of the option's type.
        """
        if name == "params":
            raise ValueError(
                f"{self._owner}: the params of a group cannot be set; use add_param_group"
            )
        _require_known(self._owner, (name,), self)
        if name == "lr":
            self.lr = value
        else:
            self.rule = _with_options(self._owner, self.rule, {name: value}, self.lr)

    @property
    def _options(self) -> dict[str, Any]:
        return {"params": self.params, "lr": self.lr, **self.rule.options(self.lr)}


def groups_of(
    owner: str, params: Params, lr: float, rule: Rule, known: Iterable[ParameterGroup] = ()
) -> list[ParameterGroup]:
    """Return the groups that an optimizer's `params` describe.

    Args:
        owner: The name at the start of error messages.
        params: Tensors, which form one group; or dicts with "params" and the options in which a
            group differs from `lr` and `rule`.
        lr: The learning rate.
        rule: The rule, with its options.
        known: The groups that the optimizer already has.

    Raises:
        TypeError: `params` is not an iterable of these, or an option is not of its type.
        ValueError: There is no parameter, or an empty group; a parameter is given twice or is not a
            leaf of floating-point numbers; an option is unknown or out of its range.
    """
    first = len(known := list(known))
    require_not_negative(owner, lr=lr)
    if isinstance(params, Tensor | Mapping) or not isinstance(params, Iterable):
        raise TypeError(
            f"{owner}: params must be an iterable of Tensors, got a {type(params).__name__}; "
            "parameter groups are a list of dicts"
        )
    listed: list[Any] = list(params)
    if not any(isinstance(each, Mapping) for each in listed):
        return [ParameterGroup(owner, checked_params(owner, listed), lr, rule)]
    defaults = rule.options(lr)
    groups: list[ParameterGroup] = []
    places = {param: i for i, group in enumerate(known) for param in group.params}
    for i, given in enumerate(listed, first):
        name = f"{owner}: group {i}"
        if not isinstance(given, Mapping):
            raise TypeError(f"{name} must be a dict like the others, got a {type(given).__name__}")
        if "params" not in given:
            raise ValueError(f"{name} has no params")
        _require_known(name, given, ("params", "lr", *defaults))
        own = dict(given)
        tensors = own.pop("params")
        checked = checked_params(name, [tensors] if isinstance(tensors, Tensor) else tensors)
        for j, param in enumerate(checked):
            if param in places:
                raise ValueError(
                    f"{name}: params[{j}] is in group {places[param]} too; pass each parameter once"
                )
        places |= dict.fromkeys(checked, i)
        rate = own.pop("lr", lr)
        require_not_negative(name, lr=rate)
        groups.append(
            ParameterGroup(name, checked, rate, _with_options(name, rule, defaults | own, rate))
        )
    return groups


def _with_options(owner: str, rule: Rule, options: Mapping[str, Any], lr: float) -> Rule:
    """Return the rule with other options; an error about one of them names the owner."""
    try:
        return rule.with_options(options, lr)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{owner}: {str(error).removeprefix(f'{rule.name}: ')}") from error


def _require_known(owner: str, names: Iterable[str], known: Iterable[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        options = ", ".join(name for name in known if name != "params")
        raise ValueError(f"{owner} has no option {unknown[0]!r}; the options are {options}")
