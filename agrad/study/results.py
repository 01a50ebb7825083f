"""The results file of a study: jobs, their results, and the machines that ran them."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

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


class _Row(NamedTuple):
    """A job's result, the same in JSON, and the machine that made it."""

    result: Result
    text: str  # kept, since all rows are written after each run
    machine: str


class Results:
    """The results of jobs, by job.

    Apart from the measured seconds and the machines, the file does not depend on the order in which
    the results arrive.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._rows: dict[str, _Row] = {}

    def __contains__(self, job: Job) -> bool:
        return key_of(job) in self._rows

    def __getitem__(self, job: Job) -> Result:
        return self._rows[key_of(job)].result

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def machines(self) -> list[str]:
        """The machines, each as one line."""
        return sorted({row.machine for row in self._rows.values()})

    def with_seeds(self, seeds: int) -> "Results":
        """Return a view of the results for a study with this number of scoring seeds."""
        view = Results(replace(self.settings, seeds=seeds))
        view._rows = self._rows
        return view

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Return the jobs without a result, each once, in their order."""
        return list({key_of(job): job for job in jobs if job not in self}.values())

    def add(self, job: Job, result: Result, where: Mapping[str, Any]) -> None:
        """Add the result of a job, and the facts about the machine that did it."""
        line = ", ".join(f"{name} {value}" for name, value in where.items())
        self._add(key_of(job), result, line)

    def _add(self, key: str, result: Result, machine: str) -> None:
        text = json.dumps(_finite(result, math.inf, None), allow_nan=False)
        self._rows[key] = _Row(_finite(result, None, math.inf), text, machine)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the results as JSON, a line for each job, atomically."""
        machines = self.machines
        rows = ",\n".join(
            f'{{"job": {key}, "machine": {machines.index(row.machine)}, "result": {row.text}}}'
            for key, row in sorted(self._rows.items())
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
            results = cls(Settings(**settings))
            for row in content["rows"]:
                key = json.dumps(row["job"], sort_keys=True)
                results._add(key, row["result"], content["machines"][row["machine"]])
            return results
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
