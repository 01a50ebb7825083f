"""Batches, the IDX format, downloads and the data sets themselves."""

import gzip
import hashlib
import http.server
import itertools
import json
import signal
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agrad as ag
from agrad.data import Batches, datasets, digits, fashion_mnist, mnist
from agrad.data.download import DownloadError, fetch
from agrad.data.idx import read_idx
from agrad.errors import CorruptDataError

SETTINGS = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 8),
        "shuffle": st.booleans(),
        "seed": st.none() | st.integers(0, 2**70),
    }
)


def rows(batches: Any) -> list[list[int]]:
    return [batch[0].tolist() for batch in batches]


# Batches


@given(examples=st.integers(1, 30), settings=SETTINGS)
def test_an_epoch_has_every_example_once_and_rows_stay_together(
    examples: int, settings: dict[str, Any]
) -> None:
    x = np.arange(examples)
    batches = Batches(x, np.stack([x, -x], axis=1), **settings)
    for epoch in range(3):
        assert batches.epoch == epoch
        epoch_batches = list(batches)
        assert len(epoch_batches) == len(batches)
        assert all(len(a) == settings["batch_size"] for a, _ in epoch_batches[:-1])
        for a, b in epoch_batches:
            np.testing.assert_array_equal(b, np.stack([a, -a], axis=1))
        order = np.concatenate([a for a, _ in epoch_batches])
        np.testing.assert_array_equal(np.sort(order), x)
        if not settings["shuffle"]:
            np.testing.assert_array_equal(order, x)


@given(examples=st.integers(1, 30), batch_size=st.integers(1, 8))
def test_drop_last_leaves_out_only_a_short_batch(examples: int, batch_size: int) -> None:
    if examples < batch_size:
        with pytest.raises(ValueError, match=f"no batch of {batch_size} in {examples} examples"):
            Batches(np.arange(examples), batch_size=batch_size, drop_last=True)
        return
    batches = Batches(np.arange(examples), batch_size=batch_size, drop_last=True)
    order = rows(batches)
    assert [len(batch) for batch in order] == [batch_size] * (examples // batch_size)
    assert len(batches) == len(order)
    assert len(set(itertools.chain(*order))) == batch_size * len(order)


@given(examples=st.integers(1, 30), settings=SETTINGS)
def test_drop_last_changes_no_order(examples: int, settings: dict[str, Any]) -> None:
    """Every epoch has the batches that it has without, but for the short one at its end."""
    size = settings["batch_size"]
    if examples < size:
        return
    settings["seed"] = settings["seed"] or 0
    whole = Batches(np.arange(examples), **settings)
    dropping = Batches(np.arange(examples), **settings, drop_last=True)
    for _ in range(3):
        assert rows(dropping) == [batch for batch in rows(whole) if len(batch) == size]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 50])
def test_every_epoch_has_another_order(batch_size: int, drop_last: bool) -> None:
    batches = Batches(np.arange(50), batch_size=batch_size, drop_last=drop_last, seed=0)
    orders = [rows(batches) for _ in range(4)]
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    batches.load_state_dict(batches.state_dict() | {"epoch": 1})
    assert rows(batches) == orders[1]


@given(
    examples=st.integers(1, 20),
    settings=SETTINGS,
    given_before=st.integers(0, 50),
    checked=st.integers(1, 30),
)
def test_a_saved_state_resumes_with_the_very_next_batch(
    examples: int, settings: dict[str, Any], given_before: int, checked: int
) -> None:
    x = np.arange(examples)
    batches = Batches(x, **settings)
    for _ in itertools.islice(batches.forever(), given_before):
        state = batches.state_dict()  # saved while the batch is in use
    if not given_before:
        state = batches.state_dict()
    resumed = Batches(x, **{**settings, "seed": 12345})
    resumed.load_state_dict(json.loads(json.dumps(state)))
    assert resumed.epoch == batches.epoch == given_before // len(batches)
    following = rows(itertools.islice(batches.forever(), checked))
    assert rows(itertools.islice(resumed.forever(), checked)) == following
    assert resumed.state_dict() == batches.state_dict()


def test_a_loop_ends_with_the_epoch_also_when_resumed() -> None:
    batches = Batches(np.arange(6), batch_size=2, shuffle=False)
    next(iter(batches))
    assert rows(batches) == [[2, 3], [4, 5]]
    assert rows(batches) == [[0, 1], [2, 3], [4, 5]]


