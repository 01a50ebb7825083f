"""scikit-learn's estimators: its own checks, pipelines and searches."""

import io
from typing import Any

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn", minversion="1.6")

import joblib  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

import agrad as ag  # noqa: E402
from agrad.sklearn import AgradClassifier, AgradRegressor  # noqa: E402

SMALL: dict[str, Any] = {"hidden_layer_sizes": (8,), "learning_rate": 0.05, "max_iter": 15}


@parametrize_with_checks(
    [AgradClassifier(**SMALL, batch_size=32), AgradRegressor(**SMALL, batch_size=32)]
)
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def iris() -> tuple[np.ndarray, np.ndarray]:
    return load_iris(return_X_y=True)


def flowers(**options: Any) -> AgradClassifier:
    return AgradClassifier(**{**SMALL, "random_state": 0, **options})


def weights(estimator: Any) -> np.ndarray:
    return np.concatenate([array.ravel() for array in estimator.model_.state_dict().values()])


def test_a_pipeline_in_a_grid_search(iris: Any) -> None:
    search = GridSearchCV(
        make_pipeline(StandardScaler(), flowers()),
        {
            "agradclassifier__hidden_layer_sizes": [(), (8,)],
            "agradclassifier__activation": ["tanh"],
        },
        cv=2,
        n_jobs=2,
    )
    search.fit(*iris)
    assert search.best_score_ > 0.8
    assert search.score(*iris) > 0.9
    serial = clone(search).set_params(n_jobs=1).fit(*iris)
    for name in ("split0_test_score", "split1_test_score"):
        assert search.cv_results_[name].tolist() == serial.cv_results_[name].tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_joblib_keeps_what_it_has_learned(iris: Any, dtype: str) -> None:
    X, y = iris[0].astype(dtype), iris[1]
    model = flowers().fit(X, y)
    assert model.model_[0].weight.dtype == dtype
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    copy = joblib.load(file)
    shares = model.predict_proba(X)
    np.testing.assert_array_equal(copy.predict_proba(X), shares)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(model.predict(X), shares.argmax(axis=1))
    for trained in (model, copy):
        trained.partial_fit(X, y)
    np.testing.assert_array_equal(weights(copy), weights(model))


def test_the_random_state_determines_all_and_nothing_else_does(iris: Any) -> None:
    ag.seed(5)
    before = ag.random.get_state()
    first = weights(flowers().fit(*iris))
    assert ag.random.get_state() == before
    ag.seed(6)
    np.testing.assert_array_equal(weights(flowers().fit(*iris)), first)
    assert not np.array_equal(weights(flowers(random_state=1).fit(*iris)), first)


def test_early_stopping_keeps_the_best_epoch(iris: Any) -> None:
    options: dict[str, Any] = {"early_stopping": True, "n_iter_no_change": 2, "tol": 0.05}
    model = flowers(max_iter=100, validation_fraction=0.2, **options).fit(*iris)
    losses = model.history_["validation_loss"]
    assert model.n_iter_ == len(losses) < 100
    assert model.history_.best_epoch == len(losses) - 2
    y = iris[1].astype(float)
    assert AgradRegressor(**SMALL, random_state=0, **options).fit(iris[0], y).n_iter_ < 25


def test_parts_of_the_data_train_like_epochs(iris: Any) -> None:
    X, y = iris
    model = flowers()
    for _ in range(30):
        model.partial_fit(X[::2], y[::2], classes=[0, 1, 2])
        model.partial_fit(X[1::2], y[1::2])
    assert model.n_iter_ == 60
    assert model.score(X, y) > 0.85
    regressor = AgradRegressor(**SMALL, random_state=0)
    for _ in range(30):
        regressor.partial_fit(X[:, :3], X[:, 3])
    assert regressor.score(X[:, :3], X[:, 3]) > 0.8


def test_an_automatic_rate_and_without_average(iris: Any) -> None:
    X, y = iris
    model = AgradClassifier((16,), max_iter=80, random_state=0).fit(X, y)
    assert model.optimizer_.automatic
    assert model.score(X, y) > 0.9
    assert type(flowers(average=False).fit(X, y).optimizer_) is ag.optim.AdamW


