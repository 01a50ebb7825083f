"""States saved to a file load unchanged; files are complete or do not exist."""

import json
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import agrad as ag
from agrad import serialization
from agrad.errors import CorruptDataError
from agrad.serialization import atomic_write, remove_leftovers

DTYPES = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
)
ARRAYS = npst.arrays(DTYPES, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
LISTS = st.lists(
    st.recursive(
        SCALARS,
        lambda item: st.lists(item, max_size=3) | st.dictionaries(st.text(), item, max_size=3),
        max_leaves=4,
    ),
    max_size=3,
)
STATES = st.dictionaries(
    st.text(),
    st.recursive(
        ARRAYS | SCALARS | LISTS,
        lambda item: st.dictionaries(st.text(), item, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)
EXAMPLE = {
    "model": {"0.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "0.bias": np.ones(2)},
    "optimizer": {"step": 7, "lr": 1e-3, "betas": [0.9, 0.999], "v": {"0": np.array(0.5)}},
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("states") / "state.safetensors"


def array_names(state: Any, *keys: str) -> list[str]:
    if isinstance(state, dict):
        return [name for key in state for name in array_names(state[key], *keys, key)]
    return [".".join(keys)] if isinstance(state, np.ndarray) else []


def assert_identical(found: Any, expected: Any) -> None:
    """Compare types, order of keys, shapes and bits, and dtypes up to their byte order."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_identical(found[key], expected[key])
    elif isinstance(expected, np.ndarray):
        native = expected.astype(expected.dtype.newbyteorder("="))
        assert (found.dtype, found.shape) == (native.dtype, native.shape)
        assert found.dtype.isnative
        assert found.tobytes() == native.tobytes()
    else:
        assert repr(found) == repr(expected)  # tells -0.0 from 0.0, 1 from True, and has nan = nan


@given(state=STATES)
def test_what_is_saved_is_loaded(scratch: Path, state: dict[str, Any]) -> None:
    names = array_names(state)
    assume(len(set(names)) == len(names))
    ag.save(scratch, state)
    assert_identical(ag.load(scratch), state)


@given(array=ARRAYS, data=st.data())
def test_the_layout_in_memory_does_not_matter(scratch: Path, array: Any, data: Any) -> None:
    steps = data.draw(st.tuples(*[st.sampled_from([1, 2, -1])] * array.ndim))
    view = array.T[tuple(slice(None, None, step) for step in steps)]
    ag.save(scratch, {"view": view})
    assert_identical(ag.load(scratch), {"view": np.array(view)})


def test_loaded_arrays_can_be_written_to(scratch: Path) -> None:
    ag.save(scratch, EXAMPLE)
    for _ in range(2):  # a change is not seen by the next load
        weight = ag.load(scratch)["model"]["0.weight"]
        np.testing.assert_array_equal(weight, EXAMPLE["model"]["0.weight"])
        weight += 1


def test_objects_with_a_numpy_method_and_scalars_are_saved_as_arrays(scratch: Path) -> None:
    class Parameter:
        def numpy(self) -> Any:
            return np.arange(3)

    ag.save(scratch, {"p": Parameter(), "scalar": np.float16(2), "float": np.float64(3)})
    expected = {"p": np.arange(3), "scalar": np.array(2, np.float16), "float": np.array(3.0)}
    assert_identical(ag.load(scratch), expected)


def test_other_readers_find_joined_names(scratch: Path) -> None:
    ag.save(scratch, EXAMPLE)
    found = safetensors.numpy.load_file(scratch)
    assert sorted(found) == ["model.0.bias", "model.0.weight", "optimizer.v.0"]
    np.testing.assert_array_equal(found["model.0.weight"], EXAMPLE["model"]["0.weight"])


def test_files_of_other_writers_are_loaded_by_name(scratch: Path) -> None:
    safetensors.numpy.save_file({"a.b": np.ones(2), "c": np.array(True)}, scratch)
    found = ag.load(scratch)
    assert_identical(
        {name: found[name] for name in sorted(found)}, {"a.b": np.ones(2), "c": np.array(True)}
    )


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({"m": {"w": np.ones(2, complex)}}, TypeError, "'m.w' is an array of complex128"),
        ({"m": {"w": np.array(["a"])}}, TypeError, "'m.w' is an array of <U1"),
        ({"m": {"w": np.array([{}])}}, TypeError, "'m.w' is an array of object"),
        ({"m": {"w": (1, 2)}}, TypeError, "'m.w' is of type tuple"),
        ({"m": {"w": [1, {"x": {2}}]}}, TypeError, r"'m.w.1.x' is of type set"),
        ({"m": {"w": [np.ones(2)]}}, TypeError, r"'m.w.0' is of type ndarray"),
        ({"m": {"w": [{1: 2}]}}, TypeError, r"'m.w.0' is of type dict"),
        ({"m": {3: np.ones(2)}}, TypeError, "'m' has the key 3"),
        ({3: np.ones(2)}, TypeError, "the state has the key 3"),
        (np.ones(2), TypeError, "save: state must be a dict, got ndarray"),
        ({"a": {"b": np.ones(2)}, "a.b": np.ones(2)}, ValueError, "'a.b' is .* occurs twice"),
        ({"__metadata__": np.ones(2)}, ValueError, "'__metadata__' is"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_written(
    tmp_path: Path, state: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ag.save(tmp_path / "state", state)
    assert not list(tmp_path.iterdir())


def saved_bytes(path: Path) -> bytes:
    ag.save(path, EXAMPLE)
    return path.read_bytes()


STATES_TO_DAMAGE = {
    "arrays": EXAMPLE,
    "one array": {"w": np.array([32, 32, 10], np.uint8)},  # bytes that are white space in a header
    "no array": {"step": 7},
    "nothing": {},
}


@pytest.mark.parametrize("state", STATES_TO_DAMAGE.values(), ids=STATES_TO_DAMAGE)
def test_every_changed_bit_is_found(scratch: Path, state: dict[str, Any]) -> None:
    ag.save(scratch, state)
    content = bytearray(scratch.read_bytes())
    for position in range(len(content)):
        for bit in range(8):
            content[position] ^= 1 << bit
            scratch.write_bytes(content)
            with pytest.raises(CorruptDataError):
                ag.load(scratch)
            content[position] ^= 1 << bit


@given(data=st.data())
def test_a_changed_byte_is_found(scratch: Path, data: Any) -> None:
    content = bytearray(saved_bytes(scratch))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    scratch.write_bytes(content)
    with suppress(CorruptDataError):
        assert_identical(ag.load(scratch), EXAMPLE)  # what changed was the padding


def test_metadata_of_another_writer_may_have_checksums(scratch: Path) -> None:
    for value in ("agrad", '{"sha256": "", "state": {}}', '{"sha256": 3}'):
        safetensors.numpy.save_file({"a": np.ones(2)}, scratch, metadata={"other": value})
        assert_identical(ag.load(scratch), {"a": np.ones(2)})


def test_bytes_changed_in_many_places_raise_nothing_else(scratch: Path) -> None:
    random = np.random.default_rng(0)
    original = np.frombuffer(saved_bytes(scratch), np.uint8)
    for _ in range(200):
        content = original.copy()
        positions = random.integers(len(content), size=random.integers(1, 20))
        content[positions] = random.integers(256, size=len(positions))
        scratch.write_bytes(content)
        with suppress(CorruptDataError):
            assert type(ag.load(scratch)) is dict


@given(data=st.data())
def test_a_cut_or_extended_file_is_corrupt(scratch: Path, data: Any) -> None:
    content = saved_bytes(scratch)
    kept = data.draw(st.integers(0, len(content) - 1))
    for wrong in (content[:kept], content + content[kept:]):
        scratch.write_bytes(wrong)
        with pytest.raises(CorruptDataError, match=r"state.safetensors' is not an intact file"):
            ag.load(scratch)


@pytest.mark.parametrize(
    "outline", [3, [], None, "a", {"x": "b"}, {"x": "a", "y": "a"}, {}, {"x": [1, 2]}], ids=repr
)
def test_an_outline_that_does_not_fit_the_arrays_is_corrupt(scratch: Path, outline: Any) -> None:
    arrays = {"a": np.ones(2)}
    sealed = json.dumps({"sha256": serialization._digest(outline, arrays), "state": outline})
    safetensors.numpy.save_file(arrays, scratch, metadata={"agrad": sealed})
    with pytest.raises(CorruptDataError) as caught:
        ag.load(scratch)
    assert "checksum" not in str(caught.value)


@pytest.mark.parametrize(
    "sealed",
    ["", "3", "[]", "{}", '{"state": {"x": "a"}}', '{"sha256": "", "state": {}}', "[" * 100_000],
    ids=lambda sealed: sealed[:20],
)
def test_an_invalid_entry_is_corrupt(scratch: Path, sealed: str) -> None:
    safetensors.numpy.save_file({"a": np.ones(2)}, scratch, metadata={"agrad": sealed})
    with pytest.raises(CorruptDataError):
        ag.load(scratch)


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("dtype", ["int32", "uint32", "float32"])
@pytest.mark.parametrize("shape", [(2, 3), (3, 2)])
def test_the_checksum_covers_names_dtypes_and_shapes(name: str, dtype: str, shape: Any) -> None:
    # Their bytes and outlines are the same.
    found = serialization._digest({}, {name: np.zeros(shape, dtype)})
    same = (name, dtype, shape) == ("a", "int32", (2, 3))
    assert (found == serialization._digest({}, {"a": np.zeros((2, 3), np.int32)})) == same


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F64","shape":[1099511627776],"data_offsets":[0,8796093022208]}}',
        b'{"a":{"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}',
        b'{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}',
        b'{"a":{"dtype":"C64","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"I16","shape":[1],'
        b'"data_offsets":[0,2]}}',
    ],
)
def test_a_header_that_lies_or_names_unknown_dtypes_is_corrupt(
    scratch: Path, header: bytes
) -> None:
    scratch.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0")
    with pytest.raises(CorruptDataError):
        ag.load(scratch)


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match="load: there is no file"):
        ag.load(tmp_path / name)


def test_a_failed_save_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "state"
    ag.save(path, EXAMPLE)
    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(PermissionError, match=f"denied: '{path}'"):
                ag.save(path, {})
        assert_identical(ag.load(path), EXAMPLE)
        assert list(tmp_path.iterdir()) == [path]


def test_an_exception_in_the_block_passes_and_leaves_nothing(tmp_path: Path) -> None:
    def write(error: BaseException) -> None:
        with atomic_write(tmp_path / "file") as file:
            file.write(b"half")
            raise error

    for error in (KeyboardInterrupt(), ValueError("mine"), ConnectionError("cut")):
        with pytest.raises(type(error)) as caught:
            write(error)
        assert caught.value is error
        assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"file/state'$"):
        ag.save(tmp_path / "file" / "state", EXAMPLE)
    with pytest.raises(FileNotFoundError, match=r"missing/state'$"):
        ag.save(tmp_path / "missing" / "state", EXAMPLE)
    with pytest.raises(IsADirectoryError):
        ag.save(tmp_path, EXAMPLE)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_symbolic_link_is_followed_and_the_mode_is_as_by_open(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "state")
    ag.save(tmp_path / "link", EXAMPLE)
    (tmp_path / "opened").touch()
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "real" / "state").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "opened").stat().st_mode
    )


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o666, 0o400, 0o777])
def test_a_replaced_file_passes_on_its_permissions(
    tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    ag.save(path, {})
    path.chmod(mode)
    while_written = []
    with atomic_write(path) as file:
        while_written.append(stat.S_IMODE(os.fstat(file.fileno()).st_mode))
        file.write(b"new")
    assert while_written == [mode]
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"

    opened = []
    create = os.open

    def spy(path: Any, flags: int, mode: int = 0o777) -> int:
        opened.append(mode)
        return create(path, flags, mode)

    monkeypatch.setattr(os, "open", spy)
    ag.save(path, EXAMPLE)
    assert opened[0] == 0o600, "others could read the file before its mode was set"


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_replaced_file_passes_on_its_owner_and_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    ag.save(path, {})
    path.chmod(0o664)
    uid, gid = path.stat().st_uid, path.stat().st_gid
    asked = []
    monkeypatch.setattr(os, "chown", lambda _, *ids: asked.append(ids))
    ag.save(path, {})
    assert asked == [(uid, -1), (-1, gid)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o664

    # If the process cannot set the group, its own group gets no more rights than everybody.
    old = path.stat()
    other = os.stat_result([*old[:4], uid, gid + 1, *old[6:]])

    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    serialization._take_permissions(str(path), other)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_or_a_device_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match=f"Not a regular file: '{path}'"):
        ag.save(path, EXAMPLE)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert list(tmp_path.iterdir()) == [path]


def test_one_of_two_simultaneous_writers_wins_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([writer]) * 50_000 for writer in range(4)]
    together = threading.Barrier(len(contents))

    def write(content: bytes) -> None:
        for _ in range(5):
            together.wait(timeout=10)
            with atomic_write(path) as file:
                file.write(content[:1000])
                file.write(content[1000:])

    threads = [threading.Thread(target=write, args=[content]) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def child(code: str, path: Path) -> subprocess.Popen[str]:
    """Start Python on `code`, which finds the file's path in `path`."""
    prelude = "import sys, agrad as ag, numpy as np\npath = sys.argv[1]\n"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", prelude + code, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    path = tmp_path / "state"
    ag.save(path, EXAMPLE)
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
ag.save(path, {"w": np.zeros(100_000)})
"""
    _, errors = child(code, path).communicate(timeout=60)
    assert f"OSError: [Errno 27] File too large: '{path}'" in errors
    assert_identical(ag.load(path), EXAMPLE)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_process_killed_in_mid_save_leaves_the_old_file(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "state"
    ag.save(path, EXAMPLE)
    code = f"""
import os, time
def stop(*_):
    print("now", flush=True)
    time.sleep(60)
os.{moment} = stop
ag.save(path, {{"w": np.zeros(100_000)}})
"""
    with child(code, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGKILL)
    assert_identical(ag.load(path), EXAMPLE)
    rest = [file.name for file in tmp_path.iterdir() if file != path]
    assert len(rest) == 1
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_masked_elements_are_not_saved(tmp_path: Path) -> None:
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    with pytest.raises(TypeError, match=r"save: 'x\.y' has masked elements"):
        ag.save(tmp_path / "file", {"x": {"y": masked}})
    assert not (tmp_path / "file").exists()
