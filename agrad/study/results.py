"""The results file of a study: jobs, their results, and the machines that ran them."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from agrad.data.download import require_file
from agrad.serialization import atomic_write
from agrad.study.runs import Job

__all__ = ["Results", "Settings", "key_of"]

Result = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """The request for a study: the names of the claims, its size, and the scoring seeds."""

    claims: tuple[str, ...]
    quick: bool
    seeds: int
    device: str = "cpu"

    @property
    def command(self) -> str:
        """The command that asks for it."""
        words = ["agrad study", *self.claims, *(["--quick"] if self.quick else [])]
        device = [] if self.device == "cpu" else ["--device", self.device]
        return " ".join([*words, f"--seeds {self.seeds}", *device])


def key_of(job: Job) -> str:
    """Return the text that identifies a job in the file: its settings other than the defaults."""
    return json.dumps(_settings_of(job), sort_keys=True)


def _settings_of(job: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": type(job).__name__}
    for field in fields(job):
        value = getattr(job, field.name)
        if value != field.default:
            found[field.name] = _settings_of(value) if is_dataclass(value) else value
    return found


class Results:
    """The results of jobs, by job.

    Apart from the measured seconds and the machines, the file does not depend on the order in which
    the results arrive.
    """

    def __init__(
        self, settings: Settings, found: Mapping[str, tuple[Result, str]] | None = None
    ) -> None:
        self.settings = settings
        self._found = dict(found or {})

    def __contains__(self, job: Job) -> bool:
        return key_of(job) in self._found

    def __getitem__(self, job: Job) -> Result:
        return self._found[key_of(job)][0]

    def __len__(self) -> int:
        return len(self._found)

    @property
    def machines(self) -> list[str]:
        """The machines, each as one line."""
        return sorted({where for _, where in self._found.values()})

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Return the jobs without a result, each once, in their order."""
        return list({key_of(job): job for job in jobs if job not in self}.values())

    def add(self, job: Job, result: Result, where: Mapping[str, Any]) -> None:
        """Add the result of a job, and the facts about the machine that did it."""
        line = ", ".join(f"{name} {value}" for name, value in where.items())
        self._found[key_of(job)] = (_finite(result, None, math.inf), line)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the results as JSON, a line for each job, atomically."""
        machines = self.machines
        rows = ",\n".join(
            f'{{"job": {key}, "machine": {machines.index(where)}, '
            f'"result": {json.dumps(_finite(result, math.inf, None), allow_nan=False)}}}'
            for key, (result, where) in sorted(self._found.items())
        )
        head = (
            f'"settings": {json.dumps(asdict(self.settings))},\n"machines": {json.dumps(machines)}'
        )
        with atomic_write(path) as file:
            file.write(f'{{{head},\n"rows": [\n{rows}\n]}}\n'.encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Results":
        """Return the results that `save` wrote.

        Raises:
            OSError: The file is missing or cannot be read.
            ValueError: The file does not hold results.
        """
        require_file(Path(path))
        text = Path(path).read_text(encoding="utf-8", errors="replace")
        try:
            content = json.loads(text)
            settings = content["settings"]
            settings["claims"] = tuple(settings["claims"])
            found = {
                json.dumps(row["job"], sort_keys=True): (
                    _finite(row["result"], None, math.inf),
                    content["machines"][row["machine"]],
                )
                for row in content["rows"]
            }
            return cls(Settings(**settings), found)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Results.load: {os.fspath(path)!r} is not a complete file of results ({error!r}); "
                "move it away to repeat the runs"
            ) from error


def _finite(value: Any, old: float | None, new: float | None) -> Any:
    """Return a copy with `old` replaced by `new`: JSON has no infinity, and null stands for it."""
    if isinstance(value, dict):
        return {name: _finite(part, old, new) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part, old, new) for part in value]
    return new if value == old and not isinstance(value, str) else value
