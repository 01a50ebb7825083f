"""Tell positive film reviews from negative ones with an LSTM.

python examples/imdb_lstm.py
python examples/imdb_lstm.py --reviews 2000 --epochs 2

IMDb's reviews are sequences of different lengths, padded with zeros to be the rows of one array.
The LSTM gets their lengths, and returns its state after the last word of each. The reviews are read
from the folder that the environment variable AGRAD_DATA names. If it does not have them, 84 MB are
downloaded; if that fails, the error names the missing file.
"""

import argparse

import agrad as ag
from agrad import nn, optim
from agrad.data import imdb, random_split
from agrad.train import evaluate, fit

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--reviews", type=int, default=10000, help="number of reviews to learn from")
parser.add_argument("--words", type=int, default=100, help="words of a review that are read")
parser.add_argument("--epochs", type=int, default=4, help="passes over the reviews")
parser.add_argument("--seed", type=int, default=0, help="seed of the weights and batches")
options = parser.parse_args()

VOCABULARY, PADDING = 5000, 0


class ReviewClassifier(nn.Module):
    def __init__(self, width=32, hidden=64):
        self.embedding = nn.Embedding(VOCABULARY, width, padding_idx=PADDING)
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(hidden, 2)

    def forward(self, ids):
        """Return the logits of both classes, (N, 2), for ids (N, words)."""
        lengths = (ids != PADDING).sum(axis=1)
        _, (last, _) = self.lstm(self.embedding(ids), lengths=lengths)
        return self.head(self.dropout(last[-1]))


def reviews(split, count):
    """Return the word ids of some reviews, (count, words), and whether they are positive."""
    ids, labels = imdb(split, vocabulary_size=VOCABULARY, length=options.words, keep="end")
    chosen, _ = random_split((ids, labels), [count, len(ids) - count], seed=options.seed)
    return chosen


ag.seed(options.seed)
train, validation = random_split(reviews("train", options.reviews), [0.9, 0.1])
model = ReviewClassifier()
optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=1e-3, cautious=True), lr="auto")
fit(model, optimizer, train, validation=validation, epochs=options.epochs, batch_size=64)
test = evaluate(model, *reviews("test", options.reviews))
print(f"test loss {test.loss:.3f}, test accuracy {test.accuracy:.1%}")
