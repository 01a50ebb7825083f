"""Train the eight examples in agrad and in PyTorch, over five seeds, and compare the results.

    python benchmarks/twins.py --out results/examples
    python benchmarks/twins.py --only vae finetune --seeds 3

Each program is a shortened one of examples/, with Adam as the optimizer, because PyTorch has no
average gradient. Layers, losses and optimizers have the same names and arguments in both, so one
program serves both; `Agrad` and `Torch` hold the differences. Data, batch order and augmentations
are the same in both. Initial weights, dropout and codes come from each library's own generator,
seeded alike. Intervals are 95% intervals of the mean (Student's t). Needs the extras `demo`,
`bench` and `sklearn`; the reviews are those of AGRAD_DATA.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.datasets import load_diabetes, load_wine
from sklearn.metrics import r2_score
from sklearn.model_selection import StratifiedKFold, train_test_split

import agrad as ag
from agrad import data

LIBRARIES = ("agrad", "PyTorch")


class Agrad:
    """The functions that the programs need and that differ between the libraries: agrad's."""

    nn, optim, F, tensor, seed = ag.nn, ag.optim, ag.nn.functional, staticmethod(ag.tensor), ag.seed
    exp, randn_like, no_grad = staticmethod(ag.exp), staticmethod(ag.randn_like), ag.no_grad
    cosine = ag.optim.CosineAnnealingLR

    @staticmethod
    def array(tensor: ag.Tensor) -> np.ndarray:
        return tensor.detach().numpy()

    @staticmethod
    def slope(value: ag.Tensor, by: ag.Tensor) -> ag.Tensor:
        return ag.grad(value.sum(), by, create_graph=True)[0]

    @staticmethod
    def transposed(tensor: ag.Tensor) -> ag.Tensor:
        return tensor.swapaxes(1, 2)

    @staticmethod
    def last_state(lstm: Any, x: ag.Tensor, lengths: np.ndarray) -> ag.Tensor:
        return lstm(x, lengths=lengths)[1][0][-1]

    @staticmethod
    def causal(encoder: Any, x: ag.Tensor) -> ag.Tensor:
        return encoder(x, is_causal=True)

    positions = ag.nn.PositionalEncoding


class _Positions(torch.nn.Module):
    """The encoding of `agrad.nn.PositionalEncoding`, which PyTorch does not have."""

    def __init__(self, width: int, max_len: int, batch_first: bool) -> None:
        super().__init__()
        encoding = ag.nn.PositionalEncoding(width, max_len=max_len, batch_first=batch_first)
        self.register_buffer("pe", torch.tensor(encoding.pe.numpy()))
        self.dropout = torch.nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(x + self.pe[: x.shape[1]])


