"""The deep dense network's training step in other frameworks, on the same weights and batch.

Each function returns contestants: by name, a callable that makes one step and waits until it is
done. They use the fastest means that each framework offers. JAX compiles the whole step, optimizer
included, and reuses the memory of the arrays it updates. PyTorch compiles the loss and the
optimizer's step separately.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Contestants = dict[str, Callable[[], object]]
Weights = list[np.ndarray]

LR, ALPHA, RMS_EPS = 1e-4, 0.9, 1e-8
BETAS, ADAM_EPS = (0.9, 0.999), 1e-8


def torch_network(weights: Weights, activation: str) -> Any:
    """Return PyTorch's network with these weights and biases, for flat inputs."""
    import torch

    kind = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[activation]
    layers: list[torch.nn.Module] = []
    for weight in weights[::2]:
        layers += [torch.nn.Linear(weight.shape[1], weight.shape[0]), kind()]
    model = torch.nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), weights):
            parameter.copy_(torch.from_numpy(np.array(values)))
    return model


def torch_steps(
    weights: Weights, images: np.ndarray, labels: np.ndarray, activation: str, compiled: bool
) -> Contestants:
    """Return PyTorch's steps: eager with each form of its optimizers, and compiled if asked for."""
    import torch

    inputs, targets = torch.from_numpy(images), torch.from_numpy(labels)

    def rmsprop(parameters, **options):
        return torch.optim.RMSprop(parameters, lr=LR, alpha=ALPHA, eps=RMS_EPS, **options)

    def adam(parameters, **options):
        return torch.optim.Adam(parameters, lr=LR, betas=BETAS, eps=ADAM_EPS, **options)

    def contestant(make_optimizer: Callable, compiled: bool = False) -> Callable[[], float]:
        model = torch_network(weights, activation)
        optimizer = make_optimizer(model.parameters())

        def loss_of(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(model(inputs), targets)

        compute, update = loss_of, optimizer.step
        if compiled:
            compute, update = torch.compile(loss_of), torch.compile(optimizer.step)

        def step() -> float:
            optimizer.zero_grad()
            loss = compute(inputs, targets)
            loss.backward()
            update()
            return loss.item()

        return step

    eager = {
        "PyTorch RMSprop": contestant(rmsprop),
        "PyTorch RMSprop, foreach": contestant(lambda p: rmsprop(p, foreach=True)),
        "PyTorch Adam": contestant(adam),
        "PyTorch Adam, fused": contestant(lambda p: adam(p, fused=True)),
    }
    if not compiled:
        return eager
    return eager | {
        "PyTorch RMSprop, compiled": contestant(rmsprop, compiled=True),
        "PyTorch Adam, compiled": contestant(adam, compiled=True),
    }


def jax_steps(weights: Weights, images: np.ndarray, labels: np.ndarray, activation: str) -> dict:
    """Return JAX's steps, jitted."""
    import jax
    import jax.numpy as jnp

    function = {"tanh": jnp.tanh, "relu": jax.nn.relu}[activation]
    inputs, targets = jnp.asarray(images), jnp.asarray(labels)
    initial = [jnp.asarray(weight) for weight in weights]

    def loss_of(params: list) -> jax.Array:
        hidden = inputs
        for i in range(0, len(params) - 2, 2):
            hidden = function(hidden @ params[i].T + params[i + 1])
        logits = hidden @ params[-2].T + params[-1]
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], axis=1)
        return -picked.mean()

    def rmsprop(params: list, state: list) -> tuple:
        loss, grads = jax.value_and_grad(loss_of)(params)
        state = [ALPHA * v + (1 - ALPHA) * g * g for v, g in zip(state, grads)]
        params = [p - LR * g / (jnp.sqrt(v) + RMS_EPS) for p, g, v in zip(params, grads, state)]
        return loss, params, state

    def adam(params: list, state: list) -> tuple:
        loss, grads = jax.value_and_grad(loss_of)(params)
        (m, v, t), (first, second) = state, BETAS
        m = [first * a + (1 - first) * g for a, g in zip(m, grads)]
        v = [second * a + (1 - second) * g * g for a, g in zip(v, grads)]
        rate, scale = LR / (1 - first ** (t + 1)), jnp.sqrt(1 - second ** (t + 1))
        params = [p - rate * a / (jnp.sqrt(b) / scale + ADAM_EPS) for p, a, b in zip(params, m, v)]
        return loss, params, [m, v, t + 1]

    def contestant(rule: Callable, state: list) -> Callable[[], float]:
        compiled = jax.jit(rule, donate_argnums=(0, 1))
        now = [[jnp.array(values) for values in initial], state]

        def step() -> float:
            loss, *now[:] = compiled(*now)
            jax.block_until_ready(now)
            return float(loss)

        return step

    def zeros() -> list:
        return [jnp.zeros_like(values) for values in initial]

    return {
        "JAX RMSprop": contestant(rmsprop, zeros()),
        "JAX Adam": contestant(adam, [zeros(), zeros(), jnp.float32(0)]),
    }


def mygrad_steps(weights: Weights, images: np.ndarray, labels: np.ndarray, activation: str) -> dict:
    """Return MyGrad's step. MyGrad has no optimizers, so RMSprop runs in NumPy, in place."""
    import mygrad
    from mygrad.nnet.activations import relu
    from mygrad.nnet.losses import softmax_crossentropy

    function = {"tanh": mygrad.tanh, "relu": relu}[activation]
    params = [mygrad.tensor(np.array(weight)) for weight in weights]
    state = [np.zeros_like(weight) for weight in weights]

    def rmsprop() -> float:
        hidden = images
        for i in range(0, len(params) - 2, 2):
            hidden = function(mygrad.matmul(hidden, params[i].T) + params[i + 1])
        logits = mygrad.matmul(hidden, params[-2].T) + params[-1]
        loss = softmax_crossentropy(logits, labels)
        loss.backward()
        for param, v in zip(params, state):
            v *= np.float32(ALPHA)
            v += np.float32(1 - ALPHA) * np.square(param.grad)
            param.data -= np.float32(LR) * param.grad / (np.sqrt(v) + np.float32(RMS_EPS))
        return loss.item()

    return {"MyGrad RMSprop": rmsprop}
