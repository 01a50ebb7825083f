"""Compare small automatic differentiation libraries: the time of a step and the size of the code.

    python benchmarks/libraries.py --out libraries.json

Each library trains the same dense ReLU network on the same batch by gradient descent on the mean
squared error. The tiny network has 41 parameters and a batch of 4, so that calls dominate the time;
the other has 30 hidden layers of 64 units and a batch of 128. micrograd computes number by number,
so it takes part in the first race only. Times are CPU times of one thread, from races as
benchmarks/race.py describes them. Sizes are those of the installed packages. Libraries that are not
installed are left out. Needs the extra `bench`, and also:

    pip install autograd micrograd tinygrad
"""

import argparse
import importlib.metadata
import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dense_step import refuse_other_losses
from race import Contestants, pin, plan, race, ratios, refuse_other_threads, show, write

LR = 1e-3
PACKAGES = ("micrograd", "autograd", "mygrad", "agrad", "tinygrad", "jax", "torch")
Step = Callable[[], float]


def size_of(package: str) -> int:
    """Return the number of non-blank lines of Python in an installed package, without tests."""
    folders = [*importlib.util.find_spec(package).submodule_search_locations]
    if package == "agrad":  # an editable installation keeps its kernels elsewhere
        folders += importlib.util.find_spec("agrad.kernels").submodule_search_locations
    files = {
        path.resolve()
        for folder in folders
        for path in Path(folder).rglob("*.py")
        if not any("test" in part for part in path.relative_to(folder).parts)
    }
    return sum(bool(line.strip()) for path in files for line in path.read_bytes().splitlines())


class Network:
    """The weights and biases of a dense network, layer by layer, and a batch."""

    def __init__(self, depth: int, width: int, inputs: int, outputs: int, batch: int) -> None:
        import numpy as np

        import agrad
        from agrad.study.networks import dense_network

        agrad.seed(0)
        model = dense_network(inputs, outputs, depth=depth, width=width, activation="relu")
        self.weights = [parameter.data.copy() for parameter in model.parameters()]
        random = np.random.default_rng(0)
        self.inputs = random.random((batch, inputs), dtype=np.float32)
        self.targets = random.random((batch, outputs), dtype=np.float32)


def agrad_steps(network: Network) -> Contestants:
    """Return agrad's step as recorded, as captured, and with the average gradient."""
    import agrad
    import agrad.nn.functional as F
    from agrad import optim

    inputs, targets = agrad.tensor(network.inputs), agrad.tensor(network.targets)

    def contestant(captured: bool, average: bool) -> Step:
        params = [agrad.tensor(weight, requires_grad=True) for weight in network.weights]
        sgd = optim.SGD(params, lr=LR)
        optimizer = optim.AverageGradient(sgd) if average else sgd

        def loss_of(hidden: agrad.Tensor, targets: agrad.Tensor) -> agrad.Tensor:
            for i in range(0, len(params) - 2, 2):
                hidden = F.relu(F.linear(hidden, params[i], params[i + 1]))
            return F.mse_loss(F.linear(hidden, params[-2], params[-1]), targets)

        compute = agrad.capture(loss_of) if captured else loss_of

        def step() -> float:
            optimizer.zero_grad()
            loss = compute(inputs, targets)
            if isinstance(optimizer, optim.AverageGradient):
                optimizer.step(loss)
            else:
                loss.backward()
                optimizer.step()
            return loss.item()

        return step

    return {
        "agrad": contestant(captured=False, average=False),
        "agrad, captured": contestant(captured=True, average=False),
        "agrad, average gradient": contestant(captured=True, average=True),
    }


def torch_steps(network: Network) -> Contestants:
    """Return PyTorch's eager step."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
    params = [torch.tensor(weight, requires_grad=True) for weight in network.weights]
    inputs, targets = torch.from_numpy(network.inputs), torch.from_numpy(network.targets)
    optimizer = torch.optim.SGD(params, lr=LR)

    def step() -> float:
        optimizer.zero_grad()
        hidden = inputs
        for i in range(0, len(params) - 2, 2):
            hidden = F.relu(F.linear(hidden, params[i], params[i + 1]))
        loss = F.mse_loss(F.linear(hidden, params[-2], params[-1]), targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    return {"PyTorch": step}


def jax_steps(network: Network) -> Contestants:
    """Return JAX's step, jitted as a whole."""
    import jax
    import jax.numpy as jnp

    inputs, targets = jnp.asarray(network.inputs), jnp.asarray(network.targets)

    def loss_of(params: list) -> jax.Array:
        hidden = inputs
        for i in range(0, len(params) - 2, 2):
            hidden = jax.nn.relu(hidden @ params[i].T + params[i + 1])
        return jnp.square(hidden @ params[-2].T + params[-1] - targets).mean()

    def update(params: list) -> tuple:
        loss, grads = jax.value_and_grad(loss_of)(params)
        return loss, [p - LR * grad for p, grad in zip(params, grads)]

    compiled = jax.jit(update, donate_argnums=0)
    params = [jnp.array(weight) for weight in network.weights]

    def step() -> float:
        nonlocal params
        loss, params = compiled(params)
        jax.block_until_ready(params)
        return float(loss)

    return {"JAX, jitted": step}


