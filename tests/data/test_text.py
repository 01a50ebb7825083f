"""Words, vocabularies and padding."""

import string
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agrad as ag
from agrad.data import Vocabulary, pad_sequences, tokenize

few_letters = st.text(st.sampled_from("abc"), min_size=1, max_size=3)
documents = st.lists(st.lists(few_letters, max_size=12), max_size=8)
sequences = st.lists(st.lists(st.integers(1, 99), max_size=9).map(np.array), max_size=6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("...!?", []),
        ("The GOOD, the bad", ["the", "good", "the", "bad"]),
        ("end.<br /><br />Start<BR />again", ["end", "start", "again"]),
        ("isn't it? 'quoted' rock'n'roll'", ["isn't", "it", "quoted", "rock'n'roll"]),
        ("O''Neill's'", ["o", "neill's"]),
        ("it’s", ["it's"]),
        ("8/10 R2-D2 snake_case", ["8", "10", "r2", "d2", "snake", "case"]),
        ("Café Ærø Фильм", ["café", "ærø", "фильм"]),
        ("a < b > c <i>d</i>", ["a", "b", "c", "i", "d", "i"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


@given(st.text() | st.text(string.printable))
def test_words_are_made_of_the_texts_letters_and_digits(text: str) -> None:
    words = tokenize(text)
    assert all(words)
    assert all(c.isalnum() for word in words for c in word.replace("'", ""))
    kept = unicodedata.normalize("NFC", text.lower()).replace("<br />", "")
    assert "".join(words).replace("'", "") == "".join(filter(str.isalnum, kept))
    assert tokenize(" ".join(words)) == words


@given(st.text())
def test_composed_and_decomposed_letters_give_the_same_words(text: str) -> None:
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert tokenize(composed) == tokenize(decomposed)


# Vocabulary


@given(documents=documents, max_size=st.none() | st.integers(2, 12), min_count=st.integers(0, 3))
def test_a_vocabulary_holds_the_most_frequent_words(
    documents: list[list[str]], max_size: int | None, min_count: int
) -> None:
    vocabulary = Vocabulary.build(documents, max_size, min_count)
    flat = [word for document in documents for word in document]
    ranked = sorted(set(flat), key=lambda word: (-flat.count(word), word))
    ranked = [word for word in ranked if flat.count(word) >= min_count]
    assert vocabulary.words == ranked[: None if max_size is None else max_size - 2]
    assert len(vocabulary) == 2 + len(vocabulary.words)
    assert Vocabulary.build(reversed(documents), max_size, min_count) == vocabulary


@given(documents=documents, max_size=st.none() | st.integers(2, 12), others=st.lists(few_letters))
def test_encoding_and_decoding(
    documents: list[list[str]], max_size: int | None, others: list[str]
) -> None:
    vocabulary = Vocabulary.build(documents, max_size)
    for tokens in [*documents, others]:
        ids = vocabulary.encode(tokens)
        assert (ids.dtype, ids.shape) == (np.int32, (len(tokens),))
        known = [token if token in vocabulary else "<unk>" for token in tokens]
        assert vocabulary.decode(ids) == known
        assert [i == vocabulary.unknown_id for i in ids] == [token == "<unk>" for token in known]
        assert not (ids == vocabulary.padding_id).any()
    every = np.arange(len(vocabulary))
    np.testing.assert_array_equal(vocabulary.encode(vocabulary.decode(every)), every)


@given(words=st.lists(st.text(), unique=True).filter(lambda w: not {"<pad>", "<unk>"} & {*w}))
def test_a_vocabulary_is_its_words(tmp_path_factory: Any, words: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "vocabulary.safetensors"
    vocabulary = Vocabulary(words)
    try:
        ag.save(path, {"words": vocabulary.words})
    except UnicodeEncodeError:  # half of a surrogate pair is not text
        assert any(0xD800 <= ord(c) <= 0xDFFF for word in words for c in word)
        return
    restored = Vocabulary(ag.load(path)["words"])
    assert restored == vocabulary
    assert hash(restored) == hash(vocabulary)
    assert restored.decode(restored.encode(words)) == words


def test_tokens_written_like_padding_or_unknown_get_their_ids() -> None:
    vocabulary = Vocabulary.build([["<pad>", "<unk>", "<unk>", "a"]])
    assert vocabulary.words == ["a"]
    np.testing.assert_array_equal(vocabulary.encode(["<unk>", "a", "<pad>"]), [1, 2, 0])
    assert vocabulary != Vocabulary(["b"])
    assert vocabulary != ["a"]
    assert repr(vocabulary) == "<Vocabulary of 3>"


# Padding


@given(sequences=sequences, length=st.none() | st.integers(0, 12), end=st.booleans())
def test_rows_are_the_sequences_cut_or_padded(
    sequences: list[Any], length: int | None, end: bool
) -> None:
    ids, mask = pad_sequences(sequences, length, padding_id=0, keep="end" if end else "start")
    width = max(map(len, sequences), default=0) if length is None else length
    assert ids.shape == mask.shape == (len(sequences), width)
    assert (ids.dtype, mask.dtype) == (np.int32, bool)
    np.testing.assert_array_equal(mask, ids != 0)
    for row, kept, sequence in zip(ids, mask, sequences, strict=True):
        part = sequence[max(0, len(sequence) - width) :] if end else sequence[:width]
        np.testing.assert_array_equal(row[kept], part)
        assert not kept[len(part) :].any()


def test_another_padding_id_fills_the_rows() -> None:
    ids, mask = pad_sequences([[0], [0, 1]], padding_id=7)
    np.testing.assert_array_equal(ids, [[0, 7], [0, 1]])
    np.testing.assert_array_equal(mask, [[True, False], [True, True]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tokenize(b"bytes"), TypeError, "tokenize: text must be a str, got bytes"),
        (lambda: Vocabulary("abc"), TypeError, "Vocabulary: words .* got one str"),
        (lambda: Vocabulary(["a", 1]), TypeError, "Vocabulary: words .* the int 1"),
        (lambda: Vocabulary(["a", "b", "a"]), ValueError, "the word 'a' occurs twice"),
        (lambda: Vocabulary(["<unk>"]), ValueError, "the word '<unk>' occurs twice"),
        (lambda: Vocabulary.build(["a text"]), TypeError, "a document .* split it first"),
        (lambda: Vocabulary.build([[b"a"]]), TypeError, "a document .* the bytes b'a'"),
        (lambda: Vocabulary.build([], max_size=1), ValueError, "max_size must be at least 2"),
        (lambda: Vocabulary.build([], max_size=9.0), TypeError, "max_size must be an integer"),
        (lambda: Vocabulary(["a"]).encode("a"), TypeError, "encode: tokens .* got one str"),
        (lambda: Vocabulary(["a"]).encode([["a"]]), TypeError, r"encode: tokens .* the list"),
        (lambda: Vocabulary(["a"]).decode([2, 3]), ValueError, "id 3 is outside 0 to 2"),
        (lambda: Vocabulary(["a"]).decode([-1]), ValueError, "id -1 is outside 0 to 2"),
        (lambda: Vocabulary(["a"]).decode([1.0]), TypeError, "decode: ids .* float64"),
        (lambda: Vocabulary(["a"]).decode([[1]]), ValueError, r"decode: ids .* \(1, 1\)"),
        (lambda: pad_sequences([1, 2]), ValueError, r"sequence 0 must have one axis"),
        (lambda: pad_sequences([[1], [0.5]]), TypeError, "sequence 1 .* float64"),
        (lambda: pad_sequences([[1]], -1), ValueError, "length must be at least 0, got -1"),
        (lambda: pad_sequences([[1]], 2.0), TypeError, "length must be an integer, got float"),
        (lambda: pad_sequences([[1]], keep="middle"), ValueError, "keep must .* 'middle'"),
        (lambda: pad_sequences([[1], [2**31]]), ValueError, "sequence 1 has an id that int32"),
        (lambda: pad_sequences([[-(2**40)]]), ValueError, "sequence 0 has an id that int32"),
        (lambda: pad_sequences([[1]], 2, 1.9), TypeError, "padding_id must be an integer"),
    ],
)
def test_refusals(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_users_own_text_becomes_batches(tmp_path: Path) -> None:
    texts = ["A fine film.", "Fine, but long", ""]
    words = [tokenize(text) for text in texts]
    vocabulary = Vocabulary.build(words)
    ids, mask = pad_sequences(map(vocabulary.encode, words), length=4)
    assert vocabulary.words[0] == "fine"
    np.testing.assert_array_equal(mask.sum(axis=1), [3, 3, 0])
    assert ids.max() < len(vocabulary)
