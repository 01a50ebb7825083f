"""scikit-learn's estimators: dense networks for classification and regression.

They need scikit-learn, `pip install "agrad[sklearn]"`, and work in its pipelines and searches.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError(
        'agrad.sklearn: needs scikit-learn 1.6 or later; pip install "agrad[sklearn]"'
    ) from error

import agrad.nn.functional as F
from agrad import nn, optim, random
from agrad.arguments import integer, require
from agrad.data import Batches
from agrad.train.evaluation import predict
from agrad.train.fitting import fit

__all__ = ["AgradClassifier", "AgradRegressor"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}
_RECTIFIERS = ("elu", "gelu", "relu", "silu", "softplus")
_AUTO_START = 1e-4
_SEEDS = 2**31 - 1


class _Network(BaseEstimator):  # type: ignore[misc]
    """The common base of the two estimators."""

    _loss: Any

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (100,),
        activation: str = "relu",
        *,
        average: bool = True,
        learning_rate: float | str = "auto",
        weight_decay: float = 0.0,
        batch_size: int = 128,
        max_iter: int = 200,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.average = average
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.random_state = random_state
        self.verbose = verbose

    # -- the network -------------------------------------------------------------------------------

    def _make(self, outputs: int, dtype: np.dtype[Any]) -> None:
        """Make a fresh network and its optimizer."""
        sizes: Any = self.hidden_layer_sizes
        features = self.n_features_in_
        layers: list[nn.Module] = []
        for size in [sizes] if isinstance(sizes, int | np.integer) else sizes:
            size = integer(self._name, "hidden_layer_sizes", size, least=1)
            layers += [nn.Linear(features, size), _ACTIVATIONS[self.activation]()]
            features = size
        last = nn.Linear(features, outputs)
        model = nn.Sequential(*layers, last)
        rectifier = self.activation in _RECTIFIERS
        init = nn.init.kaiming_normal_ if rectifier else nn.init.xavier_uniform_
        for name, parameter in model.named_parameters():
            (init if name.endswith("weight") else nn.init.zeros_)(parameter)
        nn.init.xavier_uniform_(last.weight)
        model.to(dtype)
        rate: Any = self.learning_rate
        automatic = rate == "auto"
        rule = optim.AdamW(
            model.parameters(),
            lr=_AUTO_START if automatic else rate,
            weight_decay=self.weight_decay,
            cautious=automatic,
        )
        optimizer: optim.Optimizer = rule
        if self.average:
            optimizer = optim.AverageGradient(rule, lr="auto" if automatic else None)
        # Only now, when nothing can be refused any more.
        self.model_, self.optimizer_, self.n_iter_ = model, optimizer, 0

    @property
    def _dtype(self) -> np.dtype[Any]:
        """The dtype that the network computes in."""
        return next(self.model_.parameters()).dtype

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _check(self) -> None:
        """Check the options that neither the network nor the optimizer checks."""
        if self.activation not in _ACTIVATIONS:
            raise ValueError(
                f"{self._name}: activation must be one of {sorted(_ACTIVATIONS)}, "
                f"got {self.activation!r}"
            )
        if self.learning_rate == "auto" and not self.average:
            raise ValueError(f"{self._name}: learning_rate='auto' needs average=True")
        if self.learning_rate != "auto":
            require(self._name, "be positive", lambda x: x > 0, learning_rate=self.learning_rate)
        fraction = self.validation_fraction
        require(self._name, "be in (0, 1)", lambda x: 0 < x < 1, validation_fraction=fraction)
        require(self._name, "not be negative", lambda x: x >= 0, tol=self.tol)
        sizes: Any = self.hidden_layer_sizes
        if not isinstance(sizes, int | np.integer | Sequence | np.ndarray):
            raise TypeError(
                f"{self._name}: hidden_layer_sizes must be an integer or a sequence of them, got "
                f"a {type(sizes).__name__}"
            )
        for name in ("batch_size", "max_iter", "n_iter_no_change"):
            integer(self._name, name, getattr(self, name), least=1)

    # -- training ----------------------------------------------------------------------------------

    @contextmanager
    def _afresh(self) -> Iterator[Self]:
        """Yield a copy to fit; once it has a network, this estimator becomes what the copy is."""
        fresh = copy.copy(self)
        for name in ("model_", "history_", "loss_"):
            fresh.__dict__.pop(name, None)
        try:
            yield fresh
        finally:
            if hasattr(fresh, "model_"):
                self.__dict__.clear()
                self.__dict__.update(fresh.__dict__)

    def _train(self, X: NDArray[Any], targets: NDArray[Any], outputs: int) -> None:
        """Train a fresh network on checked arrays."""
        self._check()
        self._seed = int(check_random_state(self.random_state).randint(_SEEDS))
        options: dict[str, Any] = {}
        if self.early_stopping:
            X, held_out, targets, held_out_targets = train_test_split(
                X,
                targets,
                test_size=self.validation_fraction,
                random_state=self._seed,
                stratify=self._strata(targets),
            )
            options["validation"] = held_out, held_out_targets
            options["patience"] = self.n_iter_no_change
            options["min_delta"] = self.tol
        with random.seeded(self._seed):
            self._make(outputs, X.dtype)
            self.history_ = fit(
                self.model_,
                self.optimizer_,
                self._batches(X, targets),
                epochs=self.max_iter,
                loss=self._loss,
                progress=bool(self.verbose),
                **options,
            )
        self.n_iter_ = len(self.history_["loss"])
        self.loss_ = float(self.history_["loss"][-1])

    def _train_on(self, X: NDArray[Any], targets: NDArray[Any], outputs: int, first: bool) -> None:
        """Train the network for one more epoch."""
        if first:
            self._check()
            self._seed = int(check_random_state(self.random_state).randint(_SEEDS))
        with random.seeded(self._seed, 0 if first else self.n_iter_):
            if first:
                self._make(outputs, X.dtype)
            X = X.astype(self._dtype, copy=False)
            if targets.dtype.kind == "f":
                targets = targets.astype(self._dtype, copy=False)
            history = fit(
                self.model_,
                self.optimizer_,
                self._batches(X, targets),
                epochs=1,
                loss=self._loss,
                decay=0.0,
                progress=bool(self.verbose),
            )
        self.n_iter_ += 1
        self.loss_ = float(history["loss"][-1])

    def _batches(self, X: NDArray[Any], targets: NDArray[Any]) -> Batches:
        return Batches(X, targets, batch_size=min(self.batch_size, len(X)))

    def _checked_inputs(self, X: Any) -> NDArray[Any]:
        check_is_fitted(self, "model_")
        dtype = self._dtype
        checked: NDArray[Any] = validate_data(self, X, dtype=dtype, reset=False)
        return checked

    def _outputs(self, X: Any) -> NDArray[Any]:
        """Return the network's outputs."""
        X = self._checked_inputs(X)
        outputs: NDArray[Any] = predict(self.model_, X)
        return outputs

    def _strata(self, targets: NDArray[Any]) -> NDArray[Any] | None:
        """Return the classes whose proportions the held-out examples must keep."""
        return None


