"""Solve a differential equation with a physics-informed network.

python examples/physics_informed.py
python examples/physics_informed.py --steps 300

A damped oscillator: u″ + 2δu′ + ω²u = 0 with u(0) = 1 and u′(0) = 0, for δ = 0.25 and ω = 2. A
network u(t) of tanh layers never sees the solution. Its loss is the mean square of the equation's
residual at points between 0 and 4, and of the gap at the start (Raissi et al.,
"Physics-informed neural networks", 2019). The residual needs the derivatives of u by t, and the
gradient of the loss needs theirs by the weights: `ag.grad` with `create_graph=True` records both.

Finally the network is compared with the exact solution.
"""

import argparse

import numpy as np

import agrad as ag
from agrad import nn, optim

DAMPING, FREQUENCY, END = 0.25, 2.0, 4.0

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=2000, help="steps of training")
parser.add_argument("--seed", type=int, default=0, help="seed of the initial weights")
options = parser.parse_args()

ag.seed(options.seed)
model = nn.Sequential(
    nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
).to("float64")
optimizer = optim.Adam(model.parameters(), lr=1e-2)
schedule = optim.CosineAnnealingLR(optimizer, options.steps)
# The points are leaves, since the network is differentiated with respect to them.
times = ag.tensor(np.linspace(0, END, 32)[:, None], requires_grad=True)


def derivatives(t):
    """Return u, u′ and u″ at the times t, each of which affects its own u alone."""
    u = model(t)
    (slope,) = ag.grad(u.sum(), t, create_graph=True)
    (curvature,) = ag.grad(slope.sum(), t, create_graph=True)
    return u, slope, curvature


def exact(t):
    rate = np.sqrt(FREQUENCY**2 - DAMPING**2)
    return np.exp(-DAMPING * t) * (np.cos(rate * t) + DAMPING / rate * np.sin(rate * t))


for step in range(1, options.steps + 1):
    optimizer.zero_grad()
    u, slope, curvature = derivatives(times)
    residual = curvature + 2 * DAMPING * slope + FREQUENCY**2 * u
    equation = (residual**2).mean()
    start = (u[0, 0] - 1) ** 2 + slope[0, 0] ** 2
    loss = equation + 10 * start
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % max(1, options.steps // 10) == 0:
        print(f"step {step:5}  equation {equation.item():.1e}  start {start.item():.1e}")

t = np.linspace(0, END, 401)[:, None]
with ag.no_grad():
    error = np.abs(model(t).numpy() - exact(t)).max()
print(f"largest error of u on [0, {END:g}]: {error:.1e}")
