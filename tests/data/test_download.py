"""Downloads: done once, complete, from the next mirror if necessary, and with clear errors."""

import hashlib
import http.server
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from idx_files import write_idx

from agrad.data import datasets
from agrad.data.download import DownloadError, fetch


@dataclass
class Server:
    """Publishes files on this machine, and misbehaves on request."""

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


def test_an_existing_file_is_used_unchecked(root: Path) -> None:
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
