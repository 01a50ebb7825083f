"""The IMDb reviews: from archives made here, valid and hostile, and from the published data."""

import gzip
import re
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agrad as ag
from agrad.data import imdb, imdb_vocabulary, movie_reviews, tokenize
from agrad.data.archive import read_members
from agrad.data.movie_reviews import _Reviews
from agrad.errors import CorruptDataError

REVIEWS = {
    "aclImdb/train/neg/10_2.txt": "Bad, BAD.<br /><br />Awful film",
    "aclImdb/train/neg/9_1.txt": "bad film",
    "aclImdb/train/pos/0_10.txt": "A good film",
    "aclImdb/train/pos/1_7.txt": "",
    "aclImdb/test/neg/1_4.txt": "a dull film",
    "aclImdb/test/neg/0_3.txt": "bad",
    "aclImdb/test/pos/5_8.txt": "a good, long, good one",
    "aclImdb/test/pos/6_9.txt": "Überraschend good",
}
ANY = re.compile(".*")
SMALL = _Reviews(each=2)


def member(name: str, content: bytes | str = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    content = content.encode() if isinstance(content, str) else content
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar_of(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.GNU_FORMAT) -> bytes:
    """Return an archive with exactly the sizes, names and kinds of the members."""
    parts = []
    for info, content in members:
        parts += [info.tobuf(format), content, bytes(-len(content) % 512)]
    return b"".join(parts) + bytes(1024)


def whole(extra: Any = (), reviews: dict[str, str] = REVIEWS) -> bytes:
    return tar_of(*(member(name, text) for name, text in reviews.items()), *extra)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives") / "archive.tar.gz"


def read(path: Path, tar: bytes, packed: bool = False) -> Any:
    path.write_bytes(tar if packed else gzip.compress(tar, 1, mtime=0))
    return SMALL.read(path)


def texts(corpus: Any) -> list[list[list[str]]]:
    """Return the words of the reviews of either split."""
    found = []
    for split in ("train", "test"):
        reviews = np.split(corpus[split]["numbers"], np.cumsum(corpus[split]["lengths"])[:-1])
        found.append([[corpus["words"][i] for i in review] for review in reviews])
    return found


# In the order that they come in.
TRAIN = ["neg/9_1", "neg/10_2", "pos/0_10", "pos/1_7"]
TEST = ["neg/0_3", "neg/1_4", "pos/5_8", "pos/6_9"]
EXPECTED = [
    [tokenize(REVIEWS[f"aclImdb/{split}/{name}.txt"]) for name in names]
    for split, names in (("train", TRAIN), ("test", TEST))
]


def test_reviews_come_in_the_order_of_labels_and_ids(path: Path) -> None:
    shuffled = dict(sorted(REVIEWS.items(), key=lambda item: item[1]))
    for reviews in (REVIEWS, shuffled):
        corpus = read(path, whole(reviews=reviews))
        assert texts(corpus) == EXPECTED


def test_other_files_are_skipped(path: Path) -> None:
    others = [
        member("aclImdb/train/", type=tarfile.DIRTYPE),
        member("aclImdb/train/unsup/0_0.txt", b"\xff not UTF-8"),
        member("aclImdb/train/labeledBow.feat", bytes(70_000)),
        member("aclImdb/train/pos/notes.txt", "no review"),
    ]
    extended = tarfile.TarInfo("aclImdb/" + "long/" * 60 + "name.txt")
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        tar = whole([*others, *others])
        tar = tar_of(*others, (extended, b""), format=format)[:-1024] + tar
        assert texts(read(path, tar)) == EXPECTED


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (member("/etc/passwd", "x"), "path '/etc/passwd' leaves the folder"),
        (member("../evil.txt", "x"), "path '../evil.txt' leaves"),
        (member("aclImdb/train/neg/../../../../evil.txt", "x"), "leaves"),
        (member("..\\evil.txt", "x"), "leaves"),
        (member("C:\\evil.txt", "x"), "leaves"),
        (member("aclImdb/link", type=tarfile.SYMTYPE, linkname="/etc"), "'aclImdb/link' is a link"),
        (member("aclImdb/link", type=tarfile.LNKTYPE, linkname="x"), "is a link"),
        (member("aclImdb/null", type=tarfile.CHRTYPE), "a device"),
        (member("aclImdb/disk", type=tarfile.BLKTYPE), "a device"),
        (member("aclImdb/pipe", type=tarfile.FIFOTYPE), "a device"),
        (member("aclImdb/odd", type=b"Z"), "unknown type"),
        (member("aclImdb/train/neg/7_1.txt", type=tarfile.GNUTYPE_SPARSE), "unknown type"),
        (member("aclImdb/x", size=-1), "negative size"),
        (member("aclImdb/train/neg/7_1.txt", bytes(65_537)), "has 65537 bytes, more than 65536"),
        (member("aclImdb/train/neg/7_1.txt", size=2**40), "has 1099511627776 bytes"),
        (member("aclImdb/feat", size=2**40), "ends inside a member"),
        (member("aclImdb/feat", size=500), "ends inside a member"),
        (member("x", size=2**40, type=tarfile.XHDTYPE), "ends inside a member"),
        (member("x", size=2**33, type=tarfile.GNUTYPE_LONGNAME), "ends inside a member"),
        (member("aclImdb/train/neg/7_1.txt", b"caf\xe9"), "neg/7_1.txt' is not UTF-8 text"),
        (member("aclImdb/train/neg/9_1.txt", "again"), "neg/9_1.txt' occurs twice"),
        (member("aclImdb/train/neg/7_1.txt", "more"), "aclImdb/train/neg has 3 reviews, not 2"),
    ],
)  # fmt: skip
def test_a_hostile_member_is_refused_and_nothing_is_written(
    path: Path, extra: Any, message: str
) -> None:
    tar = whole()[:-1024] + extra[0].tobuf(tarfile.GNU_FORMAT)
    tar += extra[1] + bytes(-len(extra[1]) % 512) + (bytes(1024) if len(extra[1]) else b"")
    with pytest.raises(CorruptDataError, match=re.escape(message)) as caught:
        read(path, tar)
    assert str(path) in str(caught.value)
    assert list(path.parent.iterdir()) == [path]


