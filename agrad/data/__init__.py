"""Data sets as pairs of arrays, and batches of them in a seeded order that can be resumed."""

from agrad.data.batches import Batches
from agrad.data.datasets import digits, fashion_mnist, mnist

__all__ = ["Batches", "digits", "fashion_mnist", "mnist"]
