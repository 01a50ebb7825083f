"""Find the best network for the wine data set by cross-validation, with scikit-learn's tools.

python examples/sklearn_grid_search.py

The estimator is a step of a pipeline, and the search tries its options in two processes.
"""

from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from agrad.sklearn import AgradClassifier


def main():
    x, y = load_wine(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x, y, stratify=y, random_state=0)
    network = AgradClassifier(learning_rate=0.01, batch_size=32, max_iter=20, random_state=0)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), network),
        {
            "agradclassifier__hidden_layer_sizes": [(8,), (16, 16)],
            "agradclassifier__activation": ["tanh", "relu"],
        },
        cv=3,
        n_jobs=2,
    )
    search.fit(train_x, train_y)
    for options, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"]):
        words = ", ".join(f"{name.partition('__')[2]} {value}" for name, value in options.items())
        print(f"{words}: cross-validated accuracy {score:.1%}")
    print(f"test accuracy of the best {search.score(test_x, test_y):.1%}")


if __name__ == "__main__":
    main()
