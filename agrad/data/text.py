"""From text to arrays of ids: tokenizing, numbering words and padding."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agrad.arguments import integer

__all__ = ["Vocabulary", "pad_sequences", "tokenize"]

Keep = Literal["start", "end"]

_LINE_BREAK = "<br />"
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def tokenize(text: str) -> list[str]:
    """Return the words of a text in lower case.

    A word is a run of letters and digits of any alphabet, with apostrophes allowed inside. All
    other characters, and HTML's line break `<br />`, only separate words. Composed and decomposed
    characters give the same words. Languages that write no spaces between words, or that write
    vowels as marks, need another tokenizer; a `Vocabulary` takes tokens from any.

    Raises:
        TypeError: `text` is not a string.

    Example:
        >>> from agrad.data import tokenize
        >>> tokenize("It wasn't bad:<br />'8/10', I'd say!")
        ['it', "wasn't", 'bad', '8', '10', "i'd", 'say']
    """
    if not isinstance(text, str):
        raise TypeError(f"tokenize: text must be a str, got {type(text).__name__}")
    text = unicodedata.normalize("NFC", text.lower())
    return _WORD.findall(text.replace(_LINE_BREAK, " ").replace("’", "'"))


class Vocabulary:
    """Words and their ids: 0 for padding, 1 for any unknown word, and 2, 3, ... for `words`.

    Padding and unknown words are read and written as "<pad>" and "<unk>". To save a vocabulary,
    pass `words` to `agrad.save`; `Vocabulary(words)` restores it.

    Args:
        words: The known words, in the order of their ids.

    Raises:
        TypeError: `words` is a string, or an entry is not a string.
        ValueError: A word occurs twice, or is "<pad>" or "<unk>".

    Example:
        >>> from agrad.data import Vocabulary, tokenize
        >>> vocabulary = Vocabulary.build(map(tokenize, ["good, really good", "really bad"]))
        >>> vocabulary.words
        ['good', 'really', 'bad']
        >>> vocabulary.encode(tokenize("Really bad acting"))
        array([3, 4, 1], dtype=int32)
        >>> vocabulary.decode([3, 4, 1, 0])
        ['really', 'bad', '<unk>', '<pad>']
    """

    padding_id = 0
    unknown_id = 1
    _SPECIAL = ("<pad>", "<unk>")

    def __init__(self, words: Iterable[str]) -> None:
        self._words = [*self._SPECIAL, *_strings("Vocabulary", "words", words)]
        self._ids = {word: i for i, word in enumerate(self._words)}
        if len(self._ids) < len(self._words):
            twice, _ = Counter(self._words).most_common(1)[0]
            raise ValueError(
                f"Vocabulary: the word {twice!r} occurs twice ({' and '.join(self._SPECIAL)} are "
                "always included)"
            )

    @classmethod
    def build(
        cls, documents: Iterable[Iterable[str]], max_size: int | None = None, min_count: int = 1
    ) -> "Vocabulary":
        """Return the vocabulary of the most frequent words, most frequent first.

        Equally frequent words are sorted alphabetically, so the order of the documents has no
        effect.

        Args:
            documents: The tokens of each document.
            max_size: The largest `len` of the vocabulary, padding and unknown words included.
            min_count: How often a word must occur to be included.

        Raises:
            TypeError: A document is a string rather than a sequence of tokens, a token is not a
                string, or `max_size` is not an integer.
            ValueError: `max_size` is below 2.

        Example:
            >>> from agrad.data import Vocabulary
            >>> Vocabulary.build([["a", "film"], ["the", "film"]], max_size=4).words
            ['film', 'a']
        """
        counts: Counter[str] = Counter()
        for document in documents:
            counts.update(_strings("Vocabulary.build", "a document", document))
        return cls.from_counts(counts, max_size, min_count)

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], max_size: int | None = None, min_count: int = 1
    ) -> "Vocabulary":
        """Return the vocabulary of words with known counts; see `build`.

        Args:
            counts: How often each word occurs.
            max_size: The largest `len` of the vocabulary, padding and unknown words included.
            min_count: How often a word must occur to be included.

        Raises:
            TypeError: A word is not a string, or `max_size` is not an integer.
            ValueError: `max_size` is below 2.

        Example:
            >>> from agrad.data import Vocabulary
            >>> Vocabulary.from_counts({"a": 1, "film": 3, "the": 9}, min_count=2).words
            ['the', 'film']
        """
        if max_size is not None:
            max_size = integer("Vocabulary", "max_size", max_size, least=len(cls._SPECIAL))
        known = [word for word, count in counts.items() if count >= min_count]
        known = [word for word in known if word not in cls._SPECIAL]
        known.sort(key=lambda word: (-counts[word], word))
        return cls(known if max_size is None else known[: max_size - len(cls._SPECIAL)])

    @property
    def words(self) -> list[str]:
        """The known words, in the order of their ids, which start at 2."""
        return self._words[len(self._SPECIAL) :]

    def __len__(self) -> int:
        """Return the number of ids, the `num_embeddings` of an `Embedding`."""
        return len(self._words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._words == other._words

    def __hash__(self) -> int:
        return hash(tuple(self._words))

    def __repr__(self) -> str:
        return f"<Vocabulary of {len(self)}>"

    def encode(self, tokens: Iterable[str]) -> NDArray[np.int32]:
        """Return the ids of N tokens, int32 of shape (N,).

        Raises:
            TypeError: `tokens` is a string rather than a sequence of tokens, or a token is not a
                string.
        """
        tokens = _strings("Vocabulary.encode", "tokens", tokens)
        return np.array([self._ids.get(token, self.unknown_id) for token in tokens], np.int32)

    def decode(self, ids: ArrayLike) -> list[str]:
        """Return the words of ids of shape (N,).

        Raises:
            TypeError: The ids are not integers.
            ValueError: An id is outside the vocabulary, or `ids` does not have exactly one axis.
        """
        ids = np.asarray(ids)
        if ids.dtype.kind not in "iu" and ids.size:
            raise TypeError(f"Vocabulary.decode: ids must be integers, got {ids.dtype}")
        if ids.ndim != 1:
            raise ValueError(
                f"Vocabulary.decode: ids must have one axis, got shape {ids.shape}; "
                "decode one document at a time"
            )
        wrong = ids[(ids < 0) | (ids >= len(self))]
        if wrong.size:
            raise ValueError(
                f"Vocabulary.decode: the id {wrong[0]} is outside 0 to {len(self) - 1}"
            )
        return [self._words[i] for i in ids]


_INT32 = np.iinfo(np.int32)


def pad_sequences(
    sequences: Iterable[ArrayLike],
    length: int | None = None,
    padding_id: int = Vocabulary.padding_id,
    keep: Keep = "start",
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return sequences of ids as rows of one array, padded at the end or cut, and a mask.

    Args:
        sequences: The ids of each of N sequences.
        length: The length of a row; by default that of the longest sequence.
        padding_id: The id that fills up a row.
        keep: Which part of a longer sequence to keep, its "start" or its "end".

    Returns:
        The ids, int32 of shape (N, length), and the mask, bool of the same shape, which is true
        for the ids of a sequence and false for padding.

    Raises:
        TypeError: A sequence does not hold integers, or `length` or `padding_id` is none.
        ValueError: A sequence does not have exactly one axis, or an id that int32 cannot hold;
            `length` is negative; `keep` is neither "start" nor "end".

    Example:
        >>> from agrad.data import pad_sequences
        >>> ids, mask = pad_sequences([[5, 6, 7, 8], [9]], length=3)
        >>> ids
        array([[5, 6, 7],
               [9, 0, 0]], dtype=int32)
        >>> mask.sum(axis=1)
        array([3, 1])
    """
    if keep not in ("start", "end"):
        raise ValueError(f'pad_sequences: keep must be "start" or "end", got {keep!r}')
    rows = [_row(i, sequence) for i, sequence in enumerate(sequences)]
    if length is None:
        length = max(map(len, rows), default=0)
    length = integer("pad_sequences", "length", length, least=0)
    padding_id = integer("pad_sequences", "padding_id", padding_id, least=_INT32.min)
    ids = np.full((len(rows), length), padding_id, np.int32)
    mask = np.zeros(ids.shape, bool)
    for i, row in enumerate(rows):
        row = row[:length] if keep == "start" else row[max(0, len(row) - length) :]
        ids[i, : len(row)] = row
        mask[i, : len(row)] = True
    return ids, mask


def _row(i: int, sequence: ArrayLike) -> NDArray[Any]:
    row = np.asarray(sequence)
    if row.ndim != 1:
        raise ValueError(
            f"pad_sequences: sequence {i} must have one axis, got shape {row.shape}; "
            "pass a list of sequences"
        )
    if row.dtype.kind not in "iu" and row.size:
        raise TypeError(f"pad_sequences: sequence {i} must hold integer ids, got {row.dtype}")
    if row.size and not _INT32.min <= row.min() <= row.max() <= _INT32.max:
        raise ValueError(f"pad_sequences: sequence {i} has an id that int32 cannot hold")
    return row


def _strings(operation: str, argument: str, tokens: Iterable[str]) -> Sequence[str]:
    if isinstance(tokens, str):
        raise TypeError(
            f"{operation}: {argument} must be a sequence of tokens, got one str; split it first, "
            "for example with agrad.data.tokenize"
        )
    tokens = list(tokens)
    for token in tokens:
        if not isinstance(token, str):
            raise TypeError(
                f"{operation}: {argument} must hold strings, got the {type(token).__name__} "
                f"{token!r}"
            )
    return tokens
