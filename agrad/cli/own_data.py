"""Data of the user's own for the commands: tables, .npz files, folders of images or texts."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import agrad.nn.functional as F
from agrad.data import (
    TableEncoder,
    Vocabulary,
    pad_sequences,
    random_split,
    read_images,
    read_npz,
    read_table,
    read_texts,
    tokenize,
)
from agrad.data.table import moments, words_of

__all__ = ["Format", "OwnData", "have_changed", "load_own_data"]

_TABLES = (".csv", ".parquet", ".tsv")
_VOCABULARY, _LENGTH = 5000, 200  # of texts, as those of imdb
_SHORTEST = 16  # halved by the four blocks of `text_network`
_OF_TEXTS = ("text", "words")  # in the description of texts only


@dataclass(frozen=True)
class Format:
    """How files become inputs, and the network's outputs predictions; JSON can store it.

    Attributes:
        kind: "table", "npz", "images" or "texts".
        target: The column or array to predict; None for images and texts.
        columns: The state of the table's `TableEncoder`.
        classes: The classes, in the order of the network's outputs; None for a regression.
        mean: The mean of the training targets of a regression, which learns standardized ones.
        deviation: Their standard deviation.
        shape: The shape of an example.
        text: The column of a table that holds its texts; None if the other columns are the inputs.
        words: The words of the vocabulary of texts; None for other data.
    """

    kind: str
    target: str | None
    columns: dict[str, Any] | None
    classes: list[Any] | None
    mean: float
    deviation: float
    shape: list[int]
    text: str | None = None
    words: list[str] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the format as plain values."""
        content = asdict(self)
        return {k: v for k, v in content.items() if k not in _OF_TEXTS or v is not None}

    @classmethod
    def from_json(cls, content: Any) -> "Format":
        """Return the format that `as_json` described.

        Raises:
            ValueError: It is not such a description.
        """
        try:
            return cls(**content)
        except TypeError as error:
            raise ValueError(f"the settings do not describe the data of a run: {error}") from error

    @property
    def outputs(self) -> int:
        """The number of the network's outputs."""
        return 1 if self.classes is None else len(self.classes)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The vocabulary of texts; None for other data."""
        return None if self.words is None else Vocabulary(self.words)

    @property
    def loss(self) -> Any:
        """The loss function."""
        return F.mse_loss if self.classes is None else F.cross_entropy

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics beside the loss and the accuracy."""
        return ["r2"] if self.classes is None else []

    def inputs(self, content: Mapping[str, Any], path: Path) -> NDArray[Any]:
        """Return the inputs in a file's content: numbers, float32, or the ids of words, int32.

        Raises:
            ValueError: They do not have the form of the training data.
        """
        if (vocabulary := self.vocabulary) is not None:
            texts = _texts(content, self.text or "x", path)
            ids = map(vocabulary.encode, map(tokenize, texts))
            return pad_sequences(ids, self.shape[0])[0]
        if self.columns is not None:
            return TableEncoder.from_state(self.columns).encode(content)
        inputs = np.asarray(_examples(content, path), np.float32)
        if list(inputs.shape[1:]) != self.shape:
            raise ValueError(
                f"{str(path)!r} has examples of shape {list(inputs.shape[1:])}, the network takes "
                f"{self.shape}"
            )
        return inputs

    def targets(self, content: Mapping[str, Any], path: Path) -> NDArray[Any]:
        """Return the targets in a file's content: numbers of classes, or standardized numbers.

        Raises:
            ValueError: There are none, one is missing, or a class is unknown.
        """
        name = "y" if self.target is None else self.target
        column = _target(content, name, path)
        if self.classes is None:
            numbers = (column.astype(np.float64) - self.mean) / self.deviation
            return numbers.astype(np.float32)[:, None]
        places = {value: i for i, value in enumerate(self.classes)}
        values = column.tolist()
        if isinstance(self.classes[0], str):
            values = words_of(f"{str(path)!r}: the target {name!r}", column, self.classes)
        unknown = next((value for value in values if value not in places), None)
        if unknown is not None:
            raise ValueError(f"{str(path)!r} has the class {unknown!r}, unknown to the network")
        return np.array([places[value] for value in values], np.int64)

    def read(self, path: Path) -> dict[str, Any]:
        """Return a file's content."""
        return _read(path, self.kind)[1]


