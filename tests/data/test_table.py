"""Tables, .npz files and folders of images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrad.data import TableEncoder, read_images, read_npz, read_table, read_texts


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_of_numbers_and_of_words(tmp_path: Path) -> None:
    text = '\ufeffa, b,c,d\n1,x,NA,1e3\n,"y, z",,-2\n 2.5 ,,, 7\n'
    table = read_table(write(tmp_path / "a.csv", text))
    assert list(table) == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(table["a"], [1, np.nan, 2.5])
    assert table["b"].tolist() == ["x", "y, z", ""]
    assert np.isnan(table["c"]).all()
    np.testing.assert_array_equal(table["d"], [1000, -2, 7])
    tabs = write(tmp_path / "a.TSV", "a\tb\n1\t2,3\n")
    assert {name: c.tolist() for name, c in read_table(tabs).items()} == {"a": [1], "b": ["2,3"]}


def test_what_python_alone_reads_as_a_number_is_a_word(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv", "id\n1_000\n2_001\n"))
    assert table["id"].tolist() == ["1_000", "2_001"]


def test_columns_of_other_shapes_are_named() -> None:
    table = {"a": np.ones(2), "b": np.ones(2), "y": np.ones(2)}
    encoder = TableEncoder(table, "y")
    for wrong in np.ones(3), np.ones((2, 2)):
        with pytest.raises(ValueError, match=r"encode: columns must have one axis .*'a': \(2,"):
            encoder.encode(table | {"b": wrong})


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_an_infinite_number_is_not_a_missing_one(infinite: float) -> None:
    table = {"a": np.array([1.0, np.nan, 3.0]), "y": np.ones(3)}
    encoder = TableEncoder(table, "y")
    np.testing.assert_array_equal(encoder.encode(table), [[-1], [0], [1]])
    wrong = {"a": np.array([1.0, infinite, np.nan]), "y": np.ones(3)}
    with pytest.raises(ValueError, match=r"encode: the column 'a' has an infinite number in row 2"):
        encoder.encode(wrong)
    with pytest.raises(ValueError, match=r"TableEncoder: the column 'a' has an infinite number"):
        TableEncoder(wrong, "y")


@pytest.mark.parametrize("content", [b"", b"abc", b"PK\x03\x04 cut off"])
def test_a_file_that_is_not_npz_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"read_npz: .*a\.npz' (is not|cannot be read)"):
        read_npz(tmp_path / "a.npz")


def test_columns_of_any_dtype_are_encoded() -> None:
    table = {
        "number": np.array([1, 3]),
        "unsigned": np.array([3, 1], np.uint8),
        "truth": np.array([True, False]),
        "text": np.array(["a", "b"]),
        "object": np.array(["x", None], object),
        "y": np.ones(2),
    }
    encoder = TableEncoder(table, "y")
    assert encoder.features == 7
    np.testing.assert_array_equal(
        encoder.encode(table), [[-1, 1, 0, 1, 1, 0, 1], [1, -1, 1, 0, 0, 1, 0]]
    )
    again = TableEncoder.from_state(json.loads(json.dumps(encoder.state_dict())))
    np.testing.assert_array_equal(again.encode(table), encoder.encode(table))


def test_a_parquet_file_is_the_same_table(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, float("nan")]})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    for (name, one), other in zip(
        read_table(tmp_path / "t.parquet").items(), read_table(tmp_path / "t.csv").values()
    ):
        np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "has no rows"),
        ("a.csv", "a,b\n", "has no rows"),
        ("a.csv", "a,a\n1,2\n", "has a column twice"),
        ("a.csv", "a,b\n1,2\n3\n", r"line 3 of .* has 1 entries, the first line 2"),
        ("a.csv", "a\n" + 200_000 * "x", "is not a table of UTF-8 text: field larger"),
        ("a.txt", "a\n1\n", r"must end with .csv, .tsv or .parquet"),
    ],
)
def test_a_file_that_is_not_a_table_is_named(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        read_table(write(tmp_path / name, text))


@given(numbers=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
def test_numbers_are_standardized(numbers: list[float]) -> None:
    column = np.array([*numbers, np.nan])
    encoder = TableEncoder({"x": column, "y": column}, "y")
    encoded = encoder.encode({"x": column})
    assert encoded.shape == (len(column), encoder.features) == (len(column), 1)
    deviation = np.std(numbers) or 1.0
    expected = np.append((numbers - np.mean(numbers)) / deviation, 0)
    np.testing.assert_allclose(encoded[:, 0], expected, rtol=1e-6, atol=1e-6)


def test_words_become_columns_and_the_state_keeps_them() -> None:
    table: dict[str, Any] = {
        "colour": np.array(["red", "", "blue"], object),
        "size": np.array([1.0, 2.0, 3.0]),
        "price": np.array([1.0, 2.0, 3.0]),
    }
    encoder = TableEncoder(table, "price")
    encoder = TableEncoder.from_state(json.loads(json.dumps(encoder.state_dict())))
    assert encoder.names == ["colour", "size"]
    new = {"size": np.array([2.0, np.nan]), "colour": np.array(["blue", "green"], object)}
    assert encoder.encode(new).tolist() == [[1, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match=r"encode: the table has no columns \['size'\]"):
        encoder.encode({"colour": new["colour"]})
    with pytest.raises(ValueError, match=r"'size' must hold numbers, it has 'blue'"):
        encoder.encode({"size": new["colour"], "colour": new["colour"]})
    with pytest.raises(ValueError, match=r"target must be one of .* got 'cost'"):
        TableEncoder(table, "cost")
    with pytest.raises(ValueError, match=r"no column besides the target"):
        TableEncoder({"a": table["size"]}, "a")
    with pytest.raises(ValueError, match=r"'a' is not an encoded column"):
        TableEncoder.from_state({"a": {"mean": 0.0}})


def test_words_that_are_numbers_in_a_new_table_keep_their_values() -> None:
    encoder = TableEncoder({"x": np.array(["1", "a"], object), "y": np.zeros(2)}, "y")
    assert encoder.encode({"x": np.array([1.0, np.nan])}).tolist() == [[1, 0], [0, 0]]


def test_numbers_stand_for_the_words_that_spell_them() -> None:
    words = ["01", "1.50", "1e3", "x", ""]
    table = {"code": np.array(words, object), "y": np.zeros(5)}
    encoder = TableEncoder(table, "y")
    numbers = {"code": np.array([1.0, 1.5, 1000.0, 7.0, np.nan])}
    np.testing.assert_array_equal(encoder.encode(numbers)[[0, 1, 2]], encoder.encode(table)[:3])
    assert not encoder.encode(numbers)[3:].any()
    two = TableEncoder({"code": np.array(["01", "1", "2"], object), "y": np.zeros(3)}, "y")
    assert two.encode({"code": np.array([2.0])}).tolist() == [[0, 0, 1]]
    with pytest.raises(ValueError, match=r"'code' has 1.0, which may .* any of \['01', '1'\]"):
        two.encode({"code": np.array([2.0, 1.0])})


@pytest.mark.parametrize("value", [0.1, 1 / 3, -1e300, 7.0])
def test_equal_numbers_have_a_deviation_of_1(value: float) -> None:
    """Their mean is rounded, and so is the deviation from it."""
    encoder = TableEncoder({"x": np.full(60, value), "y": np.zeros(60)}, "y")
    assert encoder.state_dict()["x"]["deviation"] == 1.0


@pytest.mark.parametrize("word", ["1234567", "1234568", "0.12345678", "-3"])
def test_a_number_of_any_length_is_the_word_that_it_was(word: str) -> None:
    """A column has other words in training, and only numbers in a new table."""
    trained = {"code": np.array(["abc", word, "1234560"], object), "y": np.zeros(3)}
    encoder = TableEncoder(trained, "y")
    found = encoder.encode({"code": np.array([float(word)])})
    np.testing.assert_array_equal(found, encoder.encode(trained)[1:2])
    assert found.sum() == 1


def test_npz_files_hold_arrays_and_no_objects(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(3), y=np.ones((2, 2)))
    arrays = read_npz(tmp_path / "a.npz")
    assert arrays["x"].tolist() == [0, 1, 2]
    np.savez(tmp_path / "b.npz", x=np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_npz(tmp_path / "b.npz")


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name, shade in (("cats", 51), ("ants", 255)):
        (tmp_path / name).mkdir()
        for i in range(2):
            image.new("RGB", (4, 3), (shade, 0, shade)).save(tmp_path / name / f"{i}.png")
    write(tmp_path / "cats" / "notes.txt", "no image")
    images, labels, classes = read_images(tmp_path)
    assert (images.shape, images.dtype) == ((4, 3, 3, 4), np.float32)
    assert (labels.tolist(), classes) == ([0, 0, 1, 1], ["ants", "cats"])
    assert images[0, :, 0, 0].tolist() == [1, 0, 1]
    assert images[3, 0, 0, 0] == np.float32(0.2)
    assert read_images(tmp_path, size=(5, 6), grey=True)[0].shape == (4, 1, 5, 6)
    image.new("RGB", (5, 5)).save(tmp_path / "ants" / "2.png")
    with pytest.raises(ValueError, match=r"2.png' has \(5, 5\) pixels, the first image \(3, 4\)"):
        read_images(tmp_path)
    with pytest.raises(ValueError, match="has no images in folders named by classes"):
        read_images(tmp_path / "cats")


def test_a_folder_of_texts_for_each_class(tmp_path: Path) -> None:
    for name, texts in {"good": ["Fine.\n", "\ufeffÄtna"], "bad": ["Dull"]}.items():
        (tmp_path / name).mkdir()
        for i, text in enumerate(texts):
            (tmp_path / name / f"{i}.txt").write_text(text, encoding="utf-8")
    texts, labels, classes = read_texts(tmp_path)
    assert texts == ["Dull", "Fine.\n", "Ätna"]
    assert (labels.tolist(), classes) == ([0, 1, 1], ["bad", "good"])
    with pytest.raises(ValueError, match=r"has no \.txt files in folders named by classes"):
        read_texts(tmp_path / "good")
    (tmp_path / "bad" / "0.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"0\.txt' is not UTF-8"):
        read_texts(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"a,b\n1,\xff\n")
    with pytest.raises(ValueError, match=r"a\.csv' is not a table of UTF-8 text"):
        read_table(tmp_path / "a.csv")


def test_missing_entries_of_parquet_columns(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(
        {
            "count": pandas.array([1, None, 3], dtype="Int64"),
            "share": pandas.array([0.5, None, 1.5], dtype="Float64"),
            "word": pandas.array(["a", None, "b"], dtype="string"),
            "date": pandas.to_datetime(["2020-01-01", None, "2020-01-03"]),
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet")
    np.testing.assert_array_equal(found["count"], [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(found["share"], [0.5, np.nan, 1.5])
    assert found["word"].tolist() == ["a", "", "b"]
    assert found["date"][1] == ""


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("size", [None, (4, 4)])
def test_images_of_sixteen_bits_keep_their_shades(
    grey: bool, size: tuple[int, int] | None, tmp_path: Path
) -> None:
    image = pytest.importorskip("PIL.Image")
    shades = np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4)
    (tmp_path / "a").mkdir()
    image.fromarray(shades).save(tmp_path / "a" / "1.png")
    found = read_images(tmp_path, size, grey)[0]
    assert found.shape == (1, 1 if grey else 3, 4, 4)
    np.testing.assert_allclose(found[0], np.broadcast_to(shades / 65535, found[0].shape), atol=1e-6)
    image.fromarray(shades.astype(np.float32)).save(tmp_path / "a" / "2.tiff")
    with pytest.raises(ValueError, match=r"2\.tiff' holds numbers of no known range, mode 'F'"):
        read_images(tmp_path)
