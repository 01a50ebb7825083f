"""Checkpoints: resume an interrupted training bit for bit."""

import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from agrad import random
from agrad.arguments import integer
from agrad.errors import CorruptDataError, NonFiniteError
from agrad.kernels.cpu.threads import blas_threads
from agrad.locking import locked
from agrad.nn import Module
from agrad.serialization import load, remove_leftovers, save

__all__ = ["Checkpoint", "Checkpoints", "Stateful", "read_checkpoints"]

_VERSION = version("agrad")
# The entry of a file for everything that is not the state of a part.
_RECORD = "checkpoint"
_RECORD_KEYS = {"agrad", "iteration", "kinds", "random", "threads", "best", "settings", "metrics"}


class Stateful(Protocol):
    """Any part that a checkpoint can hold: modules, optimizers, schedules, `EMA`, `Batches`.

    A checkpoint records the kind of each part, and refuses a part of another kind. The kind is the
    name of the part's class, unless the part has an attribute `state_kind` that says more.
    """

    def state_dict(self) -> Mapping[str, Any]:
        """Return a copy of the state that `agrad.save` can write."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Restore a state, or raise a ValueError or TypeError and change nothing."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read from a file.

    Attributes:
        path: The file.
        record: The data about the run and the checkpoint itself.
        states: The states of the parts by name.
    """

    path: Path
    record: dict[str, Any]
    states: dict[str, Any]

    @property
    def iteration(self) -> int:
        """The number of steps before the checkpoint."""
        iteration: int = self.record["iteration"]
        return iteration

    @property
    def settings(self) -> dict[str, Any]:
        """The `settings` passed to `Checkpoints.save`."""
        settings: dict[str, Any] = self.record["settings"]
        return settings

    @property
    def metrics(self) -> dict[str, Any]:
        """The `metrics` passed to `Checkpoints.save`."""
        metrics: dict[str, Any] = self.record["metrics"]
        return metrics

    def restore(self, parts: Mapping[str, Stateful]) -> int:
        """Restore the states of the parts and of the calling thread's random generator.

        Args:
            parts: The parts by the names under which they were saved. Create them with the same
                options: a state holds what training changes, not the options of a rule.

        Returns:
            The number of steps before the checkpoint.

        Raises:
            ValueError: Names or types of parts differ, or a state does not fit. The message says
                what differs, and nothing has changed.

        Warns:
            RuntimeWarning: NumPy's BLAS uses another number of threads than when the checkpoint was
                saved, so the training may not continue with the same last bits.
        """
        kinds = self.record["kinds"]
        if kinds.keys() != parts.keys():
            raise ValueError(
                f"Checkpoint.restore: {os.fspath(self.path)!r} has the parts {sorted(kinds)}, "
                f"not {sorted(parts)}"
            )
        for name, part in parts.items():
            if kinds[name] != _kind(part):
                raise ValueError(
                    f"Checkpoint.restore: in {os.fspath(self.path)!r} the {name} is of type "
                    f"{kinds[name]}, but parts has {_kind(part)}"
                )
        before = {name: part.state_dict() for name, part in parts.items()}
        try:
            for name, part in parts.items():
                part.load_state_dict(self.states[name])
            name = "random generator"
            random.set_state(self.record["random"])
        except (TypeError, ValueError) as error:
            for loaded, part in parts.items():
                part.load_state_dict(before[loaded])
            raise ValueError(
                f"Checkpoint.restore: the {name} in {os.fspath(self.path)!r} does not fit: {error}"
            ) from error
        before_threads, threads = self.record["threads"], blas_threads()
        if before_threads not in (None, threads):
            warnings.warn(
                f"{os.fspath(self.path)!r} was saved with {before_threads} BLAS threads, this "
                f"process has {threads}: sums are divided differently, so the training may not "
                f"continue bit for bit; set OMP_NUM_THREADS={before_threads} to make sure it does",
                RuntimeWarning,
                stacklevel=2,
            )
        return self.iteration


