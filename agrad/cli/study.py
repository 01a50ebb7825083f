"""`agrad study`: the claims of the papers, put to the test."""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import click
from rich.console import Console

from agrad.cli.output import device_option, make_console, require_writable, say
from agrad.cli.progress import duration
from agrad.locking import locked
from agrad.study.claims import CLAIMS, SEEDS, missing
from agrad.study.data import load_data
from agrad.study.estimates import Estimates
from agrad.study.pool import connected, results_of
from agrad.study.races import Race
from agrad.study.report import write_report
from agrad.study.results import Results, Settings
from agrad.study.runs import Experiment, Job

__all__ = ["study"]

_FIRST = 5
"""The seeds that every claim gets first."""


@click.command(short_help="Put the papers' claims to the test, with a report.")
@click.argument(
    "claims", nargs=-1, required=True, metavar="CLAIM...", type=click.Choice([*CLAIMS, "all"])
)
@click.option("--quick", is_flag=True, help="A first answer, from small networks and few runs.")
@click.option(
    "--seeds",
    type=click.IntRange(1),
    help="Number of scoring seeds, from 0.  [default: 9, or 3 with --quick]",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of parallel runs on this machine; more than one needs the extra cluster.",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Address of a dask.distributed scheduler to run on."
)
@device_option
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder for results.json, report.html and a figure of each claim.",
)
def study(
    claims: tuple[str, ...],
    quick: bool,
    seeds: int | None,
    workers: int,
    scheduler: str | None,
    device: str,
    out: Path,
) -> None:
    """Run the studies of claims, and write a report.

    CLAIM is a number from 1 to 12, ablations, variants, or all.

    Each run is written to results.json as soon as it ends. Runs that are already in the folder are
    not repeated, so an interrupted study continues where it stopped, and claims and seeds can be
    added later.
    """
    require_writable(out)
    path = out / "results.json"
    names = tuple(name for name in CLAIMS if name in claims or "all" in claims)
    console = make_console()
    with locked("study", out):  # since each run writes the whole file
        results = _opened(path, Settings(names, quick, seeds or SEEDS[quick], device))
        if len(results):
            say(console, f"{path} holds {len(results)} runs")
        with connected(workers, scheduler) as client:
            if client is None and workers > 1:
                say(console, 'One worker: more need pip install "agrad[cluster]"')
            for name, count in _order(names, results.settings.seeds):
                while jobs := missing(CLAIMS[name], results, count):
                    _do(console, f"claim {name}", jobs, client, results, path)
        for written in write_report(path):
            say(console, f"Wrote {written}")


def _opened(path: Path, settings: Settings) -> Results:
    """Return the results in the file, if there is one, with the claims and seeds asked for added.

    Raises:
        ValueError: The file belongs to a study of another size or device.
    """
    if not path.exists():
        return Results(settings)
    results = Results.load(path)
    before = results.settings
    if (before.quick, before.device) != (settings.quick, settings.device):
        raise ValueError(f"{str(path)!r} belongs to {before.command!r}; choose another folder")
    results.settings = Settings(
        tuple(name for name in CLAIMS if name in (*before.claims, *settings.claims)),
        settings.quick,
        max(before.seeds, settings.seeds),
        settings.device,
    )
    return results


def _order(names: Sequence[str], seeds: int) -> list[tuple[str, int]]:
    """Return the claims with numbers of seeds: each claim gets a few seeds before any gets all."""
    return [(name, count) for count in sorted({min(seeds, _FIRST), seeds}) for name in names]


def _do(
    console: Console, title: str, jobs: list[Job], client: object, results: Results, path: Path
) -> None:
    if client is None:  # download, or fail, before any work; workers have data of their own
        for data in sorted({job.data for job in jobs if isinstance(job, Experiment)}):
            load_data(data)
    start = monotonic()
    for made, (job, (found, machine)) in enumerate(results_of(jobs, client), 1):
        results.add(job, found, machine)
        results.save(path)
        left = duration((monotonic() - start) / made * (len(jobs) - made))
        say(console, f"{title}, {made}/{len(jobs)}, {left} left: {_described(job, found)}")


def _described(job: Job, found: dict[str, object]) -> str:
    if isinstance(job, Experiment):
        curve = found["curve"]
        assert isinstance(curve, list)
        end = f"{curve[-1]:.3g}"
        return f"{job.data}, {job.model}, {job.method} at {job.lr:g}, seed {job.seed}: {end}"
    of = job.experiment if isinstance(job, Race) else job
    assert isinstance(of, Experiment | Estimates)
    network, kind = f"{of.activation} {of.depth}x{of.width}", type(job).__name__.lower()
    return f"{of.data}, {network}, {kind} in batches of {of.batch_size}, seed {of.seed}"
