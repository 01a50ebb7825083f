"""The user's own files: tables and their encoding as numbers, .npz files, images and texts."""

import csv
import math
import os
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agrad.arguments import integer
from agrad.extras import optional_import

__all__ = [
    "TableEncoder",
    "moments",
    "read_images",
    "read_npz",
    "read_table",
    "read_texts",
    "words_of",
]

Columns = dict[str, NDArray[Any]]

_NUMBERS = "fiu"  # the kinds of dtypes
_MISSING = {"", "na", "nan", "null", "none", "n/a"}
_IMAGES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def read_table(path: str | os.PathLike[str]) -> Columns:
    r"""Return the columns of a CSV or a Parquet file by name, each of shape (rows,).

    A column is float64, with NaN where it is empty, if all its entries are numbers; otherwise it
    holds strings, "" where it is empty. The words na, nan, null, none and n/a, in any case, stand
    for nothing, as in pandas. The first line of a CSV file has the names.

    Args:
        path: A file that ends with .csv (or .tsv, separated by tabs) or .parquet; the latter needs
            pandas and pyarrow.

    Raises:
        ValueError: The file has another ending, no rows, or a name twice; a line has another number
            of entries than the first; it is not UTF-8, or an entry has over 131072 characters.
        OSError: The file cannot be read.
        ImportError: pandas is missing.

    Example:
        >>> import tempfile, pathlib
        >>> from agrad.data import read_table
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "flowers.csv"
        >>> _ = path.write_text("length,kind\n5.1,setosa\n,virginica\n")
        >>> read_table(path)
        {'length': array([5.1, nan]), 'kind': array(['setosa', 'virginica'], dtype=object)}
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind == ".parquet":
        frame = optional_import("pandas", "Parquet files", "data").read_parquet(path)
        # pandas has several values for a missing one.
        present = frame.astype(object).where(frame.notna(), None)
        columns = {str(name): _column(present[name].tolist()) for name in frame.columns}
    elif kind in (".csv", ".tsv"):
        columns = _read_csv(path, "," if kind == ".csv" else "\t")
    else:
        raise ValueError(f"read_table: {os.fspath(path)!r} must end with .csv, .tsv or .parquet")
    if not columns or not len(next(iter(columns.values()))):
        raise ValueError(f"read_table: {os.fspath(path)!r} has no rows")
    return columns


def _read_csv(path: Path, delimiter: str) -> Columns:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=delimiter)
        try:
            names = [name.strip() for name in next(lines, [])]
            if len(set(names)) < len(names):
                raise ValueError(f"read_table: {os.fspath(path)!r} has a column twice: {names}")
            rows = []
            for line in lines:
                if not line:
                    continue
                if len(line) != len(names):
                    raise ValueError(
                        f"read_table: line {lines.line_num} of {os.fspath(path)!r} has {len(line)} "
                        f"entries, the first line {len(names)}"
                    )
                rows.append(line)
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(
                f"read_table: {os.fspath(path)!r} is not a table of UTF-8 text: {error}"
            ) from error
    return {name: _column(entries) for name, entries in zip(names, zip(*rows))}


def _column(entries: Sequence[Any]) -> NDArray[Any]:
    """Return a column of numbers if all entries are numbers, otherwise of strings."""
    words = ["" if entry is None else str(entry).strip() for entry in entries]
    words = ["" if word.lower() in _MISSING else word for word in words]
    try:
        return np.array([_number(word) if word else math.nan for word in words])
    except ValueError:
        return np.array(words, dtype=object)


def _number(word: str) -> float:
    """Return the number that a word spells; 1_000, which Python reads, is a word in a table."""
    if "_" in word:
        raise ValueError(f"not a number: {word}")
    return float(word)


def read_npz(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a .npz file by name.

    Raises:
        ValueError: The file is not a .npz file, is damaged, or holds an array of Python objects,
            which are never loaded.
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as stream:
        if stream.read(4) not in (b"PK\x03\x04", b"PK\x05\x06"):  # of a zip file
            raise ValueError(f"read_npz: {os.fspath(path)!r} is not a .npz file")
        stream.seek(0)
        try:
            with np.load(stream, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"read_npz: {os.fspath(path)!r} cannot be read: {error}") from error


def read_images(
    folder: str | os.PathLike[str], size: tuple[int, int] | None = None, grey: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.int64], list[str]]:
    """Return the images of a folder that has a folder for each class.

    Args:
        folder: The folder; the names of its folders are the classes.
        size: The height and width to scale all images to; by default they must agree.
        grey: Whether to read the images in shades of grey.

    Returns:
        The images, float32 in [0, 1] of shape (N, 3, height, width), or (N, 1, height, width) if
        `grey`; their classes, int64 of shape (N,); and the names of the classes. They are sorted by
        class and name.

    Raises:
        ValueError: There are no images; their sizes differ and `size` is None; `size` is not two
            positive integers; or an image holds numbers of no known range.
        OSError: A file cannot be read.
        ImportError: Pillow is missing.
    """
    image = optional_import("PIL.Image", "image folders", "data")
    if size is not None:
        if not isinstance(size, Sequence) or len(size) != 2:
            raise ValueError(f"read_images: size must be (height, width), got {size!r}")
        height, width = (integer("read_images", "size", length, least=1) for length in size)
    paths, labels, names = _files_of_classes(folder, _IMAGES)
    if not paths:
        raise ValueError(
            f"read_images: {os.fspath(folder)!r} has no images in folders named by classes"
        )
    arrays = []
    for path in paths:
        with image.open(path) as opened:
            if opened.mode in ("I", "F"):
                raise ValueError(
                    f"read_images: {os.fspath(path)!r} holds numbers of no known range, mode "
                    f"{opened.mode!r}; convert it to 8 or 16 bits"
                )
            if opened.mode.startswith("I;16"):  # which Pillow would convert by clipping
                picture = image.fromarray(np.asarray(opened).astype(np.float32) * (255 / 65535))
            else:
                picture = opened.convert("L" if grey else "RGB")
            if size is not None:
                picture = picture.resize((width, height), image.Resampling.BILINEAR)
            pixels = np.asarray(picture, np.float32) / 255
        channels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
        arrays.append(np.broadcast_to(channels, (1 if grey else 3, *pixels.shape[:2])))
        if arrays[-1].shape != arrays[0].shape:
            raise ValueError(
                f"read_images: {os.fspath(path)!r} has {arrays[-1].shape[1:]} pixels, the first "
                f"image {arrays[0].shape[1:]}; give a size"
            )
    return np.stack(arrays), labels, names


def read_texts(folder: str | os.PathLike[str]) -> tuple[list[str], NDArray[np.int64], list[str]]:
    r"""Return the texts of a folder that has a folder of .txt files for each class.

    Args:
        folder: The folder; the names of its folders are the classes.

    Returns:
        The N texts; their classes, int64 of shape (N,); and the names of the classes. They are
        sorted by class and name.

    Raises:
        ValueError: There are no .txt files, or one is not UTF-8.
        OSError: A file cannot be read.

    Example:
        >>> import tempfile, pathlib
        >>> from agrad.data import read_texts
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for name, text in [("bad", "Dull."), ("good", "A delight!")]:
        ...     (root / name).mkdir()
        ...     _ = (root / name / "1.txt").write_text(text)
        >>> read_texts(root)
        (['Dull.', 'A delight!'], array([0, 1]), ['bad', 'good'])
    """
    paths, labels, names = _files_of_classes(folder, {".txt"})
    if not paths:
        raise ValueError(
            f"read_texts: {os.fspath(folder)!r} has no .txt files in folders named by classes"
        )
    texts = []
    for path in paths:
        try:
            texts.append(path.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ValueError(f"read_texts: {os.fspath(path)!r} is not UTF-8: {error}") from error
    return texts, labels, names


def _files_of_classes(
    folder: str | os.PathLike[str], endings: Collection[str]
) -> tuple[list[Path], NDArray[np.int64], list[str]]:
    """Return the files with such endings, the numbers of their classes, and all classes."""
    root = Path(folder)
    names = sorted(path.name for path in root.iterdir() if path.is_dir())
    files = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((root / name).iterdir())
        if path.suffix.lower() in endings
    ]
    return [path for path, _ in files], np.array([label for _, label in files], np.int64), names


class TableEncoder:
    """Encodes the columns of a table as numbers, as learned from a training table.

    A column of numbers is standardized; a missing number becomes the mean, 0. A column of strings
    becomes a column for each value, 1 where it has the value; a missing or unknown value is 0 in
    all of them. Where another table has only numbers in such a column, they stand for the strings
    that spell them, as 1.0 for "01".

    Args:
        columns: The training table, as `read_table` returns it.
        target: The name of the column to predict, which is not encoded.

    Attributes:
        names: The names of the columns that are encoded.
        features: The number of columns of the encoded table.

    Raises:
        ValueError: The table has no column `target`, or no other column; or a number is infinite.

    Example:
        >>> import numpy as np
        >>> from agrad.data import TableEncoder
        >>> table = {"size": np.array([1.0, 3.0]), "kind": np.array(["a", "b"], object)}
        >>> encoder = TableEncoder(table | {"price": np.array([10.0, 20.0])}, target="price")
        >>> encoder.encode(table)
        array([[-1.,  1.,  0.],
               [ 1.,  0.,  1.]], dtype=float32)
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]], target: str) -> None:
        if target not in columns:
            raise ValueError(
                f"TableEncoder: target must be one of {sorted(columns)}, got {target!r}"
            )
        self._codes: dict[str, dict[str, Any]] = {}
        for name, column in columns.items():
            if name == target:
                continue
            column = np.asarray(column)
            if column.dtype.kind in _NUMBERS:
                _require_no_infinity("TableEncoder", name, column)
                mean, deviation = moments(column[~np.isnan(column)])
                self._codes[name] = {"mean": mean, "deviation": deviation}
            else:
                self._codes[name] = {"values": sorted({*map(_word, column)} - {""})}
        if not self._codes:
            raise ValueError("TableEncoder: the table has no column besides the target")

    @property
    def names(self) -> list[str]:
        """The names of the columns that are encoded."""
        return list(self._codes)

    @property
    def features(self) -> int:
        """The number of columns of the encoded table."""
        return sum(len(code.get("values", ["number"])) for code in self._codes.values())

    def encode(self, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return a table as numbers, float32 of shape (rows, features).

        Args:
            columns: A table that has the columns of the training table; others are not used.

        Raises:
            ValueError: A column is missing, holds strings instead of numbers, an infinite number,
                or numbers that may stand for several strings, or differs in shape from the others.
        """
        missing = [name for name in self._codes if name not in columns]
        if missing:
            raise ValueError(f"TableEncoder.encode: the table has no columns {missing}")
        shapes = {name: np.shape(columns[name]) for name in self._codes}
        if len(set(shapes.values())) > 1 or len(next(iter(shapes.values()))) != 1:
            raise ValueError(
                f"TableEncoder.encode: columns must have one axis and equal lengths, got {shapes}"
            )
        parts = []
        for name, code in self._codes.items():
            column = np.asarray(columns[name])
            if "values" in code:
                owner = f"TableEncoder.encode: the column {name!r}"
                words = np.array(words_of(owner, column, code["values"]), object)
                parts.append(words[:, None] == np.array(code["values"], object))
            elif column.dtype.kind not in _NUMBERS:
                raise ValueError(
                    f"TableEncoder.encode: the column {name!r} must hold numbers, it has "
                    f"{column[0]!r:.50}"
                )
            else:
                _require_no_infinity("TableEncoder.encode", name, column)
                numbers = (column - code["mean"]) / code["deviation"]
                parts.append(np.where(np.isnan(column), 0, numbers)[:, None])
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def state_dict(self) -> dict[str, Any]:
        """Return what was learned from the training table, which JSON and `ag.save` can store."""
        return {name: dict(code) for name, code in self._codes.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Mapping[str, Any]]) -> "TableEncoder":
        """Return the encoder whose `state_dict` this is.

        Raises:
            ValueError: It is not the state of an encoder.
        """
        for name, code in state.items():
            if set(code) not in ({"values"}, {"mean", "deviation"}):
                raise ValueError(f"TableEncoder.from_state: {name!r} is not an encoded column")
        encoder = cls.__new__(cls)
        encoder._codes = {name: dict(code) for name, code in state.items()}
        return encoder


def _require_no_infinity(owner: str, name: str, column: NDArray[Any]) -> None:
    infinite = np.flatnonzero(np.isinf(column))
    if len(infinite):
        row = int(infinite[0]) + 1
        raise ValueError(f"{owner}: the column {name!r} has an infinite number in row {row}")


def moments(numbers: NDArray[Any]) -> tuple[float, float]:
    """Return the mean and the standard deviation: 0 and 1 of no numbers, and 1 of equal ones.

    The computed deviation of equal numbers may be off 0 by rounding.
    """
    if not numbers.size:
        return 0.0, 1.0
    equal = numbers.min() == numbers.max()
    return float(numbers.mean()), 1.0 if equal else float(numbers.std()) or 1.0


def words_of(owner: str, column: NDArray[Any], known: list[str]) -> list[str]:
    """Return a column as strings; numbers as the known strings that spell them.

    Raises:
        ValueError: A number may stand for several; the message begins with `owner`.
    """
    if column.dtype.kind not in _NUMBERS:
        return list(map(_word, column))
    spelled: dict[float, list[str]] = {}
    for word in known:
        with suppress(ValueError):
            spelled.setdefault(_number(word), []).append(word)
    words = []
    for value in column.tolist():
        fitting = spelled.get(value, [_word(value)])
        if len(fitting) > 1:
            raise ValueError(
                f"{owner} has {value}, which may stand for any of {fitting}; give the column as "
                "strings"
            )
        words += fitting
    return words


def _word(value: Any) -> str:
    """Return a value as text; whole numbers have no decimal point."""
    if value is None:
        return ""
    if isinstance(value, float):
        number = float(value)  # a NumPy scalar may print in another form
        return "" if math.isnan(number) else str(int(number) if number.is_integer() else number)
    return str(value)