def test_orders_differ_between_epochs_and_seeds_and_heed_nothing_else() -> None:
    def orders(seed: int | None) -> list[list[list[int]]]:
        batches = Batches(np.arange(50), batch_size=50, seed=seed)
        np.random.seed(0)  # noqa: NPY002
        ag.seed(0)
        return [rows(batches) for _ in range(3)]

    found = orders(0) + orders(1)
    assert all(a != b for a, b in itertools.combinations(found, 2))
    assert orders(0) == found[:3]
    ag.seed(1)
    assert orders(0) == found[:3]


def test_the_package_seed_decides_where_none_is_given() -> None:
    orders = []
    for seed in (3, 4, 3):
        ag.seed(seed)
        orders.append([rows(Batches(np.arange(50), batch_size=50)) for _ in range(2)])
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    assert orders[0][0] != orders[0][1]


@pytest.mark.parametrize(
    ("arrays", "settings", "error", "message"),
    [
        ([], {}, ValueError, "at least one array"),
        ([[1, 2]], {}, TypeError, "argument 0 is of type list"),
        ([np.ones(2), np.ones(())], {}, ValueError, "argument 1 is 0-d"),
        ([np.ones(2), np.ones((3, 2))], {}, ValueError, r"the arrays have \[2, 3\] examples"),
        ([np.ones((0, 2))], {}, ValueError, "no batch of 2 in 0 examples"),
        ([np.ones(2)], {"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ([np.ones(2)], {"batch_size": 1.0}, TypeError, "batch_size must be an integer, got float"),
        ([np.ones(2)], {"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ([np.ones(2)], {"seed": "a"}, TypeError, "seed must be an integer, got str"),
    ],
)
def test_arguments_that_make_no_batches_are_named(
    arrays: list[Any], settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"Batches: {message}"):
        Batches(*arrays, **{"batch_size": 2, **settings})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"examples": 8}, "saved with examples=8, these Batches have 7"),
        ({"batch_size": 3}, "saved with batch_size=3, these Batches have 2"),
        ({"shuffle": False}, "saved with shuffle=False"),
        ({"drop_last": True}, "saved with drop_last=True"),
        ({"extra": 1}, "not a state of Batches"),
        ({"batch": 4}, "batch must be below 4, .* got 4"),
        ({"batch": -1}, "batch must be at least 0"),
        ({"epoch": -1}, "epoch must be at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 0.5}, "seed must be an integer"),
    ],
)
def test_a_state_of_other_batches_is_refused_and_changes_nothing(
    change: dict[str, Any], message: str
) -> None:
    batches = Batches(np.arange(7), batch_size=2)
    before = batches.state_dict()
    with pytest.raises((TypeError, ValueError), match=message):
        batches.load_state_dict({**before, "epoch": 1, "batch": 2, **change})
    assert batches.state_dict() == before


# IDX


def write_idx(path: Path, array: Any) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))


@pytest.fixture(scope="module")
def idx_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx") / "file.gz"


SHAPES = st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple)


@given(shape=SHAPES, seed=st.integers(0, 9))
def test_idx_round_trip(idx_path: Path, shape: tuple[int, ...], seed: int) -> None:
    array = np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)
    write_idx(idx_path, array)
    found = read_idx(idx_path, shape)
    assert (found.dtype, found.shape) == (np.uint8, shape)
    np.testing.assert_array_equal(found, array)


@given(data=st.data(), unzipped=st.booleans())
def test_a_damaged_idx_file_is_corrupt_or_of_the_same_shape(
    idx_path: Path, data: Any, unzipped: bool
) -> None:
    array = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
    write_idx(idx_path, array)
    content = idx_path.read_bytes()
    content = bytearray(gzip.decompress(content) if unzipped else content)
    if data.draw(st.booleans(), label="cut"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] ^= data.draw(st.integers(1, 255))
    idx_path.write_bytes(gzip.compress(content) if unzipped else content)
    try:
        found = read_idx(idx_path, array.shape)
    except CorruptDataError:
        return
    assert found.shape == array.shape
    if not unzipped:  # gzip's own checksum
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("content", "difference"),
    [
        (struct.pack(">HBB2I", 0, 8, 2, 2, 3) + b"12345", "6 bytes should follow .* only 5"),
        (struct.pack(">HBB2I", 0, 8, 2, 2, 3) + b"1234567", "6 bytes should follow .* are more"),
        (struct.pack(">HBB2I", 0, 8, 2, 3, 2) + b"123456", r"its shape is \(3, 2\), not \(2, 3\)"),
        (struct.pack(">HBB2I", 0, 8, 2, 2**32 - 1, 2**32 - 1), r"its shape is \(4294967295, 4"),
        (
            struct.pack(">HBB2I", 0, 13, 2, 2, 3) + b"123456",
            "starts with 00000d02, not with 000008",
        ),
        (struct.pack(">HBB2I", 1, 8, 2, 2, 3) + b"123456", "starts with 00010802"),
        (struct.pack(">HBBI", 0, 8, 1, 6) + b"123456", "starts with 00000801, not with 00000802"),
        (b"\0\0\x08\x02\0", "ends inside the header, after 5 bytes"),
        (b"", "ends inside the header, after 0 bytes"),
    ],
)
def test_what_differs_in_an_idx_file_is_named(
    tmp_path: Path, content: bytes, difference: str
) -> None:
    path = tmp_path / "named.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(CorruptDataError, match=f"named.gz is damaged .*{difference}"):
        read_idx(path, (2, 3))


