"""The tasks of the suite: data, a network, a loss, a batch size and the numbers of steps.

A task is the same in every run. A run's seed determines only its initial weights and the order of
its batches, so that all methods start alike and see the same batches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

import agrad.nn.functional as F
from agrad import nn
from agrad.data import imdb
from agrad.data.datasets import digits, fashion_mnist, mnist
from agrad.extras import optional_import
from agrad.study.networks import dense_network, image_network, text_network

__all__ = ["TASKS", "Data", "Task"]

# Enough to measure an accuracy to about a percent; a larger set would cost as much as training.
HELD_OUT = 1000
RANDOM_LABELS = 0.3
VOCABULARY, WORDS = 2000, 100


@dataclass(frozen=True)
class Data:
    """Examples and targets to train on and to validate on, and the number of outputs."""

    train: tuple[Any, Any]
    validation: tuple[Any, Any]
    outputs: int


@dataclass(frozen=True)
class Task:
    """A named task.

    Attributes:
        name: Identifies it in results files.
        data: Returns the data, always the same.
        network: Returns an untrained network for them.
        batch_size: The examples of a step.
        horizons: The numbers of steps of a run, one or two.
        loss_function: The loss; mean squared errors make it a regression.
        noisy: Whether noise was added to the targets to train on. Then a low training loss may mean
            memorization, and the validation loss counts.
        starts: Whether the automatic rate also runs from other initial rates.
    """

    name: str
    data: Callable[[], Data]
    network: Callable[[Data], nn.Module]
    batch_size: int
    horizons: tuple[int, ...]
    loss_function: Callable[..., Any] = F.cross_entropy
    noisy: bool = False
    starts: bool = False


# -- data ------------------------------------------------------------------------------------------

IMAGES = {"digits": digits, "fashion": fashion_mnist, "mnist": mnist}


@lru_cache(2)  # the tasks on one data set follow each other, and MNIST takes 188 MB
def images(name: str, random_labels: float = 0.0) -> Data:
    """Return an image set; a share of the training labels may be replaced by random ones."""
    inputs, labels = IMAGES[name]("train")
    test_inputs, test_labels = IMAGES[name]("test")
    rng = np.random.default_rng(0)
    held = rng.permutation(len(test_labels))[:HELD_OUT]
    replaced = rng.random(len(labels)) < random_labels
    labels = np.where(replaced, rng.integers(0, 10, len(labels)), labels)
    return Data((inputs, labels), (test_inputs[held], test_labels[held]), 10)


@lru_cache(1)
def texts() -> Data:
    """Return the first words of the IMDb reviews."""
    held = np.random.default_rng(0).permutation(25_000)[: HELD_OUT // 2]
    inputs, labels = imdb("test", VOCABULARY, WORDS)
    return Data(imdb("train", VOCABULARY, WORDS), (inputs[held], labels[held]), 2)


def table(name: str) -> Data:
    """Return one of scikit-learn's tables, standardized; a fifth of it is held out."""
    inputs, targets = getattr(optional_import("sklearn.datasets"), f"load_{name}")(return_X_y=True)
    return split(inputs, targets)


def friedman() -> Data:
    """Return Friedman's first problem without noise: a smooth function of 5 of 10 inputs."""
    return split(*optional_import("sklearn.datasets").make_friedman1(2500, random_state=0))


def housing() -> Data:
    """Return a regression like that of Californian house prices, which would need a download.

    Like those prices, it has heavy tails in most inputs, a target that depends on a location, noise
    that grows with the target, and a value at which targets are capped.
    """
    rng = np.random.default_rng(0)
    income, rooms, population, occupancy = np.exp(rng.normal(0, (0.5, 0.4, 1.0, 0.7), (5000, 4))).T
    age, place = rng.uniform(0, 1, 5000), rng.uniform(-1, 1, (5000, 2))
    centre = np.exp(-4 * np.hypot(place[:, 0] - 0.4, place[:, 1] + 0.3))
    price = income * (0.6 + centre) + 0.3 * rooms - 0.2 * np.log(occupancy) + 0.2 * age
    price *= np.exp(rng.normal(0, 0.2, 5000))
    inputs = np.column_stack([income, rooms, population, occupancy, age, place])
    return split(inputs, np.minimum(price, np.quantile(price, 0.95)))