def test_missing_reviews_are_counted(path: Path) -> None:
    fewer = {name: text for name, text in REVIEWS.items() if "test/pos" not in name}
    with pytest.raises(CorruptDataError, match="aclImdb/test/pos has 0 reviews, not 2"):
        read(path, whole(reviews=fewer))
    for content in (b"", b"<html>not found</html>", gzip.compress(b"")):
        with pytest.raises(CorruptDataError):
            read(path, content, packed=True)


def test_an_archive_that_unzips_to_too_much_is_refused(path: Path) -> None:
    path.write_bytes(gzip.compress(tar_of(member("a", bytes(3000))), 1))
    ((_, content),) = read_members(path, ANY, max_size=3000, max_total=6000)
    assert content == bytes(3000)
    for max_total in (5000, 2000):
        with pytest.raises(CorruptDataError, match=f"unzips to more than {max_total} bytes"):
            list(read_members(path, ANY, max_size=3000, max_total=max_total))


@pytest.mark.parametrize("name", ["aclImdb/feat", "aclImdb/train/neg/7_1.txt"])
def test_a_gzip_bomb_is_not_unpacked(path: Path, name: str) -> None:
    path.write_bytes(gzip.compress(whole([member(name, bytes(50_000_000))]), 1))
    tracemalloc.start()
    if name == "aclImdb/feat":
        SMALL.read(path)
    else:
        with pytest.raises(CorruptDataError, match="has 50000000 bytes"):
            SMALL.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


def damaged(data: st.DataObject, content: bytes) -> bytes:
    changed = bytearray(content)
    if data.draw(st.booleans(), label="cut"):
        return bytes(changed[: data.draw(st.integers(0, len(changed) - 1))])
    for position in data.draw(st.sets(st.integers(0, len(changed) - 1), min_size=1, max_size=3)):
        changed[position] ^= data.draw(st.integers(1, 255))
    return bytes(changed)


