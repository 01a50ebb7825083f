"""Write text, one character after another, with a transformer.

python examples/char_transformer.py
python examples/char_transformer.py --steps 100 --text README.md

A causal transformer learns to predict each character of a text from those before it; without
--text, the text is agrad's user's guide. The last tenth of the text is held out. The loss on it is
compared with that of a guess that knows how frequent each character is, but not what came before.
Finally the network continues a line.
"""

import argparse
from pathlib import Path

import numpy as np

import agrad as ag
import agrad.nn.functional as F
from agrad import nn, optim
from agrad.data import Batches
from agrad.train import evaluate, train

GUIDE = Path(__file__).parents[1] / "docs" / "guide.md"

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--text", type=Path, default=GUIDE, help="a text file in UTF-8")
parser.add_argument("--steps", type=int, default=400, help="steps of training")
parser.add_argument("--length", type=int, default=32, help="characters that the network sees")
parser.add_argument("--seed", type=int, default=0, help="seed of the weights and batches")
options = parser.parse_args()


class CharacterTransformer(nn.Module):
    def __init__(self, characters, length, width=64, heads=4, layers=2):
        self.embedding = nn.Embedding(characters, width)
        self.positions = nn.PositionalEncoding(width, max_len=length, batch_first=True)
        layer = nn.TransformerEncoderLayer(
            width, heads, dim_feedforward=4 * width, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width))
        self.head = nn.Linear(width, characters)

    def forward(self, ids):
        """Return the logits of the next characters, (N, characters, L), for ids (N, L)."""
        x = self.positions(self.embedding(ids))
        x = self.encoder(x, is_causal=True)
        return self.head(x).swapaxes(1, 2)


def windows(ids, stride):
    """Return parts of the text as inputs, and the same one character later as targets."""
    parts = np.lib.stride_tricks.sliding_window_view(ids, options.length + 1)[::stride]
    return parts[:, :-1], parts[:, 1:]


def continuation(model, ids, count):
    """Return the ids, and `count` more that are drawn one after another."""
    ids = list(ids)
    with ag.no_grad():
        for _ in range(count):
            logits = model(np.array([ids[-options.length :]]))[0, :, -1]
            chances = F.softmax(logits.astype("float64"), dim=0).numpy()
            ids.append(ag.random.generator().choice(len(chances), p=chances))
    return ids


ag.seed(options.seed)
text = options.text.read_text(encoding="utf-8")
characters = sorted(set(text))
ids = np.array([characters.index(character) for character in text])
split = len(ids) * 9 // 10
batches = Batches(*windows(ids[:split], stride=8), batch_size=32)
held_out = windows(ids[split:], stride=options.length)

model = CharacterTransformer(len(characters), options.length)
optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=1e-4, cautious=True), lr="auto")
for step in train(model, optimizer, batches, iterations=options.steps, capture=True):
    if step.iteration % max(1, options.steps // 10) == 0:
        print(f"step {step.iteration:5}  learning rate {step.rate:.1e}  loss {step.loss:.3f}")

counts = np.bincount(ids[:split], minlength=len(characters)) + 1
guess = -np.log(counts / counts.sum())[held_out[1]].mean()
found = evaluate(model, *held_out, batch_size=64)
print(f"held out: loss {found.loss:.3f}, that of a guess {guess:.3f}")
model.eval()
start = [characters.index(character) for character in text[:20]]
print("".join(characters[i] for i in continuation(model, start, 200)))
