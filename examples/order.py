"""How far the gradient and the factorized average gradient are from the true average gradient.

python examples/order.py

A network of six tanh layers in float64, and an update Δ that is halved again and again. The error
of the gradient falls as |Δ|, that of the factorized average gradient as |Δ|², and that of the
extrapolated one as |Δ|⁴. The last two also account for the change of the loss, exactly and at any
size of the update.
"""

import numpy as np

import agrad as ag
import agrad.nn.functional as F
from agrad import nn

ag.seed(0)
model = nn.Sequential(
    *[layer for _ in range(6) for layer in (nn.Linear(8, 8), nn.Tanh())], nn.Linear(8, 3)
).to("float64")
rng = np.random.default_rng(0)
inputs, labels = rng.standard_normal((16, 8)), rng.integers(3, size=16)
params = list(model.parameters())
direction = {param: rng.standard_normal(param.shape) for param in params}


def loss():
    return F.cross_entropy(model(inputs), labels)


def distance(grads, reference):
    return np.sqrt(sum(np.sum((grads[p] - reference[p]) ** 2) for p in params))


def average(update, extrapolate):
    model.zero_grad()
    start = loss()
    end = start.average_backward(update, extrapolate=extrapolate)
    grads = {p: p.average_grad for p in params}
    change = sum(np.vdot(grads[p], update[p]) for p in params)
    return grads, abs(change - (end - start.item()))


model.zero_grad()
loss().backward()
gradient = {param: param.grad for param in params}
print("           distance from the true average gradient     change of the loss, error")
print("   |Δ|       gradient   factorized  extrapolated        factorized  extrapolated")
size = np.sqrt(sum(np.sum(d**2) for d in direction.values()))
for halvings in range(6):
    length = 4 / 2**halvings
    update = {param: length / size * d for param, d in direction.items()}
    true = ag.average_gradient(loss, params, update, nodes=64)
    factorized, error = average(update, extrapolate=False)
    extrapolated, other_error = average(update, extrapolate=True)
    print(
        f"  {length:6.3f}     {distance(gradient, true):.1e}      {distance(factorized, true):.1e}"
        f"       {distance(extrapolated, true):.1e}           {error:.0e}         {other_error:.0e}"
    )
