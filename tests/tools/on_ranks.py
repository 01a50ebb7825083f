"""The program that tests/test_distributed.py runs on several ranks by mpiexec.

python on_ranks.py RESULTS: train in many ways, write a JSON file of the results, and finally fail
on the last rank alone.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.data import Batches
from agrad.distributed import Ranks
from agrad.train import fit, train, train_step

STEPS = 7


def parts(method: str, *extra: nn.Module, seed: int = 0) -> dict[str, Any]:
    """Return a small network, an optimizer and batches of 9, 9 and 3 examples."""
    ag.seed(seed)
    layers = [nn.Linear(5, 8), *extra, nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)]
    model = nn.Sequential(*layers)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1]},
        {"params": [p for p in model.parameters() if p.ndim == 1], "lr": 5e-3},
    ]
    params = groups if method == "groups" else model.parameters()
    optimizer: optim.Optimizer = optim.AdamW(params, lr=3e-2)
    if method != "adam":
        lr = "auto" if method == "auto" else None
        optimizer = optim.AverageGradient(optimizer, lr=lr, probe_size=5)
    rng = np.random.default_rng(1)
    inputs = rng.standard_normal((21, 5)).astype(np.float32)
    labels = rng.integers(0, 3, 21)
    labels[[3, 4, 9, 16, 17, 18]] = -100  # the mean is over the others
    return {
        "model": model,
        "optimizer": optimizer,
        "batches": Batches(inputs, labels, batch_size=9, seed=seed),
    }


def trained(ranks: Ranks | None, method: str, capture: bool, *extra: nn.Module) -> Any:
    """Return the weights, losses and numbers of a training over ranks, or of this process alone."""
    made = parts(method, *extra, seed=ranks.rank if ranks is not None else 0)
    if ranks is not None:
        ranks.share(made)
    model, optimizer, batches = made.values()
    steps = list(train(model, optimizer, batches, STEPS, capture=capture))
    weights = np.concatenate([p.data.ravel() for p in model.parameters()])
    if ranks is not None:
        state = np.concatenate([a.data.ravel() for a in [*model.parameters(), *model.buffers()]])
        draw = ag.random.generator().integers(2**63)
        ranks.require_same("the outcome", state.tobytes() + str((draw, optimizer.rate)).encode())
    return weights, [step.loss for step in steps], [optimizer.cuts, optimizer.rate], model


def compared(ranks: Ranks, method: str, capture: bool) -> dict[str, Any]:
    """Return the distance between a training over the ranks and one in this process alone."""
    one, all_, again = (trained(given, method, capture) for given in (None, ranks, ranks))
    return {
        "distance": float(abs(one[0] - all_[0]).max()),
        "losses": float(abs(np.subtract(one[1], all_[1])).max()),
        "moved": float(abs(one[0]).max()),
        "numbers": [one[2], all_[2]],
        "same": bool((all_[0] == again[0]).all() and all_[1] == again[1]),
    }


def first_mean(ranks: Ranks) -> float:
    """Return the difference of the running mean after one step from that of one process."""
    means = []
    for given in (None, ranks):
        made = parts("adam", nn.BatchNorm1d(8))
        if given is not None:
            given.share(made)
        model, optimizer, _ = made.values()
        rng = np.random.default_rng(2)
        inputs, labels = rng.standard_normal((11, 5)).astype(np.float32), rng.integers(0, 3, 11)
        train_step(model, optimizer, inputs, labels)
        means.append(model.state_dict()["1.running_mean"])
    return float(abs(means[0] - means[1]).max())


def summed_in_an_own_loop(ranks: Ranks) -> float:
    """Return the distance between a loop with a summed loss and that of one process."""
    weights = []
    for given in (None, ranks):
        made = parts("average")
        if given is not None:
            given.share(made)
        model, optimizer, batches = made.values()
        rows = slice(None) if given is None else given.rows
        for inputs, _ in batches:
            optimizer.zero_grad()
            optimizer.step((model(inputs[rows]) ** 2).sum() / len(inputs))
        weights.append(np.concatenate([p.data.ravel() for p in model.parameters()]))
    return float(abs(weights[0] - weights[1]).max())


def errors(ranks: Ranks) -> dict[str, str]:
    """Return the messages of the refusals."""
    found = {}

    def refused(name: str, function: Any) -> None:
        try:
            function()
        except (ValueError, TypeError) as error:
            found[name] = f"{type(error).__name__}: {error}"

    made = parts("average")
    ranks.share(made)
    model, optimizer, batches = made.values()
    x, y = np.ones((8, 5), np.float32), np.arange(8) % 3
    F.cross_entropy(model(x), y).backward()
    refused("gradient", lambda: optimizer.step(F.cross_entropy(model(x), y)))
    refused("no loss", optimizer.step)
    optimizer.zero_grad()
    total = partial(F.cross_entropy, reduction="sum")
    refused("sum", lambda: train_step(model, optimizer, x, y, total))
    refused("data", lambda: train_step(model, optimizer, x, (y + ranks.rank) % 3))
    refused("lengths", lambda: train_step(model, optimizer, x, y[:7]))
    refused("checkpoints", lambda: fit(model, optimizer, batches, epochs=1, checkpoints="nowhere"))
    bad = np.where(np.arange(8)[:, None] == 1, np.nan, x)  # a row of rank 1
    before = model.state_dict()
    refused("nan", lambda: train_step(model, optimizer, bad, y))
    refused("ignored", lambda: train_step(model, optimizer, x, np.full(8, -100)))
    found["unchanged"] = str(all((before[n] == v).all() for n, v in model.state_dict().items()))
    refused("way", lambda: ranks.largest(f"way {ranks.rank}", 0))
    return found


def leaves(ranks: Ranks) -> str:
    """Return the message for gradients of other parameters on another rank."""
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    z = ag.tensor([3.0], requires_grad=True)
    optimizer = optim.SGD([x, z], lr=0.1)
    optimizer.ranks = ranks
    try:
        optimizer.step((x * x).sum() if ranks.rank else (x * x).sum() + z.sum())
    except ValueError as error:
        return str(error)
    return ""


def one_sided(ranks: Ranks) -> list[list[float]]:
    """Return weights by one process and by all, if the end is infinite only on the last rank."""
    found = []
    for given in (None, ranks):
        w = ag.tensor([1.0], requires_grad=True)
        optimizer = optim.AverageGradient(optim.SGD([w], lr=1e30), verify=False)
        optimizer.ranks = given
        owned = range(ranks.size) if given is None else [ranks.rank]
        factors = [float(i == ranks.size - 1) for i in owned]
        optimizer.step([(w * factor) ** 2 for factor in factors])
        found.append([w.item(), optimizer.fraction])
    return found


def main(path: Path) -> None:
    with ag.distributed.ranks() as ranks:
        found = {
            "comparisons": {
                f"{method} {capture}": compared(ranks, method, capture)
                for method, capture in (
                    ("adam", True),
                    ("average", False),
                    ("auto", True),
                    ("groups", True),
                )
            },
            "dropout": bool(
                np.array_equal(
                    *(trained(ranks, "average", True, nn.Dropout(0.5))[0] for _ in range(2))
                )
            ),
            "own loop": summed_in_an_own_loop(ranks),
            "leaves": leaves(ranks),
            "one-sided": one_sided(ranks),
            "errors": errors(ranks),
            "running mean": first_mean(ranks),
        }
        if ranks.rank == 0:
            path.write_text(json.dumps(found))
        if ranks.rank == ranks.size - 1:
            ranks.largest("the results are written", 0)
            raise RuntimeError("the last rank has had enough")
        ranks.largest("the results are written", 0)
        ranks.largest("never reached by all", 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
