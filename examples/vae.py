"""Learn to draw digits with a variational autoencoder.

python examples/vae.py
python examples/vae.py --epochs 10

An encoder turns an image x into the mean and the variance of a normal distribution of a code z; a
decoder turns a code, drawn from it, into an image. The loss bounds the negative log-likelihood of
the images from above (Kingma and Welling, "Auto-Encoding Variational Bayes", 2014). It is the sum
of what the image costs, given its code, and of the divergence of the code's distribution from the
standard normal one. Finally the decoder draws digits from random codes.
"""

import argparse

import numpy as np

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.data import digits
from agrad.train import evaluate, fit

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=100, help="passes over the digits")
parser.add_argument("--code", type=int, default=8, help="numbers in a code")
parser.add_argument("--seed", type=int, default=0, help="seed of the weights, batches and codes")
options = parser.parse_args()


class VAE(nn.Module):
    def __init__(self, pixels, code, hidden=128):
        self.code = code
        self.encoder = nn.Sequential(
            nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, 2 * code)
        )
        self.decoder = nn.Sequential(nn.Linear(code, hidden), nn.ReLU(), nn.Linear(hidden, pixels))

    def forward(self, x):
        """Return the logits of the pixels, and the mean and the log variance of the code."""
        mean, log_variance = ag.split(self.encoder(x), 2, axis=1)
        z = mean + ag.exp(log_variance / 2) * ag.randn_like(mean)
        return self.decoder(z), mean, log_variance

    def draw(self, count):
        """Return images of random codes, (count, pixels)."""
        return F.sigmoid(self.decoder(ag.randn(count, self.code)))


def negative_elbo(output, images):
    """Return the bound of an image's negative log-likelihood, the mean over the batch."""
    logits, mean, log_variance = output
    pixels = F.binary_cross_entropy_with_logits(logits, images, reduction="sum")
    divergence = 0.5 * (mean**2 + ag.exp(log_variance) - 1 - log_variance).sum()
    return (pixels + divergence) / len(images)


ag.seed(options.seed)
train, test = (digits(split)[0].reshape(-1, 64) for split in ("train", "test"))
model = VAE(pixels=64, code=options.code)
optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=1e-4, cautious=True), lr="auto")
# The images are inputs and targets. A captured step would not draw new codes: capture=False.
fit(
    model,
    optimizer,
    (train, train),
    loss=negative_elbo,
    epochs=options.epochs,
    batch_size=128,
    capture=False,
)
found = evaluate(model, test, test, loss_function=negative_elbo)
print(f"test: negative log-likelihood at most {found.loss:.2f} nats for an image")

with ag.no_grad():
    drawn = model.draw(6).numpy().reshape(6, 8, 8)
shades = np.array(list(" .:-=+*#%@"))
for row in range(8):
    levels = (drawn[:, row] * 9.99).astype(int)
    print("   ".join("".join(shades[line].repeat(2)) for line in levels))
