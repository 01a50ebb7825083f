"""The public names, as the README and PyTorch's conventions have them."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import agrad
import agrad.nn.functional as F

NAMES = """
Tensor tensor no_grad is_grad_enabled average_gradient detect_anomaly seed save load random errors
add matmul einsum sum mean concatenate where
nn.Module nn.Parameter nn.Sequential nn.ModuleList nn.Linear nn.LayerNorm nn.Dropout nn.Flatten
nn.Embedding nn.GlobalMaxPool1d nn.GlobalAvgPool1d
nn.init.xavier_uniform_ nn.functional.relu
optim.SGD optim.RMSprop optim.Adam optim.AdamW optim.Muon optim.AverageGradient optim.EMA
data.Batches data.digits data.mnist data.fashion_mnist data.imdb
data.Dataset data.Prefetch data.random_split data.read_table data.RandomCrop
summary train.fit train.train train.evaluate train.predict train.History train.Callback
optim.OneCycleLR optim.ReduceLROnPlateau
data.imdb_vocabulary data.Vocabulary data.tokenize data.pad_sequences
"""


def test_one_import_gives_every_name() -> None:
    script = "import agrad as ag\n" + "\n".join(f"ag.{name}" for name in NAMES.split())
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_version_is_the_distributions() -> None:
    assert agrad.__version__ == version("agrad")


@pytest.mark.parametrize("name", F.activation.__all__)
def test_every_activation_has_a_module(name: str) -> None:
    modules = [
        module
        for module in vars(agrad.nn).values()
        if getattr(module, "function", None) is getattr(F, name)
    ]
    assert len(modules) == 1
    assert f"`agrad.nn.functional.{name}`" in modules[0].__doc__
