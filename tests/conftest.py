"""Settings of the whole suite: Hypothesis profiles and the available data sets."""

import doctest
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, settings

# A first call may compile a kernel, so examples have no deadline. In CI the commit alone may cause
# a failure, so examples are fixed; a developer's runs look for new ones.
settings.register_profile("dev", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
# A planted fault (mutation.py) only has to make a test fail, so examples are not shrunk.
settings.register_profile(
    "mutation", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate]
)
# Under compute-sanitizer, where everything takes many times as long.
settings.register_profile("brief", deadline=None, derandomize=True, max_examples=20)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "dev")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Use every core for the whole suite, but one process for chosen files or for the one GPU."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return None if whole and config.option.markexpr != "gpu" else 0


def pytest_configure(config: pytest.Config) -> None:
    """Prepare for workers, one on every core.

    Libraries compute in one thread, since waiting threads spin. Kernels are compiled beforehand:
    two workers that need one at the same time would both compile it.
    """
    if config.option.numprocesses:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        script = Path(__file__).parent / "tools" / "compile_kernels.py"
        subprocess.run([sys.executable, script], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module", autouse=True)
def few_objects_to_collect() -> None:
    """Exclude what earlier modules have left from garbage collections; some tests collect often."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_path() -> Path:
    """The folder of data sets; tests that need it are skipped unless AGRAD_DATA names one."""
    path = os.environ.get("AGRAD_DATA")
    if not path or not Path(path).is_dir():
        pytest.skip("AGRAD_DATA names no folder of data sets")
    return Path(path)


@pytest.fixture(scope="session")
def doctest_flags(pytestconfig: pytest.Config) -> int:
    """The doctest options of all examples, in docstrings and pages."""
    names = pytestconfig.getini("doctest_optionflags")
    return sum(doctest.OPTIONFLAGS_BY_NAME[name] for name in names)
