"""Exchange of weights with PyTorch by name, in safetensors files, for every common layer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_examples import IN_PYTORCH, draw, first, inputs_of, layers_in, layers_of_nn, make
from pytorch import needs_torch, torch
from source_tree import ROOT

import agrad as ag
from agrad import nn

pytestmark = needs_torch


def mlp(nn: Any) -> Any:
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3))


def images(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.ConvTranspose2d(4, 2, 2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(72, 3),
    )


def sequences(nn: Any) -> Any:
    class Model(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(20, 8)
            self.lstm = nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)
            self.heads = nn.ModuleDict({"tag": nn.Linear(12, 4), "score": nn.Linear(12, 1)})

        def forward(self, ids: Any) -> Any:
            out, _ = self.lstm(self.embedding(ids))
            return self.heads["tag"](out) + self.heads["score"](out)

    return Model()


def text(nn: Any) -> Any:
    class Model(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(20, 8)
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
            self.encoder = nn.TransformerEncoder(layer, 2)
            self.out = nn.Linear(8, 20)

        def forward(self, ids: Any) -> Any:
            return self.out(self.encoder(self.embedding(ids)))

    return Model()


MODELS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "mlp": (mlp, lambda: draw((4, 5))),
    "images": (images, lambda: draw((2, 1, 10, 10))),
    "sequences": (sequences, lambda: np.array([[1, 2, 19], [4, 0, 6]])),
    "text": (text, lambda: np.array([[1, 2, 19], [4, 0, 6]])),
}


def require_equal(ours: Any, theirs: Any, inputs: tuple[Any, ...]) -> None:
    with ag.no_grad(), torch.no_grad():
        found = first(ours(*inputs)).data
        known = first(theirs(*map(torch.from_numpy, inputs))).numpy()
    # Relative to the largest element, because terms cancel: a hundred times float32's eps.
    np.testing.assert_allclose(found, known, rtol=0, atol=1e-5 * np.abs(known).max())


def exchange(build: Callable[[Any], Any], inputs: tuple[Any, ...], folder: Path) -> None:
    """Move weights from PyTorch to agrad, and other weights back."""
    from safetensors.torch import load_file, save_file

    ag.seed(0)
    torch.manual_seed(0)
    ours, theirs = build(nn).eval(), build(torch.nn).eval()
    with torch.no_grad():  # also what starts as zeros and ones; running variances are positive
        for tensor in theirs.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape) / 2 + 0.1)
    path = folder / "model.safetensors"
    save_file(theirs.state_dict(), path)
    assert ours.load_state_dict(ag.load(path)) == ([], [])
    require_equal(ours, theirs, inputs)

    other = build(nn).eval()
    ag.save(path, other.state_dict())
    theirs.load_state_dict(load_file(path))
    require_equal(other, theirs, inputs)


# PyTorch warns that even kernels need a copy.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("text", IN_PYTORCH)
def test_layers_exchange_weights(text: str, tmp_path: Path) -> None:
    exchange(lambda module: make(module, text), inputs_of(text), tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_models_exchange_weights(name: str, tmp_path: Path) -> None:
    build, inputs = MODELS[name]
    exchange(build, (inputs(),), tmp_path)


def test_every_layer_that_pytorch_has_too_is_tested() -> None:
    assert layers_in(IN_PYTORCH) == {name for name in layers_of_nn() if hasattr(torch.nn, name)}


def test_lists_of_parameters_have_pytorchs_names() -> None:
    def build(module: Any, value: Any) -> Any:
        return module.ParameterList([module.Parameter(value), module.Parameter(value)])

    ours, theirs = build(nn, np.ones(2, np.float32)), build(torch.nn, torch.ones(2))
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_the_example_in_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    example = guide.partition("### Weights to and from PyTorch")[2]
    names: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    exec(example.partition("```python\n")[2].partition("```")[0], names)
    require_equal(names["ours"].eval(), names["theirs"].eval(), (draw((4, 5)),))


def test_a_weight_that_is_shared_loads_under_its_first_name(tmp_path: Path) -> None:
    from safetensors.torch import save_model

    def tied(module: Any) -> Any:
        model = module.Sequential(module.Linear(4, 4), module.Tanh(), module.Linear(4, 4))
        model[2].weight = model[0].weight
        return model

    ours, theirs = tied(nn), tied(torch.nn)
    save_model(theirs, tmp_path / "model.safetensors")
    keys = ours.load_state_dict(ag.load(tmp_path / "model.safetensors"), strict=False)
    assert len(keys.missing) == 1
    assert keys.unexpected == []
    require_equal(ours, theirs, (draw((3, 4)),))