def linear(noise: float) -> Data:
    """Return a linear regression in 20 inputs; the held-out targets have no noise.

    Their loss is therefore the excess risk.
    """
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((3000, 20)).astype(np.float32)
    clean = inputs @ (rng.standard_normal((20, 1)) / np.sqrt(20)).astype(np.float32)
    noisy = clean + np.float32(noise) * rng.standard_normal(clean.shape).astype(np.float32)
    return Data((inputs[:2000], noisy[:2000]), (inputs[2000:], clean[2000:]), 1)


def badly_scaled() -> Data:
    """Return a nonlinear regression whose inputs have scales from 0.01 to 100."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((3000, 10))
    targets = np.tanh(inputs @ rng.standard_normal(10)) + 0.3 * inputs[:, 0] * inputs[:, 9]
    data = split(inputs, targets)
    scales = np.logspace(-2, 2, 10, dtype=np.float32)
    train, validation = ((x * scales, y) for x, y in (data.train, data.validation))
    return Data(train, validation, 1)


def split(inputs: Any, targets: Any) -> Data:
    """Shuffle, hold out a fifth, and standardize the inputs and a regression's targets."""
    order = np.random.default_rng(0).permutation(len(targets))
    inputs, targets = inputs[order], targets[order]
    first = len(targets) // 5
    inputs = (inputs - inputs[first:].mean(0)) / inputs[first:].std(0)
    outputs = 1
    if targets.dtype.kind == "i":
        outputs = int(targets.max()) + 1
    else:
        targets = (targets - targets[first:].mean()) / targets[first:].std()
        targets = targets.astype(np.float32)[:, None]
    inputs = inputs.astype(np.float32)
    return Data((inputs[first:], targets[first:]), (inputs[:first], targets[:first]), outputs)


# -- networks --------------------------------------------------------------------------------------


def dense(data: Data, depth: int, width: int = 1, activation: str = "tanh") -> nn.Module:
    size = data.train[0][0].size
    return dense_network(size, data.outputs, depth=depth, width=width, activation=activation)


def conv(data: Data, depth: int, width: int, activation: str) -> nn.Module:
    size = data.train[0].shape[1:]
    return image_network(size, data.outputs, depth=depth, width=width, activation=activation)


def text(data: Data, depth: int, width: int, activation: str = "relu") -> nn.Module:
    return text_network(VOCABULARY, data.outputs, depth=depth, width=width, activation=activation)


def regularized(data: Data) -> nn.Module:
    """Return two hidden layers with batch normalization and dropout."""
    layers: list[nn.Module] = [nn.Flatten()]
    size = data.train[0][0].size
    for _ in range(2):
        layers += [nn.Linear(size, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2)]
        size = 64
    return nn.Sequential(*layers, nn.Linear(size, data.outputs))


# -- the tasks, about in the order of their costs --------------------------------------------------

REGRESSION = {"loss_function": F.mse_loss}
DIGITS, MNIST, FASHION = (partial(images, name) for name in ("digits", "mnist", "fashion"))

