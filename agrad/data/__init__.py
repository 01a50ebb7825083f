"""Data sets, text as ids, the user's own files, augmentations, and batches that can be resumed."""

from agrad.data.batches import Batches
from agrad.data.datasets import digits, fashion_mnist, mnist
from agrad.data.movie_reviews import imdb, imdb_vocabulary
from agrad.data.prefetch import Prefetch
from agrad.data.subset import Dataset, Subset, collate, collate_sequences, random_split
from agrad.data.table import TableEncoder, read_images, read_npz, read_table, read_texts
from agrad.data.text import Vocabulary, pad_sequences, tokenize
from agrad.data.transforms import (
    Compose,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
    RandomShift,
    RandomVerticalFlip,
)

__all__ = [
    "Batches",
    "Compose",
    "Dataset",
    "Normalize",
    "Prefetch",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomShift",
    "RandomVerticalFlip",
    "Subset",
    "TableEncoder",
    "Vocabulary",
    "collate",
    "collate_sequences",
    "digits",
    "fashion_mnist",
    "imdb",
    "imdb_vocabulary",
    "mnist",
    "pad_sequences",
    "random_split",
    "read_images",
    "read_npz",
    "read_table",
    "read_texts",
    "tokenize",
]
