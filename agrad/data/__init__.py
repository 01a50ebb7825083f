"""Data sets as pairs of arrays, text as ids, and seeded batches that can be resumed."""

from agrad.data.batches import Batches
from agrad.data.datasets import digits, fashion_mnist, mnist
from agrad.data.movie_reviews import imdb, imdb_vocabulary
from agrad.data.text import Vocabulary, pad_sequences, tokenize

__all__ = [
    "Batches",
    "Vocabulary",
    "digits",
    "fashion_mnist",
    "imdb",
    "imdb_vocabulary",
    "mnist",
    "pad_sequences",
    "tokenize",
]
