"""The Large Movie Review Dataset: reviews of films as word ids, and whether they praise."""

import hashlib
import os
import re
import warnings
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agrad.data.archive import read_members
from agrad.data.arguments import check_split, integer
from agrad.data.datasets import Split
from agrad.data.download import corrupt, fetch, user_cache
from agrad.data.text import Keep, Vocabulary, pad_sequences, tokenize
from agrad.errors import CorruptDataError
from agrad.serialization import load, save

__all__ = ["imdb", "imdb_vocabulary"]

_MEMBER = re.compile(r"aclImdb/(train|test)/(neg|pos)/([0-9]+)_[0-9]+\.txt")
# The longest review has 14 kB; the rest of what is published are as many reviews without a label,
# and tables of their words.
_MAX_REVIEW = 1 << 16
_MAX_ARCHIVE = 1 << 30
# Part of the name of what is cached: to be raised when `tokenize` or the layout changes.
_CACHE_VERSION = 1


def imdb(
    split: Split = "train", vocabulary_size: int = 5000, length: int = 200, keep: Keep = "start"
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the IMDb reviews: the ids of their words, and whether they are favourable.

    The first call downloads the archive, 84 MB, to where `mnist` keeps its files, and splits it
    into words, which are cached beside it, or in the user's cache folder where it cannot be
    written. Any later call reads the cache, whatever its arguments.

    Args:
        split: "train" or "test".
        vocabulary_size: The number of ids: 0 is padding, 1 any word but the most frequent ones of
            the training split, which have the others; see `imdb_vocabulary`.
        length: What reviews are cut or padded to.
        keep: Which part of a longer review stays, its "start" or its "end".

    Returns:
        Ids, int32 of shape (25000, length), and labels, int64 of shape (25000,): 0 for the reviews
        with 1 to 4 stars of 10, which come first, and 1 for those with 7 to 10. The mask that
        `pad_sequences` gives is `ids != 0`.

    Raises:
        ValueError: `split` is neither "train" nor "test"; a vocabulary_size below 2, a length below
            1, or another `keep`.
        TypeError: A vocabulary_size or length that is not an integer.
        CorruptDataError: The archive is damaged, unsafe, or lacks reviews, or a review is no UTF-8.
        OSError: The archive is missing and cannot be downloaded or written.
        ImportError: The archive is missing and so is pooch or rich.

    Source: A. Maas et al., "Learning Word Vectors for Sentiment Analysis", ACL 2011.
    """
    check_split(split)
    size = integer("imdb", "vocabulary_size", vocabulary_size, least=2)
    length = integer("imdb", "length", length, least=1)
    return _IMDB.load(split, size, length, keep)


def imdb_vocabulary(size: int = 5000) -> Vocabulary:
    """Return the vocabulary of `imdb`: the most frequent words of the training split.

    Everything else is as for `imdb`.
    """
    size = integer("imdb_vocabulary", "size", size, least=2)
    return _vocabulary(_IMDB.corpus(), size)


@dataclass(frozen=True)
class _Reviews:
    """The published archive, or one like it with another number of reviews."""

    mirrors: tuple[str, ...] = ("https://ai.stanford.edu/~amaas/data/sentiment/",)
    md5: str = "7c2ac02c03563afcf9b574c7e56c153a"
    each: int = 12_500
    """The number of reviews of a label in a split."""

    def load(
        self, split: str, vocabulary_size: int, length: int, keep: Keep
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids of the split's reviews, cut or padded, and their labels."""
        corpus = self.corpus()
        ids_of_words = _vocabulary(corpus, vocabulary_size).encode(corpus["words"])
        ends = np.cumsum(corpus[split]["lengths"])
        reviews = np.split(ids_of_words[corpus[split]["numbers"]], ends[:-1])
        ids, _ = pad_sequences(reviews, length, keep=keep)
        return ids, np.repeat(np.arange(2), self.each)

    def corpus(self) -> dict[str, Any]:
        """Return what `read` returns for the archive, from the cache after the first call."""
        archive = fetch("imdb/aclImdb_v1.tar.gz", self.md5, self.mirrors)
        cache = _cache_of(archive)
        with suppress(FileNotFoundError, CorruptDataError):
            return self.read_cache(cache)
        corpus = self.read(archive)
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            save(cache, corpus)
        except OSError as error:
            warnings.warn(
                f"imdb: the words cannot be cached ({error}); the next call will take as long",
                stacklevel=4,
            )
        return corpus

    def read_cache(self, path: Path) -> dict[str, Any]:
        """Return what `read` returned when it was saved, once it is sure to be such.

        Raises:
            CorruptDataError: It is not: numbers that name no word would index, and allocate, at
                random.
            FileNotFoundError: There is no such file.
        """
        corpus = load(path)
        splits = [corpus.get(split) for split in ("train", "test")]
        if not (
            corpus.keys() == {"words", "train", "test"}
            and isinstance(words := corpus["words"], list)
            and all(isinstance(word, str) for word in words)
            and len(set(words)) == len(words)
            and all(_is_split(split, len(words), 2 * self.each) for split in splits)
        ):
            raise corrupt(path, "it does not hold the words of so many reviews")
        return corpus

    def read(self, archive: Path) -> dict[str, Any]:
        """Split an archive's reviews into words.

        Returns:
            All "words", a list whose positions are their numbers; and for "train" and "test" the
            "numbers" of the words of all reviews, one after the other, and the reviews' "lengths".
            Unfavourable reviews come first, each kind in the order of the reviews' ids.
        """
        # A word that is new gets the next number.
        numbers: defaultdict[str, int] = defaultdict()
        numbers.default_factory = numbers.__len__
        reviews: dict[tuple[str, str], dict[int, NDArray[np.int32]]] = {
            (split, label): {} for split in ("train", "test") for label in ("neg", "pos")
        }
        for member, content in read_members(archive, _MEMBER, _MAX_REVIEW, _MAX_ARCHIVE):
            split, label, review = member.groups()
            try:
                words = tokenize(content.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise corrupt(archive, f"{member[0]!r} is no UTF-8 text ({error})") from error
            if int(review) in reviews[split, label]:
                raise corrupt(archive, f"{member[0]!r} is there twice, or another of its id")
            found = np.fromiter(map(numbers.__getitem__, words), np.int32, len(words))
            reviews[split, label][int(review)] = found
        for (split, label), folder in reviews.items():
            if len(folder) != self.each:
                where = f"aclImdb/{split}/{label}"
                raise corrupt(archive, f"{where} has {len(folder)} reviews, not {self.each}")
        return {"words": list(numbers)} | {
            split: _joined(reviews[split, "neg"], reviews[split, "pos"])
            for split in ("train", "test")
        }


_IMDB = _Reviews()


def _vocabulary(corpus: dict[str, Any], size: int) -> Vocabulary:
    counts = np.bincount(corpus["train"]["numbers"], minlength=len(corpus["words"]))
    return Vocabulary.from_counts(dict(zip(corpus["words"], counts.tolist())), size)


def _is_split(split: Any, words: int, reviews: int) -> bool:
    """Whether it is what `_joined` returns for so many reviews of words numbered below `words`."""
    if not isinstance(split, dict) or split.keys() != {"numbers", "lengths"}:
        return False
    numbers, lengths = split["numbers"], split["lengths"]
    return (
        all(isinstance(array, np.ndarray) for array in (numbers, lengths))
        and (numbers.dtype, lengths.dtype) == (np.int32, np.int32)
        and (numbers.ndim, lengths.shape) == (1, (reviews,))
        and bool(np.all((numbers >= 0) & (numbers < words)) and np.all(lengths >= 0))
        and int(lengths.sum(dtype=np.int64)) == numbers.size
    )


def _joined(*folders: dict[int, NDArray[np.int32]]) -> dict[str, NDArray[np.int32]]:
    reviews = [folder[review] for folder in folders for review in sorted(folder)]
    return {
        "numbers": np.concatenate(reviews),
        "lengths": np.array([len(review) for review in reviews], np.int32),
    }


def _cache_of(archive: Path) -> Path:
    """Return the path of the words of an archive of this very content."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    folder = archive.parent
    # Root may write even into a folder that is for reading only.
    if not (os.access(folder, os.W_OK) and folder.stat().st_mode & 0o222):
        folder = user_cache() / "imdb"
    return folder / f"words-{_CACHE_VERSION}-{digest}.safetensors"
