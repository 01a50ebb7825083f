"""Make the figure of MNIST's digits: `AGRAD_DATA=FOLDER python docs/figures/mnist.py`.

A convolutional network learns from 10,000 images. The figure, mnist.png, has a column for each
digit: the image, and its attributions by integrated gradients, by the
factorized average and by gradient times input. The numbers on the page are
printed, and kept in results/attribution/mnist.json.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.image import imsave

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.data import Batches
from agrad.train import train

FOLDER = Path(__file__).parent
RESULTS = FOLDER.parents[1] / "results" / "attribution" / "mnist.json"
IMAGES, TESTS, ITERATIONS, SCALE = 10_000, 1000, 200, 2
INK, RED, BLUE = (128, 128, 128), (213, 94, 0), (0, 114, 178)


def trained(images: Any, labels: Any) -> nn.Module:
    """Return a network that has learned the images and ends in a softmax."""
    ag.seed(0)
    layers = [
        nn.Conv2d(1, 8, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 10),
    ]
    network = nn.Sequential(*layers)
    optimizer = optim.Adam(network.parameters(), lr=2e-3)
    batches = Batches(images, labels, batch_size=64, seed=0)
    for _ in train(network, optimizer, batches, ITERATIONS, F.cross_entropy):
        pass
    return nn.Sequential(*layers, nn.Softmax(1))


def attributions(model: nn.Module, images: Any, digits: Any) -> dict[str, Any]:
    """Return what each pixel contributed to the digit's probability, by method."""
    leaf = ag.tensor(images, requires_grad=True)
    selected = ag.take_along_axis(model(leaf), digits[:, np.newaxis], 1)
    (gradient,) = ag.grad(selected.sum(), leaf)
    return {
        "factorized": ag.attribute(model, images, target=digits),
        "gradient times input": gradient.data * images,
    }


def changes(model: nn.Module, images: Any, digits: Any) -> Any:
    """Return by how much the digit's probability differs from that for a blank image."""
    with ag.no_grad():
        pair = [model(x).data[np.arange(len(x)), digits] for x in (images, np.zeros_like(images))]
    return pair[0] - pair[1]


def picture(images: Any, found: dict[str, Any]) -> Any:
    """Return an RGBA image: a row of the images, and one for each method, with a column for each.

    Pixels for the digit are red, pixels against it blue; the largest of each picture is opaque, and
    what is 0 is transparent, so that the figure suits light and dark pages.
    """
    rows = [np.abs(images), *found.values()]
    cells = []
    for row, pixels in enumerate(rows):
        line = []
        for cell in pixels[:, 0]:
            colour = (
                np.where(cell[..., np.newaxis] < 0, BLUE, RED)
                if row
                else np.full((*cell.shape, 3), INK)
            )
            alpha = 255 * np.abs(cell) / (np.abs(cell).max() or 1)
            line.append(np.concatenate([colour, alpha[..., np.newaxis]], axis=2))
        cells.append(np.concatenate(line, axis=1))
    whole = np.concatenate(cells, axis=0).round().astype(np.uint8)
    return whole.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def main() -> None:
    """Train, and write the figure and the numbers."""
    images, labels = ag.data.mnist("train")
    tests, digits = ag.data.mnist("test")
    tests, digits = tests[:TESTS, np.newaxis], digits[:TESTS]
    model = trained(images[:IMAGES, np.newaxis], labels[:IMAGES])
    with ag.no_grad():
        right = model(tests).data.argmax(1) == digits
    found, change = attributions(model, tests, digits), changes(model, tests, digits)
    numbers = {"accuracy": float(right.mean()), "mean change": float(np.abs(change).mean())}
    for name, pixels in found.items():
        missed = np.abs(pixels.sum((1, 2, 3)) - change)
        numbers[name] = {"mean gap": float(missed.mean()), "largest gap": float(missed.max())}
    print(json.dumps(numbers, indent=1))
    shown = [int(np.flatnonzero((digits == digit) & right)[0]) for digit in range(10)]
    integrated = ag.attribute(model, tests[shown], target=digits[shown], method="integrated")
    rows = {"integrated": integrated} | {name: pixels[shown] for name, pixels in found.items()}
    figure = picture(tests[shown], rows)
    imsave(FOLDER / "mnist.png", figure)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
