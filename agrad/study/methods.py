"""The methods that the studies compare, by name."""

from collections.abc import Callable, Iterable
from functools import partial

from agrad import optim
from agrad.nn import Parameter
from agrad.study import ablations

__all__ = ["METHODS", "make_optimizer"]

Params = Iterable[Parameter]


def _rmsprop(params: Params, lr: float, momentum: float = 0.0) -> optim.RMSprop:
    return optim.RMSprop(params, lr=lr, alpha=0.9, momentum=momentum)


# The papers' setting: measured on the whole batch, and not verified.
_average = partial(optim.AverageGradient, probe_size=None, verify=False)
# The quickest that the optimizer offers: every second step is measured, on few examples.
_probed = partial(optim.AverageGradient, probe_size=32, every=2)
_verified = partial(optim.AverageGradient, probe_size=None)
_substituted = partial(ablations.Substituted, probe_size=None)
_scaled = partial(ablations.ScaledBySquaredGradient, probe_size=None)

METHODS: dict[str, Callable[[Params, float], optim.Optimizer]] = {
    "rmsprop": _rmsprop,
    "momentum-rmsprop": lambda params, lr: _rmsprop(params, lr, momentum=0.9),
    "adam": lambda params, lr: optim.Adam(params, lr=lr),
    "cautious-adam": lambda params, lr: optim.Adam(params, lr=lr, cautious=True),
    "average-rmsprop": lambda params, lr: _average(_rmsprop(params, lr)),
    "average-adam": lambda params, lr: _average(optim.Adam(params, lr=lr)),
    "average-momentum-rmsprop": lambda params, lr: _average(_rmsprop(params, lr, momentum=0.9)),
    "average-cautious-adam": lambda params, lr: _average(optim.Adam(params, lr=lr, cautious=True)),
    "verified-rmsprop": lambda params, lr: _verified(_rmsprop(params, lr)),
    "probed-rmsprop": lambda params, lr: _probed(_rmsprop(params, lr)),
    "probed-adam": lambda params, lr: _probed(optim.Adam(params, lr=lr)),
    "average-adam-auto": lambda params, lr: optim.AverageGradient(
        optim.Adam(params, lr=lr, cautious=True), lr="auto"
    ),
    "ablation-substituted": lambda params, lr: _substituted(_rmsprop(params, lr)),
    "ablation-scaled": lambda params, lr: _scaled(_rmsprop(params, lr)),
}
"""A method with `auto` in its name takes its learning rate as the initial value."""


def make_optimizer(method: str, params: Params, lr: float) -> optim.Optimizer:
    """Return the optimizer of that name over `params`.

    Raises:
        ValueError: The method is unknown.
    """
    if method not in METHODS:
        raise ValueError(f"make_optimizer: method must be one of {sorted(METHODS)}, got {method!r}")
    return METHODS[method](params, lr)
