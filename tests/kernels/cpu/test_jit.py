"""What is cached of a compiled kernel is dropped when any source it was compiled from changes."""

import os
import subprocess
import sys
from pathlib import Path

KERNEL = """
import numpy as np
from agrad.kernels.cpu.jit import kernel
from helper import factor

@kernel("const real[:], real[:]")
def scale(x, out):
    for i in range(out.size):
        out[i] = factor() * x[i]

out = np.empty(1)
scale(np.ones(1), out)
print(out[0])
"""

HELPER = """
from agrad.kernels.cpu.jit import inline

@inline
def factor():
    return {}
"""


def test_a_change_in_another_file_of_the_folder_is_noticed(tmp_path: Path) -> None:
    def run(factor: float) -> float:
        (tmp_path / "helper.py").write_text(HELPER.format(factor))
        options = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", "import scaling"]
        output = subprocess.check_output(command, env=os.environ | options, text=True)
        return float(output)

    (tmp_path / "scaling.py").write_text(KERNEL)
    assert run(2.0) == 2.0
    cached = set((tmp_path / "cache").rglob("*.nbc"))
    assert cached
    assert run(2.0) == 2.0
    assert set((tmp_path / "cache").rglob("*.nbc")) == cached  # nothing was compiled again
    assert run(3.0) == 3.0