TASKS = [
    Task(
        "iris, 3x16 softsign, batch 8",
        partial(table, "iris"),
        partial(dense, depth=3, width=16, activation="softsign"),
        8,
        (300, 3000),
    ),
    Task(
        "wine, 2x16 sigmoid, batch 16",
        partial(table, "wine"),
        partial(dense, depth=2, width=16, activation="sigmoid"),
        16,
        (1000,),
    ),
    Task(
        "breast cancer, 1x32 ReLU, batch 8",
        partial(table, "breast_cancer"),
        partial(dense, depth=1, width=32, activation="relu"),
        8,
        (500, 3000),
        starts=True,
    ),
    Task(
        "diabetes, 2x32 ReLU, batch 32",
        partial(table, "diabetes"),
        partial(dense, depth=2, width=32, activation="relu"),
        32,
        (600,),
        **REGRESSION,
    ),
    Task(
        "noisy linear regression, batch 1",
        partial(linear, 0.5),
        partial(dense, depth=0),
        1,
        (
            10_000,
        ),  # in fewer steps, medians over 5 % of them are mostly the noise of single examples
        **REGRESSION,
        noisy=True,
        starts=True,
    ),
    Task(
        "badly scaled inputs, 2x32 tanh, batch 64",
        badly_scaled,
        partial(dense, depth=2, width=32, activation="tanh"),
        64,
        (2000,),
        **REGRESSION,
    ),
    Task(
        "Friedman, 3x64 tanh, batch 128",
        friedman,
        partial(dense, depth=3, width=64, activation="tanh"),
        128,
        (300,),
        **REGRESSION,
    ),
    Task(
        "housing, 3x64 ReLU, batch 256",
        housing,
        partial(dense, depth=3, width=64, activation="relu"),
        256,
        (1000,),
        **REGRESSION,
        noisy=True,
    ),
    Task(
        "digits, 1x32 ReLU, batch 128",
        DIGITS,
        partial(dense, depth=1, width=32, activation="relu"),
        128,
        (6000,),
        starts=True,
    ),
    Task(
        "digits, 1x32 tanh, batch 1",
        DIGITS,
        partial(dense, depth=1, width=32, activation="tanh"),
        1,
        (2000, 10_000),  # in 750 steps, a median over 5 % of them is mostly noise here too
    ),
    Task(
        "Fashion-MNIST, 2x64 GELU, batch 1024",
        FASHION,
        partial(dense, depth=2, width=64, activation="gelu"),
        1024,
        (300,),
    ),
    Task(
        # Narrow, since a network that can memorize random labels validates better the less it
        # learns.
        "digits with random labels, 1x16 ReLU, batch 128",
        partial(images, "digits", RANDOM_LABELS),
        partial(dense, depth=1, width=16, activation="relu"),
        128,
        (3000,),
        noisy=True,
        starts=True,
    ),
    Task(
        "digits, 5x32 sigmoid, batch 64",
        DIGITS,
        partial(dense, depth=5, width=32, activation="sigmoid"),
        64,
        (400, 2000),
    ),
    Task(
        "digits, 20x32 ELU, batch 32",
        DIGITS,
        partial(dense, depth=20, width=32, activation="elu"),
        32,
        (300,),
    ),
    Task(
        "digits, convolutions 6x8 SiLU, batch 32",
        DIGITS,
        partial(conv, depth=6, width=8, activation="silu"),
        32,
        (300,),
    ),
    Task(
        "digits, 30x64 tanh, batch 128",
        DIGITS,
        partial(dense, depth=30, width=64, activation="tanh"),
        128,
        (320, 4000),
        starts=True,
    ),
    Task(
        "MNIST, linear, batch 32",
        MNIST,
        partial(dense, depth=0),
        32,
        (300, 3000),
    ),
    Task(
        "MNIST, 10x64 GELU, batch 64",
        MNIST,
        partial(dense, depth=10, width=64, activation="gelu"),
        64,
        (1000,),
    ),
    Task(
        "MNIST, 30x64 tanh, batch 128",
        MNIST,
        partial(dense, depth=30, width=64, activation="tanh"),
        128,
        (320, 1500),
    ),
    Task(
        "MNIST, 30x64 ReLU, batch 128",
        MNIST,
        partial(dense, depth=30, width=64, activation="relu"),
        128,
        (320, 1500),
    ),
    Task(
        "MNIST, 30x64 tanh, batch 1024",
        MNIST,
        partial(dense, depth=30, width=64, activation="tanh"),
        1024,
        (240,),
    ),
    Task(
        "MNIST, 30x64 ReLU, batch 1024",
        MNIST,
        partial(dense, depth=30, width=64, activation="relu"),
        1024,
        (240,),
    ),
    Task(
        "MNIST, convolutions 4x8 tanh, batch 32",
        MNIST,
        partial(conv, depth=4, width=8, activation="tanh"),
        32,
        (300,),
    ),
    Task(
        "MNIST with random labels, 3x64 tanh, batch 512",
        partial(images, "mnist", RANDOM_LABELS),
        partial(dense, depth=3, width=64, activation="tanh"),
        512,
        (1000,),
        noisy=True,
    ),
    Task(
        "Fashion-MNIST, 5x64 ELU, batch 256",
        FASHION,
        partial(dense, depth=5, width=64, activation="elu"),
        256,
        (1000,),
    ),
    Task(
        "Fashion-MNIST, batch normalization and dropout, batch 64",
        FASHION,
        regularized,
        64,
        (1000,),
    ),
    Task(
        "Fashion-MNIST, convolutions 4x8 ReLU, batch 32",
        FASHION,
        partial(conv, depth=4, width=8, activation="relu"),
        32,
        (400,),
    ),
    Task(
        "IMDb, embedding and linear, batch 64",
        texts,
        partial(text, depth=0, width=16),
        64,
        (600,),
    ),
    Task(
        "IMDb, convolutions 2x16 tanh, batch 32",
        texts,
        partial(text, depth=2, width=16, activation="tanh"),
        32,
        (600,),
    ),
    Task(
        "IMDb, convolutions 12x16 ReLU, batch 32",
        texts,
        partial(text, depth=12, width=16, activation="relu"),
        32,
        (1200,),
        starts=True,
    ),
]
