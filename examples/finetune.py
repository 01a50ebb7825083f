"""Fine-tune a network on new classes: a frozen layer, and parameter groups with their own rates.

python examples/finetune.py
python examples/finetune.py --epochs 2

A convolutional network learns the digits 0 to 4. It then learns the digits 5 to 9: the convolution
stays unchanged, the hidden layer trains on with a smaller learning rate, and a new last layer
learns with the full one.
"""

import argparse

import agrad as ag
from agrad import nn, optim
from agrad.data import digits
from agrad.train import evaluate, fit

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=20, help="epochs on each half of the digits")
parser.add_argument("--seed", type=int, default=0, help="seed of the weights and batches")
options = parser.parse_args()


def examples_of(split, classes):
    """Return the images (N, 1, 8, 8) of consecutive classes, and their labels from 0."""
    images, labels = digits(split)
    chosen = (labels >= classes[0]) & (labels <= classes[-1])
    return images[chosen, None], labels[chosen] - classes[0]


def train_on(classes, model, parameters):
    """Train the parameters on some classes, and print the accuracy on the test images."""
    base = optim.Adam(parameters, lr=1e-4, cautious=True)
    optimizer = optim.AverageGradient(base, lr="auto")
    fit(model, optimizer, examples_of("train", classes), epochs=options.epochs, batch_size=64)
    test = evaluate(model, *examples_of("test", classes))
    print(f"digits {classes[0]} to {classes[-1]}: test accuracy {test.accuracy:.1%}")


ag.seed(options.seed)
convolution = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
)
hidden = nn.Sequential(nn.Linear(16 * 4 * 4, 64), nn.ReLU())
model = nn.Sequential(convolution, hidden, nn.Linear(64, 5))
train_on(range(5), model, model.parameters())

# The new model shares all layers with the old one but the last.
last = nn.Linear(64, 5)
model = nn.Sequential(convolution, hidden, last)
convolution.requires_grad_(False)
print(ag.summary(model, examples_of("test", range(5, 10))[0][:1]))
before = convolution.state_dict()

# The automatic rate changes both rates in proportion.
groups = [
    {"params": hidden.parameters(), "lr": 3e-5},
    {"params": last.parameters(), "lr": 1e-4},
]
train_on(range(5, 10), model, groups)
unchanged = all((before[name] == array).all() for name, array in convolution.state_dict().items())
print(f"the convolution is {'unchanged' if unchanged else 'changed'}")
