"""Training on several ranks of this machine: results, refusals, and ranks that die."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import invoke, wait_for

import agrad as ag
from agrad.checkpoint import Checkpoints

pytest.importorskip("mpi4py", reason="mpi4py is not installed")

PLACES = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
MPIEXEC = shutil.which("mpiexec", path=PLACES)
TOOLS = Path(__file__).parent / "tools"
# There may be more ranks than cores: no rank is bound to a core, or keeps it while waiting.
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}
COMMAND = """
import os, sys
from pathlib import Path
rank = os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK"))
Path(sys.argv.pop(1), f"process{rank}").write_text(str(os.getpid()))
from agrad.cli import main
sys.exit(main())
"""

pytestmark = pytest.mark.skipif(MPIEXEC is None, reason="mpiexec is not installed")


def start(ranks, *words):
    return subprocess.Popen(
        [MPIEXEC, "-n", str(ranks), sys.executable, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **OPEN_MPI},
    )


def ended(process):
    try:
        output, error = process.communicate(timeout=100)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, output, error)


@pytest.fixture(scope="module", params=[2, 4])
def outcome(request, tmp_path_factory):
    """The number of ranks, the results of `on_ranks.py` with them, and its exit."""
    path = tmp_path_factory.mktemp("ranks") / "results.json"
    result = ended(start(request.param, TOOLS / "on_ranks.py", path))
    assert path.exists(), result.stderr
    return request.param, json.loads(path.read_text()), result


def test_all_ranks_train_as_one_process_does(outcome):
    _, found, _ = outcome
    for method, compared in found["comparisons"].items():
        # Sums in another order: some dozen roundings of numbers near 1 in 7 steps.
        assert compared["distance"] < 2e-6 * compared["moved"], method
        assert compared["losses"] < 2e-6, method
        (cuts, rate), (all_cuts, all_rate) = compared["numbers"]
        assert cuts == all_cuts, method
        assert rate == pytest.approx(all_rate, rel=1e-5), method
        assert compared["same"], method
    assert found["own loop"] < 2e-6
    assert found["dropout"]
    (weight, fraction), (all_weight, all_fraction) = found["one-sided"]
    assert weight == all_weight != 1.0
    assert fraction == all_fraction


def test_a_rank_that_fails_ends_all_with_its_error(outcome):
    ranks, _, result = outcome
    assert result.returncode != 0
    last = f"agrad: rank {ranks - 1} of {ranks} fails alone, which ends all of them"
    assert result.stderr.count(last) == 1
    assert result.stderr.count("RuntimeError: the last rank has had enough") == 1


def test_gradients_of_other_parameters_on_a_rank_are_refused(outcome):
    _, found, _ = outcome
    assert "rank 1 differs from rank 0 in which parameters have a gradient" in found["leaves"]


def test_invalid_trainings_are_refused(outcome):
    ranks, found, _ = outcome
    refusals = found["errors"]
    for name in ("gradient", "no loss"):
        assert f"AverageGradient.step: over {ranks} ranks, gradients from" in refusals[name]
    assert "loss_function must return the mean" in refusals["sum"]
    assert "rank 1 differs from rank 0 in the batch's targets" in refusals["data"]
    assert refusals["lengths"] == "ValueError: train: got 8 inputs and 7 targets"
    assert "fit: checkpoints are for one process" in refusals["checkpoints"]
    assert "before any operation the inputs had a NaN" in refusals["nan"]
    assert "NonFiniteError: AverageGradient.step: the loss is nan" in refusals["ignored"]
    assert "rank 0 compares way 0, and rank 1 something else" in refusals["way"]
    assert refusals["unchanged"] == "True"


def test_running_means_are_those_of_the_whole_batch(outcome):
    _, found, _ = outcome
    assert found["running mean"] < 1e-7


WORDS = ("--data", "digits", "--depth", "2", "--width", "8", "--batch-size", "32")
LONG = ("--iterations", "1000000", "--checkpoint-every", "4", "--decay", "0")


def lead_and_follow(tmp_path, *words):
    """Start the command on two ranks; return it after a checkpoint, with the ranks' processes."""
    before = {*(tmp_path / "run" / "checkpoints").glob("*.safetensors")}
    process = start(2, "-c", COMMAND, tmp_path, "train", *words)

    def has_saved():
        return len({*(tmp_path / "run" / "checkpoints").glob("*.safetensors")} - before) > 1

    wait_for(has_saved, process)
    return process, [int((tmp_path / f"process{rank}").read_text()) for rank in (0, 1)]


def last_checkpoint(folder):
    with Checkpoints(folder / "checkpoints") as checkpoints:
        return checkpoints.latest().iteration


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_the_command_over_ranks_stops_dies_and_resumes(tmp_path):
    folder, alone = tmp_path / "run", tmp_path / "alone"
    process, ranks = lead_and_follow(tmp_path, *WORDS, *LONG, "--out", folder)
    os.kill(ranks[1], signal.SIGINT)
    stopped = ended(process)
    assert process.returncode != 0
    assert stopped.stderr.count("agrad: interrupted") == 1
    assert stopped.stdout.count("Training on 2 ranks") == 1
    first = last_checkpoint(folder)
    assert f"Stopped after iteration {first} of 1000000" in stopped.stdout

    process, ranks = lead_and_follow(tmp_path, "--resume", folder, *LONG[:4])
    os.kill(ranks[1], signal.SIGKILL)
    killed = ended(process)
    assert killed.returncode != 0
    assert "signal 9" in killed.stderr.replace("\n", " ")
    second = last_checkpoint(folder)
    assert second > first

    end = ("--iterations", str(second + 2))
    assert invoke("train", "--resume", folder, *end).exit_code == 0
    assert invoke("train", *WORDS, *end, "--decay", "0", "--out", alone).exit_code == 0
    found, expected = (ag.load(path / "weights.safetensors") for path in (folder, alone))
    for name, weights in expected.items():
        np.testing.assert_allclose(found[name], weights, rtol=1e-4, atol=1e-5)