@given(data=st.data())
def test_a_damaged_gzip_file_is_corrupt_or_gives_the_same(path: Path, data: Any) -> None:
    try:
        corpus = read(path, damaged(data, gzip.compress(whole(), mtime=0)), packed=True)
    except CorruptDataError:
        return
    assert texts(corpus) == EXPECTED


@given(data=st.data())
def test_a_damaged_tar_file_is_corrupt_or_has_all_reviews(path: Path, data: Any) -> None:
    # Only gzip's checksum protects the contents, and the test recomputes it.
    try:
        corpus = read(path, damaged(data, whole()))
    except CorruptDataError:
        return
    for split in ("train", "test"):
        assert len(corpus[split]["lengths"]) == 4
        assert len(corpus[split]["numbers"]) == corpus[split]["lengths"].sum()


# Arrays and cache


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "data"
    (root / "imdb").mkdir(parents=True)
    (root / "imdb" / "aclImdb_v1.tar.gz").write_bytes(gzip.compress(whole(), mtime=0))
    monkeypatch.setenv("AGRAD_DATA", str(root))
    monkeypatch.setattr(movie_reviews, "_IMDB", SMALL)
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    return root


def test_reviews_become_ids_and_labels(root: Path) -> None:
    vocabulary = imdb_vocabulary(6)
    assert vocabulary.words == ["bad", "film", "a", "awful"]
    for keep in ("start", "end"):
        ids, labels = imdb("train", vocabulary_size=6, length=3, keep=keep)
        assert (ids.dtype, labels.dtype) == (np.int32, np.int64)
        np.testing.assert_array_equal(labels, [0, 0, 1, 1])
        first = [2, 2, 5] if keep == "start" else [2, 5, 3]
        np.testing.assert_array_equal(ids, [[2, 3, 0], first, [4, 1, 3], [0, 0, 0]])
    ids, labels = imdb("test", vocabulary_size=6, length=4)
    np.testing.assert_array_equal(labels, [0, 0, 1, 1])
    np.testing.assert_array_equal(ids, [[2, 0, 0, 0], [4, 1, 3, 0], [4, 1, 1, 1], [1, 1, 0, 0]])


def cached(folder: Path) -> list[Path]:
    return sorted(folder.rglob("words-*.safetensors"))