@dataclass(frozen=True)
class OwnData:
    """The training data, those held out, and their format."""

    train: tuple[Any, Any]
    validation: tuple[Any, Any] | None
    format: Format

    def described(self) -> dict[str, Any]:
        """Return the entries of settings.json: the format, and a digest of all arrays."""
        digest = hashlib.sha256()
        for array in (*self.train, *(self.validation or ())):
            digest.update(np.ascontiguousarray(array).tobytes())
        return {"format": self.format.as_json(), "sha256": digest.hexdigest()}


def have_changed(described: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Return whether data differ from those that the settings of a run describe."""
    return any(settings.get(name, value) != value for name, value in described.items())


def load_own_data(
    path: Path,
    target: str | None,
    text: str | None,
    task: str | None,
    validation: float | Path | None,
    seed: int,
) -> OwnData:
    """Read a file or a folder, hold out a part, and learn the format from the rest.

    Args:
        path: A CSV, TSV or Parquet file; a .npz file with the arrays x and y; or a folder with a
            folder of images, or of .txt files, for each class.
        target: The column of a table to predict.
        text: The column of a table that holds texts to predict it from; by default all other
            columns are the inputs.
        task: "classification" or "regression"; by default a regression for targets that are
            numbers with a fraction in their type, otherwise a classification.
        validation: The share to hold out, another such file, or None.
        seed: Determines which examples are held out.

    Raises:
        ValueError: The data have no such form.
        OSError: They cannot be read.
        ImportError: A package that reads them is missing.
    """
    kind, content, names = _read(path)
    if kind == "table" and target is None:
        raise ValueError(f"{str(path)!r} is a table; name the column to predict with --target")
    for option, column_name in (("--target", target), ("--text", text)):
        if kind != "table" and column_name is not None:
            raise ValueError(f"{option} is for tables, and {str(path)!r} is none")
    if text is not None and text == target:
        raise ValueError(f"--text and --target must name different columns, got {text!r} for both")
    name = target if target is not None else "y"
    column = _target(content, name, path)
    rows = np.arange(len(column))
    held_out = None
    if isinstance(validation, float):
        (rows,), (held_out,) = random_split((rows,), [1 - validation, validation], seed)
        rows = np.sort(rows)
        if not len(rows) or not len(held_out):
            raise ValueError(f"{str(path)!r} has too few examples to hold out {validation:g}")
    if kind == "npz":  # whose other arrays may have any length
        content = {"x": _examples(content, path), "y": column}
    train = _at(content, rows)
    columns, vocabulary, shape = None, None, []
    if kind == "texts" or text is not None:
        tokens = [tokenize(words) for words in _texts(train, text or "x", path)]
        vocabulary = Vocabulary.build(tokens, _VOCABULARY).words
        # Padding that no text needs would only dilute the mean over time.
        shape = [max(_SHORTEST, min(_LENGTH, max(map(len, tokens))))]
        if not vocabulary:
            raise ValueError(f"{str(path)!r} has no words to learn from")
    elif kind == "table":
        columns = TableEncoder(train, name).state_dict()
    else:
        shape = list(np.shape(content["x"])[1:])
    if task is None:
        task = "regression" if column.dtype.kind == "f" else "classification"
    classes, mean, deviation = None, 0.0, 1.0
    if task == "classification":
        classes = names or np.unique(column).tolist()
    elif column.dtype.kind not in "fiu":
        raise ValueError(f"the target {name!r} of a regression must be numbers")
    else:
        mean, deviation = moments(column[rows].astype(np.float64))
    form = Format(kind, target, columns, classes, mean, deviation, shape, text, vocabulary)
    examples = form.inputs(train, path), form.targets(train, path)
    other = None
    if held_out is not None:
        part = _at(content, np.sort(held_out))
        other = form.inputs(part, path), form.targets(part, path)
    elif isinstance(validation, Path):
        part = form.read(validation)
        other = form.inputs(part, validation), form.targets(part, validation)
    return OwnData(examples, other, form)


def _read(
    path: Path, kind: str | None = None
) -> tuple[str, dict[str, NDArray[Any]], list[str] | None]:
    """Return the kind and the content of a file or a folder, and the names of a folder's classes.

    The target "y" of images and texts are the names of their folders. A folder has texts if all
    files in its folders do, unless its kind is known.
    """
    if path.is_dir():
        endings = {file.suffix.lower() for file in path.glob("*/*")} - {""}
        examples: NDArray[Any]
        if (kind or ("texts" if endings == {".txt"} else "images")) == "texts":
            texts, labels, names = read_texts(path)
            kind, examples = "texts", np.array(texts, object)
        else:
            images, labels, names = read_images(path, grey=True)
            kind, examples = "images", images[:, 0]
        return kind, {"x": examples, "y": np.array(names, object)[labels]}, names
    if path.suffix.lower() in _TABLES:
        return "table", read_table(path), None
    if path.suffix.lower() == ".npz":
        arrays = read_npz(path)
        counts = {name: len(np.atleast_1d(arrays[name])) for name in ("x", "y") if name in arrays}
        if len(set(counts.values())) > 1 or 0 in counts.values():
            raise ValueError(
                f"{str(path)!r} must have as many targets y as examples x, and at least one; "
                f"got {counts}"
            )
        x = arrays.get("x")
        if x is not None and (x.ndim < 2 or x.dtype.kind not in "fiub"):
            raise ValueError(
                f"{str(path)!r}: x must be numbers of shape (N, ...), or (N, 1) for one number an "
                f"example, got {x.dtype}{list(x.shape)}"
            )
        if x is not None and x.dtype.kind == "f":
            finite = np.isfinite(x).reshape(counts["x"], -1).all(axis=1)
            if not finite.all():
                example = int(np.argmin(finite)) + 1
                raise ValueError(f"{str(path)!r} has a NaN or an infinity in example {example}")
        return "npz", arrays, None
    raise ValueError(
        f"{str(path)!r} is neither a table (.csv, .tsv, .parquet) nor a .npz file, nor a folder"
    )


def _at(content: Mapping[str, Any], rows: NDArray[Any]) -> dict[str, Any]:
    return {name: value[rows] for name, value in content.items()}


def _examples(content: Mapping[str, Any], path: Path) -> Any:
    if "x" not in content:
        raise ValueError(f"{str(path)!r} needs an array x, it has {sorted(content)}")
    return content["x"]


def _texts(content: Mapping[str, Any], name: str, path: Path) -> list[str]:
    if name not in content:
        raise ValueError(f"{str(path)!r} has no {name!r}, only {sorted(content)}")
    texts = content[name]
    if texts.dtype.kind == "f":
        raise ValueError(f"the texts {name!r} in {str(path)!r} are numbers")
    return [str(text) for text in texts]


def _target(content: Mapping[str, Any], name: str, path: Path) -> NDArray[Any]:
    if name not in content:
        raise ValueError(f"{str(path)!r} has no {name!r}, only {sorted(content)}")
    column = np.asarray(content[name])
    if column.ndim != 1:
        raise ValueError(f"{str(path)!r}: {name!r} must be of shape (N,), got {column.shape}")
    missing = ~np.isfinite(column) if column.dtype.kind == "f" else column == ""
    if np.any(missing):
        raise ValueError(
            f"{str(path)!r} lacks the target {name!r} in example {int(np.argmax(missing)) + 1}"
        )
    return column