class Torch:
    """The same functions of PyTorch."""

    nn, optim, F, seed = torch.nn, torch.optim, torch.nn.functional, torch.manual_seed
    exp, randn_like, no_grad = torch.exp, torch.randn_like, torch.no_grad
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR
    positions = _Positions

    @staticmethod
    def tensor(array: Any, requires_grad: bool = False) -> torch.Tensor:
        return torch.tensor(array, requires_grad=requires_grad)

    @staticmethod
    def array(tensor: torch.Tensor) -> np.ndarray:
        return tensor.detach().numpy()

    @staticmethod
    def slope(value: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(value.sum(), by, create_graph=True)[0]

    @staticmethod
    def transposed(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.transpose(1, 2)

    @staticmethod
    def last_state(lstm: Any, x: torch.Tensor, lengths: np.ndarray) -> torch.Tensor:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
        return lstm(packed)[1][0][-1]

    @staticmethod
    def causal(encoder: Any, x: torch.Tensor) -> torch.Tensor:
        mask = torch.nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return encoder(x, mask=mask, is_causal=True)


Library = type[Agrad] | type[Torch]


def step(optimizer: Any, loss: Any) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def fit(lib: Library, model: Any, optimizer: Any, batches: Iterable[Any], loss: Callable) -> None:
    """Make a step on each of the batches."""
    model.train()
    for x, y in batches:
        step(optimizer, loss(model(lib.tensor(x)), lib.tensor(y)))


def outputs(lib: Library, model: Any, inputs: np.ndarray) -> np.ndarray:
    """Return the model's outputs in evaluation mode."""
    model.eval()
    with lib.no_grad():
        parts = [model(lib.tensor(part)) for part in np.array_split(inputs, len(inputs) // 500 + 1)]
    return np.concatenate([lib.array(part) for part in parts])


def accuracy(lib: Library, model: Any, inputs: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(outputs(lib, model, inputs).argmax(axis=1) == labels))


def dense(lib: Library, sizes: list[int], activation: str = "ReLU") -> Any:
    layers = []
    for inputs, width in pairwise(sizes):
        layers += [lib.nn.Linear(inputs, width), getattr(lib.nn, activation)()]
    return lib.nn.Sequential(*layers[:-1])


# -- the programs: each returns what the example prints at its end ---------------------------------


def tabular_regression(lib: Library, seed: int) -> float:
    """Test R²: 60 epochs at most, the weights of the best, patience 15."""
    x, y = load_diabetes(return_X_y=True)
    parts = data.random_split((x.astype("f"), y.astype("f")[:, None]), [0.6, 0.2, 0.2], seed)
    scales = [(array.mean(axis=0), array.std(axis=0)) for array in parts[0]]
    train, validation, test = (
        [(array - middle) / scale for array, (middle, scale) in zip(part, scales)] for part in parts
    )
    model = dense(lib, [10, 32, 32, 1])
    optimizer = lib.optim.Adam(model.parameters(), lr=3e-3)
    batches = data.Batches(*train, batch_size=32, seed=seed)
    best, kept, stale = np.inf, np.empty(0), 0
    for _ in range(60):
        fit(lib, model, optimizer, batches, lib.F.mse_loss)
        loss = np.mean((outputs(lib, model, validation[0]) - validation[1]) ** 2)
        stale = 0 if loss < best else stale + 1
        if loss < best:
            best, kept = loss, outputs(lib, model, test[0])
        if stale == 15:
            break
    return r2_score(test[1], kept)


def sklearn_grid_search(lib: Library, seed: int) -> float:
    """Test accuracy of the best of four networks by cross-validation, 20 epochs each."""
    x, y = load_wine(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        x.astype("f"), y, stratify=y, random_state=seed
    )

    def score(options: tuple, train: tuple, test: tuple) -> float:
        middle, scale = train[0].mean(axis=0), train[0].std(axis=0)
        model = dense(lib, [x.shape[1], *options[0], 3], options[1])
        batches = data.Batches((train[0] - middle) / scale, train[1], batch_size=32, seed=seed)
        optimizer = lib.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(20):
            fit(lib, model, optimizer, batches, lib.F.cross_entropy)
        return accuracy(lib, model, (test[0] - middle) / scale, test[1])

    def validated(options: tuple) -> float:
        folds = StratifiedKFold(3).split(train_x, train_y)
        return mean(
            score(options, (train_x[one], train_y[one]), (train_x[two], train_y[two]))
            for one, two in folds
        )

    grid = [(sizes, act) for sizes in ((8,), (16, 16)) for act in ("Tanh", "ReLU")]
    return score(max(grid, key=validated), (train_x, train_y), (test_x, test_y))


def cnn_augmentation(lib: Library, seed: int) -> float:
    """Test accuracy after 6 epochs on 1,000 images of MNIST, rotated and shifted."""
    images, labels = data.mnist("train")
    train, _ = data.random_split((images[:, None], labels), [1000, len(images) - 1000], seed)
    augment = data.Compose([data.RandomRotation(15), data.RandomShift(2)])
    nn = lib.nn
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(32 * 49, 10),
    )
    optimizer = lib.optim.Adam(model.parameters(), lr=2e-3)
    batches = data.Batches(*train, batch_size=50, seed=seed, transform=augment)
    for _ in range(6):
        fit(lib, model, optimizer, batches, lib.F.cross_entropy)
    images, labels = data.mnist("test")
    return accuracy(lib, model, images[:2000, None], labels[:2000])


@cache
def _imdb(split: Any) -> tuple[np.ndarray, np.ndarray]:
    return data.imdb(split, length=60, keep="end")


def imdb_lstm(lib: Library, seed: int) -> float:
    """Test accuracy on 2,000 reviews after 3 epochs on 2,000, of 60 words each."""

    def reviews(split: str) -> Any:
        ids, labels = _imdb(split)
        return data.random_split((ids.astype(np.int64), labels), [2000, len(ids) - 2000], seed)[0]

    class Classifier(lib.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = lib.nn.Embedding(5000, 32, padding_idx=0)
            self.lstm = lib.nn.LSTM(32, 64, batch_first=True)
            self.dropout, self.head = lib.nn.Dropout(0.5), lib.nn.Linear(64, 2)

        def forward(self, ids: Any) -> Any:
            lengths = (lib.array(ids) != 0).sum(axis=1)
            last = lib.last_state(self.lstm, self.embedding(ids), lengths)
            return self.head(self.dropout(last))

    model = Classifier()
    optimizer = lib.optim.Adam(model.parameters(), lr=5e-3)
    batches = data.Batches(*reviews("train"), batch_size=64, seed=seed)
    for _ in range(3):
        fit(lib, model, optimizer, batches, lib.F.cross_entropy)
    return accuracy(lib, model, *reviews("test"))


def char_transformer(lib: Library, seed: int) -> float:
    """Loss on the last tenth of a text after 150 steps."""
    text = (Path(__file__).parents[1] / "docs" / "guide.md").read_text(encoding="utf-8")
    characters = sorted(set(text))
    ids = np.array([characters.index(character) for character in text])
    split, nn = len(ids) * 9 // 10, lib.nn

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(len(characters), 64)
            self.positions = lib.positions(64, max_len=32, batch_first=True)
            layer = nn.TransformerEncoderLayer(
                64, 4, dim_feedforward=256, batch_first=True, norm_first=True
            )
            self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(64))
            self.head = nn.Linear(64, len(characters))

        def forward(self, ids: Any) -> Any:
            x = lib.causal(self.encoder, self.positions(self.embedding(ids)))
            return lib.transposed(self.head(x))

    def windows(ids: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
        parts = np.lib.stride_tricks.sliding_window_view(ids, 33)[::stride]
        return parts[:, :-1], parts[:, 1:]

    model = Transformer()
    optimizer = lib.optim.Adam(model.parameters(), lr=2e-3)
    batches = data.Batches(*windows(ids[:split], 8), batch_size=32, seed=seed)
    taken = (batch for _, batch in zip(range(150), batches.forever()))
    fit(lib, model, optimizer, taken, lib.F.cross_entropy)
    inputs, targets = windows(ids[split:], 32)
    logits = outputs(lib, model, inputs)
    return float(lib.F.cross_entropy(lib.tensor(logits), lib.tensor(targets)).item())


def vae(lib: Library, seed: int) -> float:
    """Bound of the test images' negative log-likelihood, in nats, after 30 epochs."""
    train, test = (data.digits(split)[0].reshape(-1, 64) for split in ("train", "test"))
    encoder, decoder = dense(lib, [64, 128, 16]), dense(lib, [8, 128, 64])

    def bound(images: Any) -> Any:
        code = encoder(images)
        means, log_variance = code[:, :8], code[:, 8:]
        logits = decoder(means + lib.exp(log_variance / 2) * lib.randn_like(means))
        pixels = lib.F.binary_cross_entropy_with_logits(logits, images, reduction="sum")
        divergence = 0.5 * (means**2 + lib.exp(log_variance) - 1 - log_variance).sum()
        return (pixels + divergence) / len(images)

    optimizer = lib.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
    batches = data.Batches(train, batch_size=128, seed=seed)
    for _ in range(30):
        for (images,) in batches:
            step(optimizer, bound(lib.tensor(images)))
    with lib.no_grad():
        return float(bound(lib.tensor(test)).item())


def physics_informed(lib: Library, seed: int) -> float:
    """Decimal logarithm of the largest error of u after 500 steps."""
    model = dense(lib, [1, 32, 32, 1], "Tanh")
    model = model.to("float64") if lib is Agrad else model.double()
    optimizer = lib.optim.Adam(model.parameters(), lr=1e-2)
    schedule = lib.cosine(optimizer, 500)
    times = lib.tensor(np.linspace(0, 4, 32)[:, None], requires_grad=True)
    for _ in range(500):
        u = model(times)
        slope = lib.slope(u, times)
        residual = lib.slope(slope, times) + 0.5 * slope + 4 * u
        start = (u[0, 0] - 1) ** 2 + slope[0, 0] ** 2
        step(optimizer, (residual**2).mean() + 10 * start)
        schedule.step()
    t, rate = np.linspace(0, 4, 401)[:, None], np.sqrt(4 - 0.25**2)
    exact = np.exp(-t / 4) * (np.cos(rate * t) + 0.25 / rate * np.sin(rate * t))
    return float(np.log10(np.abs(outputs(lib, model, t) - exact).max()))


def finetune(lib: Library, seed: int) -> float:
    """Test accuracy on the digits 5 to 9: 5 epochs on 0 to 4, then 5 with the frozen layer."""
    nn = lib.nn

    def examples_of(split: str, first: int) -> tuple[np.ndarray, np.ndarray]:
        images, labels = data.digits(split)
        chosen = (labels >= first) & (labels < first + 5)
        return images[chosen, None], labels[chosen] - first

    def train_on(first: int, model: Any, parameters: Any) -> None:
        optimizer = lib.optim.Adam(parameters, lr=1e-3)
        batches = data.Batches(*examples_of("train", first), batch_size=64, seed=seed)
        for _ in range(5):
            fit(lib, model, optimizer, batches, lib.F.cross_entropy)

    convolution = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    )
    hidden = nn.Sequential(nn.Linear(256, 64), nn.ReLU())
    model = nn.Sequential(convolution, hidden, nn.Linear(64, 5))
    train_on(0, model, model.parameters())
    last = nn.Linear(64, 5)
    model = nn.Sequential(convolution, hidden, last)
    convolution.requires_grad_(False)
    groups = [{"params": hidden.parameters(), "lr": 3e-4}, {"params": last.parameters()}]
    train_on(5, model, groups)
    return accuracy(lib, model, *examples_of("test", 5))


PROGRAMS = {
    program.__name__: program
    for program in (
        tabular_regression,
        sklearn_grid_search,
        cnn_augmentation,
        imdb_lstm,
        char_transformer,
        vae,
        physics_informed,
        finetune,
    )
}


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean, and half the length of its 95% interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return mean(values), float(half)


def compared(name: str, seeds: int) -> dict[str, Any]:
    """Run a program in both libraries, seed after seed."""
    found: dict[str, list[float]] = {library: [] for library in LIBRARIES}
    start = time.process_time()
    for seed in range(seeds):
        for library, lib in zip(LIBRARIES, (Agrad, Torch)):
            lib.seed(seed)
            found[library].append(float(PROGRAMS[name](lib, seed)))
    (one, half), (two, other) = (interval(found[library]) for library in LIBRARIES)
    return {
        "metric": (PROGRAMS[name].__doc__ or "").rstrip("."),
        "values": found,
        "intervals": {"agrad": [one - half, one + half], "PyTorch": [two - other, two + other]},
        "overlap": abs(one - two) <= half + other,
        "cpu_seconds": round(time.process_time() - start, 1),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder for one JSON file of each program")
    options = parser.parse_args()
    torch.set_num_threads(1)
    # PyTorch warns that this encoder cannot use its fast path for padded sequences.
    warnings.filterwarnings("ignore", "enable_nested_tensor")
    for name in options.only:
        found = compared(name, options.seeds)
        shown = "  ".join(
            f"{library} {middle:.3f} ± {half:.3f}"
            for library, (middle, half) in zip(LIBRARIES, map(interval, found["values"].values()))
        )
        print(f"{name:20} {shown}  overlap: {found['overlap']}", flush=True)
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            text = json.dumps(found, indent=1, ensure_ascii=False)
            (options.out / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