_DTYPES = (np.float64, np.float32)


class AgradClassifier(ClassifierMixin, _Network):  # type: ignore[misc]
    """A dense network that classifies, trained by average gradients of the cross entropy.

    It computes in the dtype of X, float32 or float64. Scale the features, as with `StandardScaler`.
    The names are those of scikit-learn's `MLPClassifier`, where it has the option.

    Args:
        hidden_layer_sizes: The number of units of each hidden layer.
        activation: "elu", "gelu", "identity", "logistic", "relu", "selu", "silu", "softplus" or
            "tanh".
        average: Whether `AverageGradient` measures the steps of AdamW.
        learning_rate: A positive number; or "auto", which needs `average`.
        weight_decay: The weight decay of AdamW.
        batch_size: The number of examples of a step, at most; all of them if there are fewer.
        max_iter: The number of epochs, at most.
        early_stopping: Whether to hold out a part of the examples, stop when their loss does not
            improve, and keep the weights with the lowest.
        validation_fraction: The share of examples held out.
        n_iter_no_change: The number of epochs without improvement after which the training stops.
        tol: By how much the loss must fall to count as improved.
        random_state: The seed of weights, batches and the examples held out: an integer, a
            `numpy.random.RandomState`, or None.
        verbose: Whether to print a line for each epoch.

    Attributes:
        classes_: The classes.
        model_: The network, an `agrad.nn.Module`.
        optimizer_: Its optimizer.
        history_: The `agrad.train.History` of `fit`.
        n_iter_: The number of epochs made.
        loss_: The mean loss of the last epoch.

    Raises:
        ValueError: When fitted: an option is out of its range; X or y has NaN or wrong shapes.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from agrad.sklearn import AgradClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = AgradClassifier((16,), learning_rate=0.01, max_iter=60, random_state=0)
        >>> model.fit(X, y).score(X, y) > 0.9
        True
    """

    _loss = staticmethod(F.cross_entropy)

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train a fresh network on examples (N, features) and their classes (N,)."""
        with self._afresh() as fresh:
            examples, labels = validate_data(fresh, X, y, dtype=_DTYPES)
            check_classification_targets(labels)
            labels = column_or_1d(labels, warn=True)
            fresh.classes_, targets = np.unique(labels, return_inverse=True)
            fresh._train(examples, targets, len(fresh.classes_))
        return self

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Train for one epoch on examples (N, features) and their classes (N,).

        Args:
            X: The examples.
            y: Their classes.
            classes: All classes, which the first call needs.

        Raises:
            ValueError: The first call has no classes, a later one has others, or a class is new.
        """
        first = not hasattr(self, "model_")
        with self._afresh() if first else nullcontext(self) as model:
            examples, labels = validate_data(model, X, y, dtype=_DTYPES, reset=first)
            if first:
                if classes is None:
                    raise ValueError(f"{self._name}.partial_fit: the first call needs classes")
                model.classes_ = np.unique(classes)
            known = model.classes_
            if classes is not None and not np.array_equal(np.unique(classes), known):
                raise ValueError(
                    f"{self._name}.partial_fit: classes must be those of the first call, {known}"
                )
            labels = column_or_1d(labels, warn=True)
            check_classification_targets(labels)
            if not np.isin(labels, known).all():
                raise ValueError(f"{self._name}.partial_fit: y has classes that are not in {known}")
            model._train_on(examples, np.searchsorted(known, labels), len(known), first)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Return the probability of each class, of shape (N, classes), ordered as `classes_`."""
        outputs = self._outputs(X)
        shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        probabilities: NDArray[Any] = shares / shares.sum(axis=1, keepdims=True)
        return probabilities

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable classes, of shape (N,)."""
        outputs = self._outputs(X)
        classes: NDArray[Any] = self.classes_[outputs.argmax(axis=1)]
        return classes

    def _strata(self, targets: NDArray[Any]) -> NDArray[Any] | None:
        return targets