def test_several_targets_in_their_own_units(iris: Any) -> None:
    X = StandardScaler().fit_transform(iris[0])
    y = np.stack([1000 * X[:, 0], 1e-3 * X[:, 1] + 5], axis=1)
    model = AgradRegressor((), learning_rate=0.05, max_iter=100, random_state=0).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert model.score(X, y) > 0.95
    with pytest.raises(ValueError, match="y has 1 outputs, the first call had 2"):
        model.partial_fit(X, y[:, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "step"}, "AgradClassifier: activation must be one of .* got 'step'"),
        ({"average": False, "learning_rate": "auto"}, "learning_rate='auto' needs average=True"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"hidden_layer_sizes": (4, 0)}, "hidden_layer_sizes must be at least 1, got 0"),
        ({"max_iter": 0}, "AgradClassifier: max_iter must be at least 1, got 0"),
        ({"batch_size": 0}, "AgradClassifier: batch_size must be at least 1, got 0"),
        ({"validation_fraction": 1.5}, r"Classifier: validation_fraction must be in \(0, 1\), got"),
        ({"tol": -1.0}, "AgradClassifier: tol must not be negative, got -1.0"),
    ],
)
def test_options_out_of_their_range_are_named(iris: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flowers(**options).fit(*iris)
    with pytest.raises(ValueError, match=r"partial_fit: the first call needs classes"):
        flowers().partial_fit(*iris)
    with pytest.raises(ValueError, match=r"partial_fit: y has classes that are not in \[0 1\]"):
        flowers().partial_fit(*iris, classes=[0, 1])
    with pytest.raises(ValueError, match=r"partial_fit: classes must be those of the first call"):
        flowers(max_iter=1).fit(*iris).partial_fit(*iris, classes=[0, 1])


@pytest.mark.parametrize(
    "refused",
    [{"max_iter": 0}, {"random_state": "seven"}, {"tol": -1.0}, {"weight_decay": -1.0}],
)
@pytest.mark.parametrize("columns", [2, 3])
def test_a_refused_fit_leaves_the_estimator_as_it_was(
    iris: Any, refused: dict[str, Any], columns: int
) -> None:
    X, y = iris
    model = flowers().fit(X[:, :3], y)
    expected = model.predict(X[:, :3])
    with pytest.raises((TypeError, ValueError)):
        model.set_params(**refused).fit(X[:, :columns], [f"new {label}" for label in y])
    assert (model.predict(X[:, :3]) == expected).all()

    regressor = AgradRegressor(**SMALL, random_state=0).fit(X[:, :3], X[:, 3])
    numbers = regressor.predict(X[:, :3])
    with pytest.raises((TypeError, ValueError)):
        regressor.set_params(**refused).fit(X[:, :columns], 1e6 * X[:, 3])
    assert (regressor.predict(X[:, :3]) == numbers).all()


def test_after_a_refused_first_call_the_next_one_is_the_first(iris: Any) -> None:
    X, y = iris
    model, plain = (flowers(learning_rate=0.02) for _ in range(2))
    for refused in (model.fit, lambda X, y: model.partial_fit(X, y, classes=y)):
        model.set_params(weight_decay=-1.0)
        with pytest.raises(ValueError, match="AdamW: weight_decay must not be negative"):
            refused(X, y)
        with pytest.raises(NotFittedError):
            model.predict(X)
    for each in (model.set_params(weight_decay=0.0), plain):
        each.partial_fit(X, y, classes=y)
    assert (model.predict_proba(X) == plain.predict_proba(X)).all()


@pytest.mark.parametrize("fitted", [False, True])
def test_an_interrupted_fit_leaves_its_own_network(
    iris: Any, fitted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    X, y = iris
    model = flowers()
    if fitted:
        model.fit(X, y)
    with monkeypatch.context() as patch:
        patch.setattr("agrad.sklearn.fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, y)
    assert not hasattr(model, "history_")
    assert not hasattr(model, "loss_")
    assert model.partial_fit(X, y).n_iter_ == 1