def test_the_archive_is_read_once_whatever_the_arguments(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = imdb("train", 6, 3), imdb("test", 6, 3)
    assert cached(root.parent) == cached(root / "imdb")
    assert len(cached(root)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(_Reviews, "read", lambda *_: pytest.fail("read again"))
        again = imdb("train", 6, 3), imdb("test", 6, 3)
        assert imdb("train", 99, 7)[0].shape == (4, 7)
    for before, after in zip(expected, again):
        for array, other in zip(before, after):
            np.testing.assert_array_equal(array, other)


def test_another_archive_is_read_again(root: Path) -> None:
    first = imdb()[0]
    reviews = {**REVIEWS, "aclImdb/train/pos/1_7.txt": "bad"}
    (root / "imdb" / "aclImdb_v1.tar.gz").write_bytes(gzip.compress(whole(reviews=reviews)))
    second = imdb()[0]
    assert (first != second).sum() == 1
    assert len(cached(root)) == 2


def test_a_damaged_cache_is_rebuilt(root: Path) -> None:
    expected = imdb()[0]
    (cache,) = cached(root)
    content = cache.read_bytes()
    for damage in (b"", content[:-1], content[: len(content) // 2], b"junk" + content):
        cache.write_bytes(damage)
        np.testing.assert_array_equal(imdb()[0], expected)
        assert cache.read_bytes() == content


@pytest.mark.parametrize(
    ("part", "value"),
    [
        (("train", "numbers"), np.full(9, 2**30, np.int32)),  # would be counted up to
        (("train", "numbers"), np.full(9, -1, np.int32)),
        (("train", "numbers"), np.zeros(9, np.int64)),
        (("train", "numbers"), np.zeros((9, 1), np.int32)),
        (("train", "lengths"), np.array([10, -1, 0, 0], np.int32)),
        (("train", "lengths"), np.array([9], np.int32)),
        (("train", "lengths"), np.array([1, 1, 1, 1], np.int32)),
        (("train", "lengths"), [9, 0, 0, 0]),
        (("test",), 3),
        (("words",), ["bad"] * 30),
        (("words",), [0] * 30),
        (("extra",), 1),
    ],
)
def test_a_cache_with_other_content_is_rebuilt(
    root: Path, part: tuple[str, ...], value: Any
) -> None:
    expected = imdb()[0]
    (cache,) = cached(root)
    content = cache.read_bytes()
    corpus = ag.load(cache)
    assert corpus["train"]["numbers"].shape == (9,)
    *parents, last = part
    folder = corpus
    for parent in parents:
        folder = folder[parent]
    folder[last] = value
    ag.save(cache, corpus)
    np.testing.assert_array_equal(imdb()[0], expected)
    assert cache.read_bytes() == content


def test_beside_a_read_only_archive_the_users_folder_keeps_the_cache(
    root: Path, tmp_path: Path
) -> None:
    (root / "imdb").chmod(0o555)
    try:
        imdb()
    finally:
        (root / "imdb").chmod(0o755)
    assert not cached(root)
    assert len(cached(tmp_path / "cache" / "agrad" / "imdb")) == 1


def test_where_nothing_can_be_cached_a_warning_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "not here")

    monkeypatch.setattr(movie_reviews, "save", refuse)
    with pytest.warns(UserWarning, match="cannot be cached .*not here"):
        assert imdb()[0].shape == (4, 200)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: imdb("tset"), ValueError, "split must be .* 'tset'"),
        (lambda: imdb(vocabulary_size=1), ValueError, "imdb: vocabulary_size must be at least 2"),
        (lambda: imdb(vocabulary_size=5e3), TypeError, "imdb: vocabulary_size .* got float"),
        (lambda: imdb(length=0), ValueError, "imdb: length must be at least 1, got 0"),
        (lambda: imdb(keep="middle"), ValueError, "keep must be .* 'middle'"),
        (lambda: imdb_vocabulary(1), ValueError, "imdb_vocabulary: size must be at least 2"),
    ],
)
def test_wrong_arguments_are_named(
    root: Path, call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


# The published reviews


@pytest.fixture(scope="session")
def published(data_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with only the archive, so that nothing is written beside the original."""
    archive = data_path / "imdb" / "aclImdb_v1.tar.gz"
    if not archive.exists():
        pytest.skip("AGRAD_DATA has no IMDb reviews")
    folder = tmp_path_factory.mktemp("published") / "imdb"
    folder.mkdir()
    (folder / archive.name).symlink_to(archive)
    return folder.parent


@pytest.mark.slow
def test_the_published_reviews(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGRAD_DATA", str(published))
    seconds = []
    for _ in range(2):
        start = time.process_time()
        splits = [imdb(split) for split in ("train", "test")]
        seconds.append(time.process_time() - start)
    for ids, labels in splits:
        assert ids.shape == (25_000, 200)
        assert ids.max() == 4999
        np.testing.assert_array_equal(np.bincount(labels), [12_500, 12_500])
        assert (ids[:, 0] != 0).all()
        assert 0.05 < (ids == 1).mean() < 0.1
    vocabulary = imdb_vocabulary()
    assert len(vocabulary) == 5000
    assert vocabulary.words[:5] == ["the", "and", "a", "of", "to"]
    (bad, good), (ids, labels) = vocabulary.encode(["awful", "wonderful"]), splits[0]
    for word, label in ((bad, 0), (good, 1)):
        counts = np.bincount(labels[(ids == word).any(axis=1)])
        assert counts[label] > 3 * counts[1 - label]
    assert seconds[0] < 30
    assert seconds[1] < 2
