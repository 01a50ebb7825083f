"""Damage to files and states: random changes of bytes, and false values."""

import math
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

__all__ = ["EXTREMES", "comparable", "damaged", "lying"]

_POWERS = (8, 9, 15, 16, 24, 31, 32, 40, 53, 62, 63, 64)
EXTREMES = sorted({0, 3, 7, 100} | {2**power + near for power in _POWERS for near in (-1, 0, 1)})
"""Integers at which counts, offsets and their products overflow or are mistaken for others."""

_STRANGE: list[Any] = [
    None, True, False, -1, -(2**31), -(2**63), 0.5, -0.0, 1e308, math.nan, math.inf,
    "", "a", "0", "\0", "\ud800", "words", "F64", "BF16", "agrad", "é" * 100,
    [], [0], [[]], [1, "a"], {}, {"a": 1}, {"": []},
]  # fmt: skip


def damaged(rng: Random, content: bytes) -> bytes:
    """Return `content` after a few random changes, which differs from it."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(_CHANGES)(rng, content)
    return content


def lying(rng: Random, value: Any) -> Any:
    """Return a copy of nested dicts and lists in which one value is missing, moved or replaced."""
    if isinstance(value, dict) and value and rng.random() < 0.95:
        changed: Any = dict(value)
        key = rng.choice(list(value))
        action = rng.random()
        if action < 0.05:
            del changed[key]
        elif action < 0.1:
            changed[rng.choice(("", "a", "\0", "0", *value))] = changed.pop(key)
        elif action < 0.15:
            changed[rng.choice(("extra", key + "."))] = value[key]
        else:
            changed[key] = lying(rng, value[key])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.9:
        changed = list(value)
        place = rng.randrange(len(value))
        action = rng.random()
        if action < 0.1:
            del changed[place]
        elif action < 0.2:
            changed.insert(place, rng.choice(value))
        else:
            changed[place] = lying(rng, value[place])
        return changed
    if isinstance(value, int) and rng.random() < 0.3:
        return value + rng.choice((-1, 1))
    return rng.choice(EXTREMES) if rng.random() < 0.4 else rng.choice(_STRANGE)


def comparable(value: Any) -> Any:
    """Return nested states for comparison by ==, with integers as floats, which they may become."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray) and (value.ndim or value.dtype.kind == "f"):
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, np.ndarray):
        value = value.item()
    return float(value) if isinstance(value, int) and abs(value) < 2**1000 else value


def _slice(rng: Random, content: bytes) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + rng.choice((1, 2, 4, 8, 16, 64, 512)))


def _put(content: bytes, start: int, part: bytes) -> bytes:
    return content[:start] + part + content[start + len(part) :]


def _flip(rng: Random, content: bytes) -> bytes:
    if not content:
        return content
    place = rng.randrange(len(content))
    return _put(content, place, bytes([content[place] ^ 1 << rng.randrange(8)]))


def _overwrite(rng: Random, content: bytes) -> bytes:
    start, stop = _slice(rng, content)
    return _put(content, start, rng.randbytes(stop - start))


def _number(rng: Random, content: bytes) -> bytes:
    size = rng.choice("BHIQ")
    code = rng.choice("<>") + size
    number = rng.choice(EXTREMES) % 2 ** (8 * struct.calcsize(code))
    return _put(content, rng.randrange(len(content) + 1), struct.pack(code, number))


def _cut(rng: Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _delete(rng: Random, content: bytes) -> bytes:
    start, stop = _slice(rng, content)
    return content[:start] + content[stop:]


def _repeat(rng: Random, content: bytes) -> bytes:
    start, stop = _slice(rng, content)
    times = rng.choice((1, 1, 2, 100))
    return content[:stop] + content[start:stop] * times + content[stop:]


def _move(rng: Random, content: bytes) -> bytes:
    start, stop = _slice(rng, content)
    return _put(content, rng.randrange(len(content) + 1), content[start:stop])


def _insert(rng: Random, content: bytes) -> bytes:
    place = rng.randrange(len(content) + 1)
    run = rng.choice((b"\0", b"\xff", b"[", b'{"a":', b"9")) * rng.choice((1, 8, 5000))
    part = run if rng.random() < 0.5 else rng.randbytes(rng.choice((1, 8, 64)))
    return content[:place] + part + content[place:]


_CHANGES: tuple[Callable[[Random, bytes], bytes], ...] = (
    _flip,
    _flip,
    _overwrite,
    _number,
    _cut,
    _delete,
    _repeat,
    _move,
    _insert,
)