class Checkpoints:
    """The checkpoints of one training run: a folder that keeps the last few and the best.

    Each checkpoint is a file of `agrad.save` with a checksum. It is written under a temporary name,
    synced to disk and renamed, so the folder only ever holds complete checkpoints, and a checkpoint
    survives a crash of the machine once `save` has returned. While the object is open, no other one
    can open the folder, in this or another process. A killed process leaves no lock behind.

    A training that is resumed continues bit for bit on the same machine, with the same versions and
    the same number of BLAS threads.

    Args:
        folder: The folder, which is created if necessary. Use a separate folder for every run.
        keep: The number of latest checkpoints to keep besides the best one. With 1, there is no
            earlier checkpoint to fall back on if the disk damages the last.

    Attributes:
        last: The iteration of the checkpoint last saved or returned by `latest`, or None.

    Raises:
        ValueError: `keep` is below 1, or another run has the folder open (`FolderInUseError`).
        OSError: The folder cannot be written.

    Example:
        If this program runs again after a crash, it resumes after the last checkpoint:

        >>> import tempfile
        >>> import numpy as np
        >>> import agrad as ag
        >>> from agrad import nn, optim
        >>> from agrad.checkpoint import Checkpoints
        >>> from agrad.data import Batches
        >>> from agrad.train import train
        >>> folder = tempfile.mkdtemp()
        >>> def run(iterations):
        ...     ag.seed(0)
        ...     model = nn.Linear(4, 4)
        ...     optimizer = optim.AverageGradient(optim.Adam(model.parameters(), lr=0.1))
        ...     batches = Batches(np.eye(4, dtype=np.float32), np.arange(4), batch_size=1)
        ...     parts = {"model": model, "optimizer": optimizer, "batches": batches}
        ...     with Checkpoints(folder, keep=2) as checkpoints:
        ...         last = checkpoints.latest()
        ...         start = last.restore(parts) if last else 0
        ...         for step in train(model, optimizer, batches, iterations, start=start):
        ...             if step.iteration % 10 == 0:
        ...                 checkpoints.save(step.iteration, parts, score=step.loss)
        ...     return f"made {iterations - start} steps"
        >>> run(25), run(40)
        ('made 25 steps', 'made 20 steps')
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 3) -> None:
        self.folder = Path(folder)
        self.keep = integer("Checkpoints", "keep", keep, least=1)
        self._best: dict[str, Any] | None = None
        self.last: int | None = None
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = locked("Checkpoints", self.folder)
        remove_leftovers(self.folder)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the folder, so that another run can open it."""
        self._lock.close()

    @property
    def best(self) -> Path | None:
        """The file of the checkpoint with the lowest score, or None if no checkpoint has one."""
        return None if self._best is None else self._path(self._best["iteration"])

    @property
    def best_score(self) -> float | None:
        """The lowest score of a checkpoint, or None if no checkpoint has one."""
        return None if self._best is None else self._best["score"]

    def latest(self) -> Checkpoint | None:
        """Return the last intact checkpoint, or None if the folder has no checkpoints.

        Damaged checkpoints after it get the suffix .damaged, and a RuntimeWarning names them.

        Raises:
            CorruptDataError: All checkpoints are damaged.
            ValueError: The checkpoint was saved by another version of agrad.
        """
        damaged: dict[Path, str] = {}
        for path in reversed(self._paths()):
            try:
                checkpoint = _read(path)
            except CorruptDataError as error:
                damaged[path] = str(error)
                continue
            for path in damaged:
                os.replace(path, f"{path}.damaged")
            if damaged:
                warnings.warn(
                    f"damaged and renamed: {', '.join(map(os.fspath, damaged))}; "
                    f"resuming from {os.fspath(checkpoint.path)}",
                    RuntimeWarning,
                    stacklevel=2,
                )
            best = checkpoint.record["best"]
            self._best = best if best and self._path(best["iteration"]).exists() else None
            self.last = checkpoint.iteration
            return checkpoint
        if damaged:
            raise CorruptDataError(
                "Checkpoints.latest: all checkpoints are damaged: " + "; ".join(damaged.values())
            )
        return None

    def save(
        self,
        iteration: int,
        parts: Mapping[str, Stateful],
        *,
        settings: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        score: float | None = None,
    ) -> Path:
        """Save a checkpoint, remove the ones that are no longer kept, and return the new file.

        `agrad.load` can read the file: `agrad.load(path)["model"]` is the state of a part `model`.

        Args:
            iteration: The number of steps so far; must exceed that of the previous checkpoint.
            parts: The parts of the training, by names of your choice. The calling thread's random
                generator is saved too.
            settings: Options needed to create the parts again, returned by `Checkpoint.settings`;
                anything that `agrad.save` accepts.
            metrics: Measurements, returned by `Checkpoint.metrics`; anything that `agrad.save`
                accepts.
            score: A score of the model, lower is better. The best checkpoint is always kept.

        Raises:
            TypeError: `iteration` is not an integer.
            ValueError: `iteration` is wrong; a part is named "checkpoint"; or the folder holds
                checkpoints, but `latest` was not called.
            NonFiniteError: A parameter of a module, or the score, is NaN or infinite.
            OSError: The file cannot be written; the existing checkpoints are kept.
        """
        iteration = integer("Checkpoints.save", "iteration", iteration, least=0)
        paths = self._paths()
        if self.last is None and paths:
            raise ValueError(
                f"Checkpoints.save: {os.fspath(self.folder)!r} holds the checkpoints of a run; "
                "resume from latest() or choose another folder"
            )
        if self.last is not None and iteration <= self.last:
            raise ValueError(
                f"Checkpoints.save: iteration {iteration} must be more than {self.last}, "
                "that of the previous checkpoint"
            )
        if _RECORD in parts:
            raise ValueError(f"Checkpoints.save: the name {_RECORD!r} is reserved; rename the part")
        _require_finite(iteration, parts, score)
        best = self._best
        if score is not None and (best is None or score < best["score"]):
            best = {"iteration": iteration, "score": float(score)}
        record = {
            "agrad": _VERSION,
            "iteration": iteration,
            "kinds": {name: _kind(part) for name, part in parts.items()},
            "random": random.get_state(),
            "threads": blas_threads(),
            "best": best,
            "settings": settings or {},
            "metrics": metrics or {},
        }
        path = self._path(iteration)
        save(path, {_RECORD: record} | {name: part.state_dict() for name, part in parts.items()})
        self._best, self.last = best, iteration
        for old in [*paths, path][: -self.keep]:
            if old != self.best:
                old.unlink()
        return path

    def _path(self, iteration: int) -> Path:
        return self.folder / f"{iteration:08}.safetensors"

    def _paths(self) -> list[Path]:
        """Return the files of the checkpoints in the order of their iterations."""
        if self._lock.closed:
            raise ValueError(f"Checkpoints: {os.fspath(self.folder)!r} is closed")
        return _paths_in(self.folder)


