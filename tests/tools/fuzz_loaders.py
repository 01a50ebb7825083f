"""The functions that read files, damaged and hostile files for each, and checks of their results.

For fuzz.py, which tries them by the million.
"""

import gzip
import json
import re
import struct
import tarfile
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import safetensors.numpy
from damage import EXTREMES, comparable, damaged, lying

import agrad as ag
from agrad import nn, optim
from agrad.checkpoint import Checkpoints, _read
from agrad.data import Batches, Vocabulary, tokenize
from agrad.data.idx import read_idx
from agrad.data.movie_reviews import _Reviews
from agrad.errors import CorruptDataError
from agrad.serialization import _digest

__all__ = ["FILE", "LOADERS", "Loader"]

FILE = "00000007.safetensors"
"""The name of each file: a checkpoint's name tells its iteration."""


@dataclass(frozen=True)
class Loader:
    """A function that reads a file, one that makes damaged files, and a check of results."""

    make: Callable[[Random], bytes]
    load: Callable[[Path], Any]
    require_valid: Callable[[Any, bytes], None]
    errors: tuple[type[Exception], ...] = (CorruptDataError,)


# -- weights: agrad.load ---------------------------------------------------------------------------


def saved(state: dict[str, Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state")
        ag.save(path, state)
        return path.read_bytes()


def parsed(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the data of a safetensors file."""
    (size,) = struct.unpack_from("<Q", content)
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def packed(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


_DTYPES = [*"?bBhHiIqQefd"]
WEIGHTS = [
    saved({}),
    saved({"model": {"0.weight": np.eye(3, dtype=np.float32), "0.bias": np.ones(3)}, "step": 7}),
    saved({code: np.zeros((i % 3, 2), code) for i, code in enumerate(_DTYPES)}),
    saved({"a": {"b": {"c": np.array(0.5)}}, "l": [1, 2.5, None, {"x": [True, "é"]}], "n": None}),
    safetensors.numpy.save({"a.b": np.ones(2), "c": np.array(True), "empty": np.ones((0, 4))}),
]
_NAMES = ["BOOL", "U8", "F8_E4M3", "BF16", "F16", "I32", "F64", "U64", "C64", "F4", "x"]


def damaged_safetensors(rng: Random, files: list[bytes]) -> bytes:
    """Damage the file, its header, its outline or its data, or put false values into them.

    The checksum is recomputed, as a forger would, except where bytes of the whole file are damaged
    at random.
    """
    content = rng.choice(files)
    kind = rng.randrange(6)
    if kind == 0:
        return damaged(rng, content)
    header, data = parsed(content)
    if kind == 1:
        return packed(damaged(rng, json.dumps(header).encode()), data)
    if kind == 2:
        return forged(header, damaged(rng, data)[: len(data)].ljust(len(data), b"\0"))
    sealed = header.get("__metadata__", {}).get("agrad")
    if kind <= 4 and sealed is not None:
        text = json.dumps(json.loads(sealed)["state"])
        if kind == 3:
            text = damaged(rng, text.encode()).decode(errors="replace")
        else:
            text = json.dumps(lying(rng, json.loads(text)))
        header["__metadata__"]["agrad"] = f'{{"sha256": "", "state": {text}}}'
    elif rng.random() < 0.5:
        header = lying(rng, header)
    else:
        name = rng.choice([*header, "new"])
        start, stop = (rng.choice((0, 8, len(data), rng.choice(EXTREMES))) for _ in range(2))
        shape = [rng.choice((0, 1, 2, 4, rng.choice(EXTREMES))) for _ in range(rng.randrange(4))]
        header[name] = {"dtype": rng.choice(_NAMES), "shape": shape, "data_offsets": [start, stop]}
    return forged(header, data)


def forged(header: dict[str, Any], data: bytes) -> bytes:
    """Return the file with a recomputed checksum, if enough of it can be read."""
    try:
        arrays = safetensors.numpy.load(packed(json.dumps(header).encode(), data))
        outline = json.loads(header["__metadata__"]["agrad"])["state"]
        sealed = {"sha256": _digest(outline, arrays), "state": outline}
        header["__metadata__"]["agrad"] = json.dumps(sealed)
    except Exception:  # of any kind: the loader must report it
        pass
    return packed(json.dumps(header).encode(), data)


def require_state(state: Any, content: bytes) -> None:
    """Require a dict of arrays and plain values; the arrays have at most the bytes of the file."""
    assert type(state) is dict
    assert _bytes_of(state) <= len(content)


def _bytes_of(value: Any) -> int:
    if isinstance(value, np.ndarray):
        assert value.dtype.char in _DTYPES or value.dtype.char in "lL"
        assert value.dtype.isnative
        assert value.flags.writeable
        return value.nbytes
    if isinstance(value, dict):
        assert all(type(key) is str for key in value)
        return sum(map(_bytes_of, value.values()))
    if isinstance(value, list):
        return sum(map(_bytes_of, value))
    assert value is None or type(value) in (bool, int, float, str)
    return 0


# -- checkpoint: what a training resumes from -----------------------------------------------------


@cache
def parts() -> dict[str, Any]:
    """Return the parts to save and restore; made on demand, since that needs compiled kernels."""
    ag.seed(0)
    model = nn.Linear(2, 1)
    optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=0.1), every=2)
    schedule = optim.StepLR(optimizer, step_size=2)
    ema = optim.EMA(model.parameters())
    batches = Batches(np.eye(2, dtype=np.float32), batch_size=1, seed=0)
    for (x,) in batches:
        optimizer.zero_grad()
        optimizer.step((model(x) ** 2).sum())
        schedule.step()
        ema.update()
    return {
        "model": model,
        "optimizer": optimizer,
        "schedule": schedule,
        "ema": ema,
        "batches": batches,
    }


@cache
def saved_checkpoint() -> bytes:
    with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
        return checkpoints.save(7, parts(), settings={"depth": 3}, score=0.5).read_bytes()


def states() -> dict[str, Any]:
    return {name: part.state_dict() for name, part in parts().items()}


@cache
def initial_states() -> dict[str, Any]:
    return states()


def restore(path: Path) -> Any:
    """Read and restore a checkpoint; if that fails, require that nothing has changed."""
    checkpoint, before = _read(path), initial_states()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of another number of threads
            checkpoint.restore(parts())
    except Exception:
        assert comparable(states()) == comparable(before)
        raise
    return checkpoint


def require_restored(checkpoint: Any, content: bytes) -> None:
    """Require that the parts have the states of the file, and put them back."""
    assert checkpoint.iteration == 7
    assert type(checkpoint.settings) is type(checkpoint.metrics) is dict
    found = states()
    assert comparable(found) == comparable(checkpoint.states)
    for name, part in parts().items():
        part.load_state_dict(initial_states()[name])


# -- idx: the images and labels of MNIST -----------------------------------------------------------

SHAPE = 3, 2, 4
_PIXELS = bytes(range(24))
_IDX = struct.pack(">HBB3I", 0, 8, 3, *SHAPE) + _PIXELS


def damaged_idx(rng: Random) -> bytes:
    """Damage the contents, the field with their length, or the zipped file."""
    kind = rng.randrange(5)
    content = _IDX
    if kind == 0:
        content = damaged(rng, content)
    elif kind == 1:
        dims = [rng.choice((*SHAPE, rng.choice(EXTREMES) % 2**32)) for _ in range(3)]
        ndim = rng.choice((3, 3, 3, 0, 1, 2, 4, 255))
        content = struct.pack(">HBB3I", rng.choice((0, 0, 1)), 8, ndim, *dims) + _PIXELS
    elif kind == 2:
        content += bytes(rng.choice((0, 1, 4096, 2**20)))
    return rezipped(rng, content, damage=kind == 4)


def rezipped(rng: Random, content: bytes, damage: bool) -> bytes:
    """Return a gzip file, perhaps of several members, damaged or not."""
    cut = rng.choice((0, 0, 0, rng.randrange(len(content) + 1)))
    parts = (content[:cut], content[cut:]) if cut else (content,)
    zipped = b"".join(gzip.compress(part, 1, mtime=0) for part in parts)
    return damaged(rng, zipped) if damage else zipped


def require_pixels(array: Any, content: bytes) -> None:
    """Require the array that the file holds according to its header."""
    assert (array.shape, array.dtype) == (SHAPE, np.uint8)
    assert gzip.decompress(content) == _IDX[:16] + array.tobytes()


# -- archive: the IMDb reviews ---------------------------------------------------------------------

REVIEWS = _Reviews(each=1)
_MEMBERS = {
    "aclImdb/": None,
    "aclImdb/train/neg/9_1.txt": b"Bad, bad film",
    "aclImdb/train/pos/0_10.txt": b"A good film",
    "aclImdb/test/neg/1_4.txt": b"",
    "aclImdb/test/pos/5_8.txt": "Überraschend good".encode(),
    "aclImdb/train/labeledBow.feat": b"1 0:9 1:1",
}
_PATHS = [
    "/etc/passwd", "../x", "a/../../x", "..\\x", "C:\\x", "C:x", "\\\\host\\x", "", ".", "/",
    "aclImdb/train/neg/9_1.txt", "aclImdb/train/neg/7_1.txt", "aclImdb/test/pos/" + "9" * 60,
    "aclImdb/train/neg/9_1.txt/", "aclImdb/train/pos/00_1.txt", "a/" * 40, "\udcff", "é" * 49,
]  # fmt: skip
_KINDS = [bytes([code]) for code in range(256)] + [
    b"5",
    b"0",
    b"1",
    b"2",
    b"x",
    b"g",
    b"L",
    b"S",
] * 8


def header_of(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


_HEADERS = {name: header_of(name, len(text or b"")) for name, text in _MEMBERS.items()}


def damaged_archive(rng: Random) -> bytes:
    """Damage the zipped file, the archive, or one header, whose checksum stays correct."""
    kind = rng.randrange(4)
    blocks = [
        (_HEADERS[name], (text or b"") + bytes(-len(text or b"") % 512))
        for name, text in _MEMBERS.items()
    ]
    if kind == 0:
        place = rng.randrange(len(blocks))
        header, text = blocks[place]
        blocks[place] = lying_header(rng, header), text
        if rng.random() < 0.3:
            blocks.insert(rng.randrange(len(blocks)), (lying_header(rng, header), text))
    elif kind == 1:
        place = rng.randrange(len(blocks))
        header, text = blocks[place]
        blocks[place] = header, damaged(rng, text)
        rng.shuffle(blocks)
    archive = b"".join(header + text for header, text in blocks) + bytes(1024)
    if kind == 2:
        archive = damaged(rng, archive)
    elif rng.random() < 0.02:
        archive += bytes(2**20)
    return rezipped(rng, archive, damage=kind == 3)


def lying_header(rng: Random, header: bytes) -> bytes:
    """Change one field, or any bytes, and recompute the checksum."""
    changed = bytearray(header)
    field = rng.randrange(5)
    if field == 0:
        changed[:100] = (
            rng.choice(_PATHS).encode("utf-8", "surrogateescape")[:100].ljust(100, b"\0")
        )
    elif field == 1:
        number = rng.choice((rng.choice(EXTREMES), rng.randrange(2**20), -1, -512, 2**88))
        signed = (number % 2**88).to_bytes(11, "big")
        octal = b"%011o\0" % (number % 2**33)
        changed[124:136] = rng.choice(
            (b"\x80" + signed, b"\xff" + signed, octal, rng.randbytes(12))
        )
    elif field == 2:
        changed[156:157] = rng.choice(_KINDS)
    elif field == 3:
        changed[345:500] = rng.choice(_PATHS).encode("utf-8", "surrogateescape").ljust(155, b"\0")
        changed[257:265] = b"ustar\x0000"
    else:
        changed[:] = damaged(rng, header)[:512].ljust(512, b"\0")
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)


def require_reviews(corpus: Any, content: bytes) -> None:
    """Require the words of the reviews that a simple reader finds, and nothing unsafe."""
    require_corpus(corpus, content)
    archive, texts = gzip.decompress(content), {}
    while archive[:512].strip(b"\0"):
        member = tarfile.TarInfo.frombuf(archive[:512], "utf-8", "surrogateescape")
        assert member.type in (b"0", b"\0", b"5", b"x", b"g", b"L")
        assert not re.search(r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^[A-Za-z]:", member.name)
        end = 512 + (0 if member.isdir() else member.size)
        if not (member.isdir() or member.type in (b"x", b"g", b"L")):
            texts[member.name] = archive[512:end]
        archive = archive[end + -end % 512 :]
    for split in ("train", "test"):
        found = [corpus["words"][number] for number in corpus[split]["numbers"]]
        expected = []
        for label in ("neg", "pos"):
            name = re.compile(rf"aclImdb/{split}/{label}/[0-9]+_[0-9]+\.txt")
            (text,) = (text for member, text in texts.items() if name.fullmatch(member))
            expected += tokenize(text.decode())
        assert found == expected


def require_corpus(corpus: Any, content: bytes) -> None:
    """Require the expected number of reviews, whose words all exist."""
    assert corpus.keys() == {"words", "train", "test"}
    words = corpus["words"]
    assert all(type(word) is str for word in words)
    assert len(set(words)) == len(words)
    for split in ("train", "test"):
        numbers, lengths = corpus[split]["numbers"], corpus[split]["lengths"]
        assert numbers.dtype == lengths.dtype == np.int32
        assert lengths.shape == (2 * REVIEWS.each,)
        assert lengths.min() >= 0
        assert numbers.shape == (lengths.sum(),)
        assert set(numbers.tolist()) <= set(range(len(words)))


# -- cache: the words of the reviews, as saved -----------------------------------------------------

CORPUS = {
    "words": ["bad", "film", "a", "good"],
    "train": {"numbers": np.array([0, 0, 1, 2, 3, 1], np.int32), "lengths": np.int32([3, 3])},
    "test": {"numbers": np.array([3], np.int32), "lengths": np.int32([0, 1])},
}
_CORPUS_FILE = saved(CORPUS)


# -- vocabulary: its words, as the guide saves them ------------------------------------------------

_VOCABULARY_FILE = saved({"words": ["good", "film", "wasn't", "é", "8"]})


def require_vocabulary(vocabulary: Any, content: bytes) -> None:
    words = vocabulary.words
    assert vocabulary.encode(words).tolist() == list(range(2, len(words) + 2))


LOADERS = {
    "weights": Loader(lambda rng: damaged_safetensors(rng, WEIGHTS), ag.load, require_state),
    "checkpoint": Loader(
        lambda rng: damaged_safetensors(rng, [saved_checkpoint()]),
        restore,
        require_restored,
        errors=(ValueError,),
    ),
    "idx": Loader(damaged_idx, lambda path: read_idx(path, SHAPE), require_pixels),
    "archive": Loader(damaged_archive, REVIEWS.read, require_reviews),
    "cache": Loader(
        lambda rng: damaged_safetensors(rng, [_CORPUS_FILE]), REVIEWS.read_cache, require_corpus
    ),
    "vocabulary": Loader(
        lambda rng: damaged_safetensors(rng, [_VOCABULARY_FILE]),
        lambda path: Vocabulary(ag.load(path).get("words", ())),
        require_vocabulary,
        errors=(TypeError, ValueError),
    ),
}
