"""Train a convolutional network on images that are rotated and shifted at random.

python examples/cnn_augmentation.py
python examples/cnn_augmentation.py --data digits --epochs 3

Augmentation shows the network each image a little differently in every epoch. With few examples it
then learns what a digit looks like rather than these images. Here it learns from 1,000 images of
MNIST, once with augmentation and once without. MNIST is read from the folder that AGRAD_DATA names;
if it names none, scikit-learn's small digits take its place.
"""

import argparse
import os

import agrad as ag
from agrad import nn, optim
from agrad.data import Batches, Compose, RandomRotation, RandomShift, random_split
from agrad.train import evaluate, fit

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument(
    "--data",
    choices=["mnist", "digits"],
    default="mnist" if "AGRAD_DATA" in os.environ else "digits",
    help="the images",
)
parser.add_argument("--examples", type=int, default=1000, help="number of images to learn from")
parser.add_argument("--epochs", type=int, default=30, help="passes over these images")
parser.add_argument("--seed", type=int, default=0, help="seed of the weights and batches")
options = parser.parse_args()

load = getattr(ag.data, options.data)
(images, labels), (test_images, test_labels) = load("train"), load("test")
images, test_images = images[:, None], test_images[:, None]  # (N, 1, height, width)
rest = len(images) - options.examples
train, _ = random_split((images, labels), [options.examples, rest], seed=options.seed)
size = images.shape[-1]
# Images of 28 pixels can move further than those of 8.
augment = Compose([RandomRotation(15), RandomShift(size // 10)])


def network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(32 * (size // 4) ** 2, 10),
    )


for name, transform in [("without augmentation", None), ("with augmentation", augment)]:
    ag.seed(options.seed)
    model = network()
    base = optim.Adam(model.parameters(), lr=1e-4, cautious=True)
    optimizer = optim.AverageGradient(base, lr="auto")
    batches = Batches(*train, batch_size=50, transform=transform)
    fit(model, optimizer, batches, epochs=options.epochs)
    test = evaluate(model, test_images, test_labels)
    print(f"{name}: test loss {test.loss:.3f}, test accuracy {test.accuracy:.1%}")