def read_checkpoints(folder: str | os.PathLike[str]) -> Iterator[Checkpoint]:
    """Yield the checkpoints of a folder, from the first to the last, and change nothing there.

    A run may save to the folder meanwhile; checkpoints that it removes are left out.

    Raises:
        CorruptDataError: One is damaged; `Checkpoints.latest` renames those after the last intact
            one.
        ValueError: One was saved by another version of agrad.
    """
    for path in _paths_in(Path(folder)):
        try:
            checkpoint = _read(path)
        except FileNotFoundError:
            continue
        yield checkpoint


def _paths_in(folder: Path) -> list[Path]:
    paths = folder.glob("*.safetensors")
    return sorted(
        (path for path in paths if re.fullmatch("[0-9]{8,}", path.stem)),
        key=lambda path: int(path.stem),
    )


def _read(path: Path) -> Checkpoint:
    """Read a checkpoint from a file.

    Raises:
        CorruptDataError: The file is damaged or not a checkpoint.
        ValueError: Another version of agrad saved it.
    """
    states = load(path)
    record = states.pop(_RECORD, None)
    if isinstance(record, dict):
        record.setdefault("threads", None)  # earlier checkpoints do not have it
    if not (
        isinstance(record, dict)
        and record.keys() == _RECORD_KEYS
        and isinstance(record["kinds"], dict)
        and record["kinds"].keys() == states.keys()
        and all(isinstance(record[name], dict) for name in ("settings", "metrics"))
        and _is_best(record["best"])
        and (record["threads"] is None or type(record["threads"]) is int)
        and record["iteration"] == int(path.stem)
    ):
        raise CorruptDataError(
            f"Checkpoints: {os.fspath(path)!r} holds another checkpoint than its name says"
        )
    if record["agrad"] != _VERSION:
        raise ValueError(
            f"Checkpoints: {os.fspath(path)!r} was saved by agrad {record['agrad']}, this is "
            f"{_VERSION}, which may compute different numbers; install that "
            "version, or load only the weights with agrad.load(path)"
        )
    return Checkpoint(path, record, states)


def _is_best(best: Any) -> bool:
    """Return whether `best` is a valid entry for the best checkpoint, or None."""
    if best is None:
        return True
    if not isinstance(best, dict) or best.keys() != {"iteration", "score"}:
        return False
    return type(best["iteration"]) is int and type(best["score"]) is float


def _require_finite(iteration: int, parts: Mapping[str, Stateful], score: float | None) -> None:
    if score is not None and not math.isfinite(score):
        raise NonFiniteError(f"Checkpoints.save: the score is {score} (iteration {iteration})")
    for name, part in parts.items():
        if isinstance(part, Module):
            for parameter_name, parameter in part.named_parameters():
                if not np.isfinite(parameter.data).all():
                    raise NonFiniteError(
                        f"Checkpoints.save: the parameter {parameter_name} of the {name} is not "
                        f"finite; lower the learning rate (iteration {iteration})"
                    )


def _kind(part: Stateful) -> str:
    """Return the kind of the part, see `Stateful`."""
    return getattr(part, "state_kind", type(part).__name__)