class AgradRegressor(RegressorMixin, _Network):  # type: ignore[misc]
    """A dense network for regression, trained by average gradients of the squared error.

    It learns the targets standardized by their mean and standard deviation in `fit`, or in the
    first `partial_fit`; predictions are in the units of y. The arguments are those of
    `AgradClassifier`, and so are the errors.

    Attributes:
        model_: The network, an `agrad.nn.Module`, of the standardized targets.
        optimizer_: Its optimizer.
        history_: The `agrad.train.History` of `fit`.
        n_iter_: The number of epochs made.
        loss_: The mean loss of the last epoch, of the standardized targets.

    Example:
        >>> import numpy as np
        >>> from agrad.sklearn import AgradRegressor
        >>> X = np.random.default_rng(0).uniform(-2, 2, (200, 1))
        >>> y = 100 * np.sin(X[:, 0])
        >>> model = AgradRegressor((16,), "tanh", learning_rate=0.02, max_iter=80, random_state=0)
        >>> model.fit(X, y).score(X, y) > 0.95
        True
    """

    _loss = staticmethod(F.mse_loss)

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train a fresh network on examples (N, features) and targets (N,) or (N, outputs)."""
        with self._afresh() as fresh:
            examples, targets = fresh._prepared(X, y, first=True)
            fresh._train(examples, targets, targets.shape[1])
        return self

    def partial_fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train for one epoch on examples (N, features) and targets (N,) or (N, outputs).

        Raises:
            ValueError: The number of outputs is not that of the first call.
        """
        first = not hasattr(self, "model_")
        with self._afresh() if first else nullcontext(self) as model:
            examples, targets = model._prepared(X, y, first)
            model._train_on(examples, targets, targets.shape[1], first)
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the predictions, in the shape that y had."""
        outputs = self._outputs(X)
        outputs = outputs * self._deviation + self._mean
        predictions: NDArray[Any] = outputs[:, 0] if self._flat else outputs
        return predictions

    def _prepared(self, X: Any, y: Any, first: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return checked inputs, and standardized targets of shape (N, outputs)."""
        X, y = validate_data(
            self, X, y, dtype=_DTYPES, multi_output=True, y_numeric=True, reset=first
        )
        columns = np.asarray(y, np.float64).reshape(len(y), -1)
        if first:
            self._flat = y.ndim == 1
            self._mean = columns.mean(axis=0)
            deviation = np.where(np.ptp(columns, axis=0) > 0, columns.std(axis=0), 0)
            self._deviation = np.where(deviation > 0, deviation, 1)
        elif columns.shape[1] != len(self._mean):
            raise ValueError(
                f"{self._name}.partial_fit: y has {columns.shape[1]} outputs, the first call had "
                f"{len(self._mean)}"
            )
        return X, ((columns - self._mean) / self._deviation).astype(X.dtype)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
