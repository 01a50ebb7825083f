"""The Large Movie Review Dataset: film reviews as word ids, labelled positive or negative."""

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

from agrad.arguments import integer
from agrad.data.archive import read_members
from agrad.data.arguments import check_split
from agrad.data.datasets import Split
from agrad.data.download import corrupt, fetch, user_cache
from agrad.data.text import Keep, Vocabulary, pad_sequences, tokenize
from agrad.errors import CorruptDataError
from agrad.serialization import load, save

__all__ = ["imdb", "imdb_vocabulary"]

_MEMBER = re.compile(r"aclImdb/(train|test)/(neg|pos)/([0-9]+)_[0-9]+\.txt")
# The longest review has 14 kB. The archive also holds as many unlabelled reviews, and tables of
# their words.
_MAX_REVIEW = 1 << 16
_MAX_ARCHIVE = 1 << 30
# Part of the cache file's name; raise it when `tokenize` or the layout changes.
_CACHE_VERSION = 1


def imdb(
    split: Split = "train", vocabulary_size: int = 5000, length: int = 200, keep: Keep = "start"
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the IMDb reviews: the ids of their words, and labels of positive or negative.

    The first call downloads the archive (84 MB) into the folder that `mnist` uses, and splits the
    reviews into words. The words are cached next to the archive, or in the user's cache folder if
    that folder cannot be written. Later calls read the cache, whatever their arguments.

    Args:
        split: "train" or "test".
        vocabulary_size: The number of ids. Id 0 is padding and id 1 any unknown word; the others
            are the most frequent words of the training split, see `imdb_vocabulary`.
        length: The number of ids per review; shorter reviews are padded, longer ones cut.
        keep: Which part of a longer review to keep, its "start" or its "end".

    Returns:
        Ids, int32 of shape (25000, length), and labels, int64 of shape (25000,). Label 0 stands for
        1 to 4 stars of 10, label 1 for 7 to 10 stars; reviews with label 0 come first. The mask of
        `pad_sequences` is `ids != 0`.

    Raises:
        ValueError: `split` is neither "train" nor "test", `vocabulary_size` is below 2, `length` is
            below 1, or `keep` is neither "start" nor "end".
        TypeError: `vocabulary_size` or `length` is not an integer.
        CorruptDataError: The archive is damaged, unsafe or incomplete, or a review is not UTF-8.
        OSError: The archive is missing and cannot be downloaded or written.
        ImportError: The archive is missing and pooch or rich is not installed.

    Source: A. Maas et al., "Learning Word Vectors for Sentiment Analysis", ACL 2011.
    """
    check_split(split)
    size = integer("imdb", "vocabulary_size", vocabulary_size, least=2)
    length = integer("imdb", "length", length, least=1)
    return _IMDB.load(split, size, length, keep)


def imdb_vocabulary(size: int = 5000) -> Vocabulary:
    """Return the vocabulary of `imdb`: the most frequent words of the training split.

    The first call downloads and caches the data as for `imdb`, and raises the same errors.

    Args:
        size: The `len` of the vocabulary, padding and unknown words included.
    """
    size = integer("imdb_vocabulary", "size", size, least=2)
    return _vocabulary(_IMDB.corpus(), size)


@dataclass(frozen=True)
class _Reviews:
    """The published archive, or one in the same format with a different number of reviews."""

    mirrors: tuple[str, ...] = ("https://ai.stanford.edu/~amaas/data/sentiment/",)
    md5: str = "7c2ac02c03563afcf9b574c7e56c153a"
    each: int = 12_500
    """The number of reviews per label in each split."""

    def load(
        self, split: str, vocabulary_size: int, length: int, keep: Keep
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the padded ids of the split's reviews, and their labels."""
        corpus = self.corpus()
        ids_of_words = _vocabulary(corpus, vocabulary_size).encode(corpus["words"])
        ends = np.cumsum(corpus[split]["lengths"])
        reviews = np.split(ids_of_words[corpus[split]["numbers"]], ends[:-1])
        ids, _ = pad_sequences(reviews, length, keep=keep)
        return ids, np.repeat(np.arange(2), self.each)

    def corpus(self) -> dict[str, Any]:
        """Return the result of `read` for the archive, after the first call from the cache."""
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
                f"imdb: the words cannot be cached ({error}); the next call will be as slow",
                stacklevel=4,
            )
        return corpus

    def read_cache(self, path: Path) -> dict[str, Any]:
        """Load a saved result of `read` and validate it.

        Raises:
            CorruptDataError: The content is not such a result. Numbers out of range would index
                and allocate at random.
            FileNotFoundError: The file does not exist.
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
            raise corrupt(path, "it does not hold the words of all reviews")
        return corpus

    def read(self, archive: Path) -> dict[str, Any]:
        """Split the reviews of an archive into words.

        Returns:
            A dict with the list "words", where a word's position is its number, and for each of
            "train" and "test" a dict with the "numbers" of the words of all reviews, concatenated,
            and the "lengths" of the reviews. Negative reviews come first; within a label, reviews
            are in the order of their ids.
        """
        # A new word gets the next number.
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
                raise corrupt(archive, f"{member[0]!r} is not UTF-8 text ({error})") from error
            if int(review) in reviews[split, label]:
                raise corrupt(archive, f"{member[0]!r} occurs twice, or its id does")
            found = np.fromiter(map(numbers.__getitem__, words), np.int32, len(words))
            reviews[split, label][int(review)] = found
        for (split, label), folder in reviews.items():
            if len(folder) != self.each:
                where = f"aclImdb/{split}/{label}"
                raise corrupt(archive, f"{where} has {len(folder)} reviews, not {self.each}")
        return {"words": list(numbers)} | {
            split: _split_of(reviews[split, "neg"], reviews[split, "pos"])
            for split in ("train", "test")
        }


_IMDB = _Reviews()


def _vocabulary(corpus: dict[str, Any], size: int) -> Vocabulary:
    counts = np.bincount(corpus["train"]["numbers"], minlength=len(corpus["words"]))
    return Vocabulary.from_counts(dict(zip(corpus["words"], counts.tolist())), size)


def _is_split(split: Any, words: int, reviews: int) -> bool:
    """Whether `split` is what `_split_of` returns for `reviews` reviews and `words` words."""
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


def _split_of(*folders: dict[int, NDArray[np.int32]]) -> dict[str, NDArray[np.int32]]:
    reviews = [folder[review] for folder in folders for review in sorted(folder)]
    return {
        "numbers": np.concatenate(reviews),
        "lengths": np.array([len(review) for review in reviews], np.int32),
    }


def _cache_of(archive: Path) -> Path:
    """Return the path of the cache file; its name depends on the archive's content."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    folder = archive.parent
    # Root can write even into a read-only folder.
    if not (os.access(folder, os.W_OK) and folder.stat().st_mode & 0o222):
        folder = user_cache() / "imdb"
    return folder / f"words-{_CACHE_VERSION}-{digest}.safetensors"