def test_a_file_that_is_not_gzip_is_corrupt(tmp_path: Path) -> None:
    for content in (b"", b"<html>not found</html>", gzip.compress(b"x" * 99)[:-9]):
        (tmp_path / "file.gz").write_bytes(content)
        with pytest.raises(CorruptDataError):
            read_idx(tmp_path / "file.gz", (2,))


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 10) + bytes(50_000_000), 1))
    tracemalloc.start()
    with pytest.raises(CorruptDataError, match="there are more"):
        read_idx(path, (10,))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


# Downloads


@dataclass
class Server:
    """Publishes files on this machine, and misbehaves as told."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    cut: bool = False  # close each connection half way
    stall: bool = False  # send half, then no more
    stopped: threading.Event = field(default_factory=threading.Event)

    def publish(self, name: str, content: bytes) -> str:
        self.files[name] = content
        return hashlib.md5(content).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    published = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/")
            published.requests.append(name)
            content = published.files.get(name)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            half = len(content) // 2 if published.cut or published.stall else len(content)
            self.wfile.write(content[:half])
            if published.stall:
                published.stopped.wait(timeout=60)

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        published.url = f"http://127.0.0.1:{listening.server_port}/"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield published
        published.stopped.set()
        listening.shutdown()
        thread.join()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "data"
    monkeypatch.setenv("AGRAD_DATA", str(root))
    return root


def test_a_data_set_is_downloaded_once(server: Server, root: Path) -> None:
    images = np.arange(3 * 28 * 28).reshape(3, 28, 28).astype(np.uint8)
    labels = np.array([7, 0, 9], np.uint8)
    md5 = {}
    for name, array in [("images-idx3", images), ("labels-idx1", labels)]:
        name = f"train-{name}-ubyte.gz"
        write_idx(root.parent / "made", array)
        md5[name] = server.publish(name, (root.parent / "made").read_bytes())
    made = datasets._IdxDataSet("made", (server.url,), md5, train=3)
    for _ in range(2):
        found_images, found_labels = made.load("train")
        assert (found_images.dtype, found_labels.dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(found_images, (images / 255).astype(np.float32))
        np.testing.assert_array_equal(found_labels, labels)
    assert server.requests == sorted(md5)
    assert sorted(path.name for path in (root / "made").iterdir()) == sorted(md5)


def test_without_agrad_data_the_cache_folder_keeps_the_files(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGRAD_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    path = fetch("made/file", server.publish("file", b"content"), [server.url])
    assert path == tmp_path / "cache" / "agrad" / "made" / "file"
    assert path.read_bytes() == b"content"


def test_a_file_found_is_used_as_it_is(root: Path) -> None:
    (root / "made").mkdir(parents=True)
    (root / "made" / "file").write_bytes(b"packed another way")
    assert fetch("made/file", "0" * 32, []).read_bytes() == b"packed another way"


@pytest.mark.parametrize(
    ("content", "cut", "reason"),
    [
        (b"other content", False, "the MD5 of the download is"),
        (b"content" * 1000, True, "(IncompleteRead|Connection broken)"),
        (None, False, "404"),
    ],
    ids=["wrong checksum", "cut half way", "not found"],
)
def test_a_bad_download_leaves_nothing(
    server: Server, root: Path, content: bytes | None, cut: bool, reason: str
) -> None:
    server.cut = cut
    if content is not None:
        server.publish("file", content)
    md5 = hashlib.md5(b"content" * 1000).hexdigest()
    with pytest.raises(DownloadError, match=f"set AGRAD_DATA(.|\n)*{server.url}file: .*{reason}"):
        fetch("made/file", md5, [server.url])
    assert not list((root / "made").iterdir())


def test_the_next_mirror_is_tried(server: Server, root: Path) -> None:
    md5 = server.publish("good/file", b"content")
    server.publish("bad/file", b"<html>")
    mirrors = [server.url + folder for folder in ("none/", "bad/", "good/", "spare/")]
    assert fetch("made/file", md5, mirrors).read_bytes() == b"content"
    assert server.requests == ["none/file", "bad/file", "good/file"]


def test_no_server_is_a_download_error(root: Path) -> None:
    with pytest.raises(DownloadError, match="could not be downloaded"):
        fetch("made/file", "0" * 32, ["http://127.0.0.1:1/"])


def test_a_folder_that_cannot_be_written_is_named(server: Server, root: Path) -> None:
    root.write_bytes(b"a file in place of the folder")
    with pytest.raises(OSError, match="cannot be written; make the folder writable") as caught:
        fetch("made/file", server.publish("file", b"content"), [server.url])
    assert caught.value.filename == str(root / "made" / "file")
    assert not server.requests


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_download_killed_half_way_leaves_no_file_of_that_name(server: Server, root: Path) -> None:
    server.stall = True
    md5 = server.publish("file", b"content" * 100_000)
    code = "import sys; from agrad.data.download import fetch; fetch(*sys.argv[1:3], sys.argv[3:])"
    command = [sys.executable, "-P", "-c", code, "made/file", md5, server.url]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not partly_written(root / "made"):
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (root / "made" / "file").exists()
    server.stall = False
    assert fetch("made/file", md5, [server.url]).read_bytes() == b"content" * 100_000


def partly_written(folder: Path) -> bool:
    return folder.exists() and any(file.stat().st_size for file in folder.iterdir())


@pytest.mark.parametrize("module", ["pooch", "rich.progress"])
def test_missing_packages_are_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'need (pooch|rich): pip install "agrad\[demo\]"'):
        mnist()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'need sklearn: pip install "agrad\[demo\]"'):
        digits()


# The data sets


@pytest.mark.parametrize("data_set", [digits, mnist, fashion_mnist])
def test_the_split_is_train_or_test(data_set: Any) -> None:
    with pytest.raises(ValueError, match=r"split must be .*, got 'tset'"):
        data_set("tset")


def test_digits_are_split_evenly_and_wholly() -> None:
    source = pytest.importorskip("sklearn.datasets").load_digits()
    (images, labels), (test_images, test_labels) = digits("train"), digits("test")
    assert (images.shape, test_images.shape) == ((1437, 8, 8), (360, 8, 8))
    assert (images.dtype, labels.dtype) == (np.float32, np.int64)
    assert (images.min(), images.max()) == (0, 1)
    shares = np.bincount(test_labels) / np.bincount(source.target)
    assert np.all(np.abs(shares - 0.2) < 0.01)

    def counts(images: Any, labels: Any) -> Any:
        table = np.column_stack([labels, images.reshape(len(images), -1)])
        return np.unique(table, axis=0, return_counts=True)

    both = counts(np.concatenate([images, test_images]) * 16, np.concatenate([labels, test_labels]))
    for found, expected in zip(both, counts(source.images, source.target)):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("split", "md5s"),
    [
        ("train", "6bbc9ace898e44ae57da46a324031adb a25bea736e30d166cdddb491f175f624"),
        ("test", "2646ac647ad5339dbf082846283269ea 27ae3e4e09519cfbb04c329615203637"),
    ],
)
def test_mnist_is_what_was_published(data_path: Path, split: Any, md5s: str) -> None:
    images, labels = mnist(split)
    count = len(labels)
    assert images.shape == (count, 28, 28)
    assert (images.dtype, labels.dtype) == (np.float32, np.int64)
    pixels = np.rint(images * 255).astype(np.uint8)
    np.testing.assert_array_equal(pixels[:100] / np.float32(255), images[:100])
    for array, expected in zip((pixels, labels.astype(np.uint8)), md5s.split()):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        assert hashlib.md5(header + array.tobytes()).hexdigest() == expected


@pytest.mark.parametrize(("split", "each"), [("train", 6000), ("test", 1000)])
def test_fashion_mnist_has_ten_even_classes(data_path: Path, split: Any, each: int) -> None:
    images, labels = fashion_mnist(split)
    assert images.shape == (10 * each, 28, 28)
    assert (images.min(), images.max()) == (0, 1)
    np.testing.assert_array_equal(np.bincount(labels), [each] * 10)