def tinygrad_steps(network: Network) -> Contestants:
    """Return tinygrad's step, compiled by TinyJit. It has no step without a compiler."""
    from tinygrad import Context, Tensor, TinyJit
    from tinygrad.nn.optim import SGD

    params = [Tensor(weight).realize().is_param_() for weight in network.weights]
    inputs, targets = Tensor(network.inputs).realize(), Tensor(network.targets).realize()
    optimizer = SGD(params, lr=LR)

    @TinyJit
    def compiled() -> Tensor:
        optimizer.zero_grad()
        hidden = inputs
        for i in range(0, len(params) - 2, 2):
            hidden = (hidden @ params[i].T + params[i + 1]).relu()
        loss = (hidden @ params[-2].T + params[-1] - targets).square().mean()
        loss.backward()
        return loss.realize(*optimizer.schedule_step())

    def step() -> float:
        with Context(TRAINING=1):
            return float(compiled().item())

    return {"tinygrad, jitted": step}


def mygrad_steps(network: Network) -> Contestants:
    """Return MyGrad's step; it has no optimizers."""
    import mygrad
    import numpy as np
    from mygrad.nnet.activations import relu

    params = [mygrad.tensor(weight.copy()) for weight in network.weights]

    def step() -> float:
        hidden: Any = network.inputs
        for i in range(0, len(params) - 2, 2):
            hidden = relu(mygrad.matmul(hidden, params[i].T) + params[i + 1])
        error = mygrad.matmul(hidden, params[-2].T) + params[-1] - network.targets
        loss = mygrad.mean(mygrad.square(error))
        loss.backward()
        for param in params:
            param.data -= np.float32(LR) * param.grad
        return float(loss.item())

    return {"MyGrad": step}


def autograd_steps(network: Network) -> Contestants:
    """Return autograd's step; its optimizers are only examples, so this one is written out too."""
    import autograd
    import autograd.numpy as np

    params = [weight.copy() for weight in network.weights]

    def loss_of(params: list) -> Any:
        hidden = network.inputs
        for i in range(0, len(params) - 2, 2):
            hidden = np.maximum(np.dot(hidden, params[i].T) + params[i + 1], 0)
        return np.mean((np.dot(hidden, params[-2].T) + params[-1] - network.targets) ** 2)

    both = autograd.value_and_grad(loss_of)

    def step() -> float:
        loss, grads = both(params)
        for param, grad in zip(params, grads):
            param -= LR * grad
        return float(loss)

    return {"autograd": step}


def micrograd_steps(network: Network) -> Contestants:
    """Return micrograd's step, number by number."""
    from micrograd.nn import MLP

    *hidden, outputs = (len(bias) for bias in network.weights[1::2])
    model = MLP(network.inputs.shape[1], [*hidden, outputs])
    for layer, weight, bias in zip(model.layers, network.weights[::2], network.weights[1::2]):
        for neuron, row, shift in zip(layer.neurons, weight.tolist(), bias.tolist()):
            neuron.b.data = shift
            for value, number in zip(neuron.w, row):
                value.data = number
    inputs, targets = network.inputs.tolist(), network.targets.reshape(-1).tolist()

    def step() -> float:
        model.zero_grad()
        loss = sum((model(x) - y) ** 2 for x, y in zip(inputs, targets)) / len(targets)
        loss.backward()
        for param in model.parameters():
            param.data -= LR * param.grad
        return loss.data

    return {"micrograd": step}


STEPS = {
    "agrad": agrad_steps,
    "torch": torch_steps,
    "jax": jax_steps,
    "tinygrad": tinygrad_steps,
    "mygrad": mygrad_steps,
    "autograd": autograd_steps,
    "micrograd": micrograd_steps,
}
NETWORKS = {
    "tiny": {"depth": 2, "width": 4, "inputs": 3, "outputs": 1, "batch": 4},
    "30 x 64": {"depth": 30, "width": 64, "inputs": 784, "outputs": 10, "batch": 128},
}


def contestants_of(network: Network, libraries: list[str]) -> Contestants:
    """Return the steps of these libraries; micrograd's for a single output only."""
    single = network.targets.shape[1] == 1
    chosen = [name for name in libraries if single or name != "micrograd"]
    return {name: step for key in chosen for name, step in STEPS[key](network).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=25, help="about the length of each race")
    parser.add_argument("--out", type=Path, help="write the figures to this file as JSON")
    options = parser.parse_args()
    pin(1)
    os.environ["CPU_COUNT"] = "1"  # tinygrad's threads
    from agrad.study.runs import machine

    libraries = [name for name in STEPS if importlib.util.find_spec(name)]
    versions = {name: importlib.metadata.version(name) for name in libraries}
    sizes = {name: size_of(name) for name in PACKAGES if name in libraries}
    for name, lines in sizes.items():
        print(f"  {name:<12} {versions[name]:<12} {lines:>10,} lines")
    content: dict[str, Any] = {"machine": machine() | versions, "lines": sizes}
    for title, sizes_of in NETWORKS.items():
        contestants = contestants_of(Network(**sizes_of), libraries)
        refuse_other_losses(contestants)
        refuse_other_threads(1)
        rounds, steps = plan(contestants, options.seconds)
        seconds = race(contestants, rounds, steps, clock=time.process_time)
        compared = ratios(seconds, [(other, "agrad, captured") for other in contestants])
        show(f"{title}: CPU time of a step, {rounds} rounds of {steps}", seconds, compared)
        content[title] = {"seconds_per_step_by_round": seconds, "ratios": compared}
    write(options.out, content)


if __name__ == "__main__":
    main()
