"""`agrad train`, `predict` and `evaluate` on the user's own data."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import agrad as ag
from agrad.data import digits
from agrad.errors import NonFiniteError

pytest.importorskip("click")

from command_line import fail, invoke, lines, one_line

from agrad.cli.own_data import load_own_data

SMALL = ("--depth", "2", "--width", "16", "--batch-size", "32", "--lr", "0.01")


def table(path: Path, rows: int = 200, seed: int = 0) -> Path:
    """Write a table whose price and kind follow from its length and colour."""
    random = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["length", "colour", "price", "kind"])
        for length in random.uniform(0, 10, rows):
            colour = random.choice(["red", "blue"])
            price = 1000 + 50 * length + (200 if colour == "red" else 0)
            writer.writerow(
                [f"{length:.3f}", colour, f"{price:.2f}", "big" if length > 5 else "small"]
            )
    return path


def train(out: Path, *words: object) -> str:
    result = invoke("train", *SMALL, *words, "--out", out)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(out / "metrics.jsonl")]


def test_a_regression_from_training_to_predictions(tmp_path: Path) -> None:
    data, out = table(tmp_path / "houses.csv"), tmp_path / "run"
    words = ("--data", data, "--target", "price", "--epochs", 40, "--validation", 0.2)
    assert "The weights are those of the best epoch" in train(out, *words)
    found = metrics(out)
    steps = [line for line in found if "loss" in line]
    assert all({"rate", "fraction"} <= line.keys() for line in steps)
    validations = [line for line in found if "validation_loss" in line]
    assert [line["iteration"] for line in validations] == [5 * i for i in range(1, 41)]
    assert max(line["validation_r2"] for line in validations) > 0.95
    result = invoke("evaluate", out)
    assert result.exit_code == 0, result.output
    least = min(line["validation_loss"] for line in validations)
    assert result.output.startswith(f"validation: loss {least:.4f}, r2 0.9")

    new = table(tmp_path / "new.csv", rows=30, seed=1)
    rows = list(csv.DictReader(lines(new)))
    kept = ["kind", "colour", "length"]  # in another order, and without the target
    new.write_text("\n".join([",".join(kept), *(",".join(r[k] for k in kept) for r in rows)]))
    result = invoke("predict", out, new)
    assert result.exit_code == 0, result.output
    predicted = [float(row["prediction"]) for row in csv.DictReader(result.output.splitlines())]
    prices = [float(row["price"]) for row in rows]
    assert np.sqrt(np.mean(np.subtract(predicted, prices) ** 2)) < 0.25 * np.std(prices)
    assert invoke("predict", out, new, "--out", tmp_path / "out.csv").exit_code == 0
    assert (tmp_path / "out.csv").read_text() == result.output
    assert one_line(fail("evaluate", out, new), "has no 'price'")


def test_fewer_examples_than_a_batch_are_one_batch(tmp_path: Path) -> None:
    data, out = table(tmp_path / "houses.csv", rows=20), tmp_path / "run"
    train(out, "--data", data, "--target", "price", "--epochs", 3)
    assert [line["iteration"] for line in metrics(out) if "loss" in line][-1] == 3


def test_a_classification_of_words(tmp_path: Path) -> None:
    data, out = table(tmp_path / "a.csv"), tmp_path / "run"
    held_out = table(tmp_path / "b.csv", seed=2)
    train(out, "--data", data, "--target", "kind", "--epochs", 25, "--validation", held_out)
    result = invoke("evaluate", out, held_out)
    assert result.output.startswith(f"{held_out}: loss 0.")
    assert invoke("evaluate", out).output.partition(": ")[2] == result.output.partition(": ")[2]
    rows = list(csv.DictReader(invoke("predict", out, held_out).output.splitlines()))
    wanted = [row["kind"] for row in csv.DictReader(lines(held_out))]
    right = np.mean([row["prediction"] == kind for row, kind in zip(rows, wanted)])
    assert right > 0.9
    assert f"accuracy {right:.2%}" in result.output
    assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)


def test_patience_stops_and_a_resumed_run_is_the_run(tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", rows=60)
    words = ("--data", data, "--target", "price", "--validation", 0.3, "--patience", 2)
    words = (*words, "--decay", 0, "--no-average", "--optimizer", "sgd")
    train(tmp_path / "whole", *words, "--lr", 0.5, "--iterations", 400)
    found = metrics(tmp_path / "whole")
    losses = [line["validation_loss"] for line in found if "validation_loss" in line]
    assert int(np.argmin(losses)) == len(losses) - 3
    assert found[-1]["iteration"] < 400
    train(tmp_path / "cut", *words, "--lr", 0.5, "--iterations", 2)
    result = invoke("train", "--resume", tmp_path / "cut", "--iterations", 400)
    assert result.exit_code == 0, (result.output, result.exception)
    for line in found:
        line.pop("seconds", None)
    again = metrics(tmp_path / "cut")
    for line in again:
        line.pop("seconds", None)
    assert again == found
    weights = "weights.safetensors"
    assert (tmp_path / "cut" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    table(data, rows=60, seed=9)
    result = fail("train", "--resume", tmp_path / "cut", "--iterations", 500)
    assert one_line(result, "have changed since the run began")


def test_a_column_named_classes_is_one_like_any_other(tmp_path: Path) -> None:
    data = tmp_path / "a.csv"
    rows = [f"{i % 7},{i % 3},{'no' if i % 3 else 'yes'}" for i in range(30)]
    data.write_text("\n".join(["a,classes,passed", *rows]))
    own = load_own_data(data, "passed", None, None, 0.2, seed=0)
    assert list(own.format.columns or {}) == ["a", "classes"]
    assert own.format.classes == ["no", "yes"]
    own = load_own_data(data, "classes", None, "classification", None, seed=0)
    assert own.format.classes == [0, 1, 2]


def test_arrays_of_images_and_named_data(tmp_path: Path) -> None:
    images, labels = digits("train")
    np.savez(tmp_path / "a.npz", x=images[:300], y=labels[:300])
    out = tmp_path / "run"
    words = ("--model", "conv", "--depth", 3, "--width", 4, "--activation", "relu")
    train(out, "--data", tmp_path / "a.npz", *words, "--iterations", 2)
    result = invoke("evaluate", out)
    assert result.output.startswith("training data: loss 2.")
    rows = list(csv.DictReader(invoke("predict", out, tmp_path / "a.npz").output.splitlines()))
    assert len(rows) == 300
    np.savez(tmp_path / "b.npz", x=images[:3, :7])
    assert one_line(fail("predict", out, tmp_path / "b.npz"), "[7, 8], the network takes [8, 8]")

    named = tmp_path / "named"
    output = train(named, "--iterations", 90, "--validation", 0.5)
    test = metrics(named)[-1]
    result = invoke("evaluate", named)
    assert result.output == (
        f"test set: loss {test['test_loss']:.4f}, accuracy {test['test_accuracy']:.2%}\n"
    )
    assert "Test loss" in output
    assert one_line(fail("predict", named, tmp_path / "a.npz"), "trained on a named data set")
    assert one_line(fail("evaluate", named, tmp_path / "a.npz"), "on its test set alone")


def test_numbers_stand_for_the_classes_that_spell_them(tmp_path: Path) -> None:
    data, new = tmp_path / "a.csv", tmp_path / "new.csv"
    data.write_text("\n".join(["a,b", *["1,01", "2,02", "3,x", "4,2"]]))
    form = load_own_data(data, "b", None, None, None, seed=0).format
    assert form.classes == ["01", "02", "2", "x"]

    def targets(*rows: str) -> Any:
        new.write_text("\n".join(["a,b", *rows]))
        return form.targets(form.read(new), new).tolist()

    assert targets("1,01", "1,1") == [0, 0]
    with pytest.raises(ValueError, match=r"'b' has 2.0, which may stand for any of \['02', '2'\]"):
        targets("1,01", "2,02")
    with pytest.raises(ValueError, match="has the class '7', unknown"):
        targets("1,7")


def test_arrays_beside_x_and_y_are_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "a.npz"
    x, y = np.ones((60, 4), np.float32), np.arange(60) % 2
    np.savez(data, x=x, y=y, names=["a", "b"], classes=[0, 1], scale=2.0)
    own = load_own_data(data, None, None, None, 0.2, seed=0)
    assert own.train[0].shape == (48, 4)
    assert own.format.classes == [0, 1]
    content = own.format.read(data)
    assert (own.format.targets(content, data) == y).all()
    for arrays, message in (({"a": x, "y": y}, "needs an array x"), ({"x": x}, "has no 'y'")):
        np.savez(data, **arrays)
        with pytest.raises(ValueError, match=message):
            load_own_data(data, None, None, None, 0.2, seed=0)


def test_a_folder_of_images(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    random = np.random.default_rng(0)
    for name, shade in (("dark", 60), ("light", 200)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(20):
            pixels = random.normal(shade, 20, (8, 8)).clip(0, 255).astype(np.uint8)
            image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    out = tmp_path / "run"
    train(out, "--data", tmp_path / "data", "--epochs", 10)
    rows = list(csv.DictReader(invoke("predict", out, tmp_path / "data").output.splitlines()))
    assert [row["prediction"] for row in rows] == ["dark"] * 20 + ["light"] * 20
    assert "accuracy 100.00%" in invoke("evaluate", out).output


CONV = ("--model", "conv", "--depth", 1, "--width", 16, "--activation", "relu")


def reviews(path: Path, count: int = 60, seed: int = 0) -> Path:
    """Write a table whose label follows from a word of its text, and its stars from the label."""
    random = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "review", "stars", "label"])
        for i, good in enumerate(random.permutation(count) % 2):
            words = random.choice(["film", "plot", "it", "the"], 6).tolist()
            words[random.integers(6)] = "splendid" if good else "dreadful"
            writer.writerow([i, ", ".join(words), 4 + good, "good" if good else "bad"])
    return path


def test_texts_of_a_table(tmp_path: Path) -> None:
    data, out = reviews(tmp_path / "a.csv"), tmp_path / "run"
    words = ("--data", data, "--target", "label", "--text", "review", "--epochs", 15)
    train(out, *words, *CONV, "--validation", 0.2)
    form = json.loads((out / "settings.json").read_text())["format"]
    assert {"splendid", "dreadful"} < set(form["words"])
    assert (form["shape"], form["text"], form["columns"]) == ([16], "review", None)
    assert "accuracy 100.00%" in invoke("evaluate", out).output
    new = reviews(tmp_path / "new.csv", seed=1)
    assert "accuracy 100.00%" in invoke("evaluate", out, new).output
    wanted = [row["label"] for row in csv.DictReader(lines(new))]
    rows = list(csv.DictReader(invoke("predict", out, new).output.splitlines()))
    assert [row["prediction"] for row in rows] == wanted
    result = invoke("train", "--resume", out, "--iterations", 20)
    assert result.exit_code == 0, (result.output, result.exception)
    new.write_text("review\n1\n2\n")
    assert one_line(fail("predict", out, new), "the texts 'review' in", "are numbers")
    new.write_text("text\nfine\n")
    assert one_line(fail("predict", out, new), "has no 'review', only ['text']")

    rated = tmp_path / "rated"
    train(rated, *words[:2], "--target", "stars", *words[4:-1], 40, *CONV)
    assert "r2 0.9" in invoke("evaluate", rated).output


def test_the_vocabulary_knows_no_held_out_words(tmp_path: Path) -> None:
    data = tmp_path / "a.csv"
    rows = [f"word{i},{i % 2}" for i in range(20)]
    data.write_text("\n".join(["review,label", *rows]))
    own = load_own_data(data, "label", "review", "classification", 0.25, seed=0)
    assert own.validation is not None
    assert len(own.format.words or []) == 15
    assert (own.validation[0] <= 1).all()  # unknown words and padding
    assert own.train[0].shape == (15, 16)


def test_a_folder_of_texts(tmp_path: Path) -> None:
    for row in csv.DictReader(lines(reviews(tmp_path / "a.csv", count=40))):
        folder = tmp_path / "data" / row["label"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row['id']}.txt").write_text(row["review"])
    out = tmp_path / "run"
    train(out, "--data", tmp_path / "data", *CONV, "--epochs", 20)
    rows = list(csv.DictReader(invoke("predict", out, tmp_path / "data").output.splitlines()))
    assert [row["prediction"] for row in rows] == ["bad"] * 20 + ["good"] * 20
    assert "accuracy 100.00%" in invoke("evaluate", out).output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "TABLE", "--target", "kind", "--text", "colour"], "texts need --model conv"),
        (["--data", "TABLE", "--target", "kind", "--text", "kind"], "must name different columns"),
        (["--data", "TABLE", "--target", "kind", "--text", "a"], "has no 'a', only ['colour'"),
        (["--data", "TABLE", "--target", "kind", "--text", "price"], "'price' in"),
        (["--data", "FOLDER", "--text", "a"], "--text is for tables"),
        (["--data", "EMPTY"], "has no words to learn from"),
        (["--data", "TABLE"], "name the column to predict with --target"),
        (["--data", "TABLE", "--target", "cost"], "has no 'cost', only ['colour'"),
        (["--data", "TABLE", "--target", "kind", "--task", "regression"], "must be numbers"),
        (["--data", "TABLE", "--target", "price", "--model", "conv"], "--model conv needs images"),
        (["--data", "TABLE", "--target", "price", "--validation", "0.001"], "too few examples"),
        (["--data", "HOLES", "--target", "b"], "lacks the target 'b' in example 2"),
        (["--data", "TEXT"], "is neither a table"),
    ],
)
def test_data_that_do_not_fit_are_named(words: list[str], message: str, tmp_path: Path) -> None:
    files = {
        "TABLE": table(tmp_path / "a.csv", rows=40),
        "HOLES": tmp_path / "holes.csv",
        "TEXT": tmp_path / "a.txt",
        "FOLDER": tmp_path / "full",
        "EMPTY": tmp_path / "empty",
    }
    for name, text in (("FOLDER", "some words"), ("EMPTY", "...")):
        for kind in ("a", "b"):
            (files[name] / kind).mkdir(parents=True)
            (files[name] / kind / "1.txt").write_text(text)
    files["HOLES"].write_text("a,b\n1,2\n2,\n")
    files["TEXT"].write_text("words")
    out = tmp_path / "run"
    result = fail("train", *SMALL, *(files.get(word, word) for word in words), "--out", out)
    assert one_line(result, message)
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "a"], "--target is for data of your own, not for digits"),
        (["--text", "a"], "--text is for data of your own, not for digits"),
        (["--task", "regression"], "--task is for data of your own"),
        (["--patience", "3"], "--patience needs --validation"),
        (["--validation", "1.5"], "must be between 0 and 1"),
        (["--validation", "nowhere"], "neither a number nor a file"),
        (["--validation", "."], "--validation must be a share for digits"),
        (["--data", "nowhere.csv"], "nor a file or folder"),
    ],
)
def test_options_that_do_not_fit(words: list[str], message: str, tmp_path: Path) -> None:
    result = invoke("train", *words, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_folder_without_a_finished_run_is_named(tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv")
    (tmp_path / "empty").mkdir()
    assert one_line(fail("predict", tmp_path / "empty", data), "holds no run that has ended")
    train(tmp_path / "run", "--data", data, "--target", "price", "--iterations", 1)
    settings = tmp_path / "run" / "settings.json"
    content = json.loads(settings.read_text())
    settings.write_text(json.dumps(content | {"width": 5}))
    assert one_line(fail("evaluate", tmp_path / "run"), "load_state_dict: the state does not fit")
    settings.write_text(json.dumps(content | {"format": {"kind": "table"}}))
    assert one_line(fail("evaluate", tmp_path / "run"), "do not describe the data of a run")
    settings.write_text("{")
    assert one_line(fail("evaluate", tmp_path / "run"), "settings.json' is damaged")
    assert ag.load(tmp_path / "run" / "weights.safetensors")["1.weight"].shape == (16, 5)


@pytest.mark.parametrize("moved", ["a.csv", "b.csv"])
def test_data_that_have_moved_are_named(moved: str, tmp_path: Path) -> None:
    data, held_out = table(tmp_path / "a.csv"), table(tmp_path / "b.csv", seed=2)
    words = ("--data", data, "--target", "price", "--validation", held_out, "--epochs", 1)
    train(tmp_path / "run", *words)
    (tmp_path / moved).rename(tmp_path / "c.csv")
    resumed = fail("train", "--resume", tmp_path / "run")
    assert one_line(resumed, "No such file or directory", str(tmp_path / moved))


def test_data_that_have_changed_are_not_evaluated_by_the_old_scale(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((60, 2))
    data, out = tmp_path / "d.npz", tmp_path / "run"
    np.savez(data, x=x, y=x[:, 0])
    train(out, "--data", data, "--epochs", 2)
    assert invoke("evaluate", out).exit_code == 0
    for changed in ({"x": x, "y": 1000 * x[:, 0] + 7}, {"x": x + 5, "y": x[:, 0]}):
        np.savez(data, **changed)
        assert "have changed since the run; name a FILE" in fail("evaluate", out).stderr
        for words in (["train", "--resume"], ["inspect", "--out", tmp_path / "a.html"]):
            assert "have changed since the run began" in fail(*words, out).stderr
        assert invoke("evaluate", out, data).exit_code == 0


@pytest.mark.parametrize(
    "x", [np.arange(9.0), np.array(9.0), np.full((9, 2), "a"), np.ones((9, 2), complex)]
)
def test_inputs_that_are_not_rows_of_numbers_are_refused(x: Any, tmp_path: Path) -> None:
    data = tmp_path / "d.npz"
    np.savez(data, x=x, y=np.arange(len(np.atleast_1d(x))) % 2)
    failed = fail("train", "--data", data, "--out", tmp_path / "run")
    assert one_line(failed, "x must be numbers of shape (N, ...)", f"{x.dtype}{list(x.shape)}")
    assert not (tmp_path / "run").exists()


def test_a_missing_number_of_an_array_is_named(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((60, 2))
    data, out = tmp_path / "d.npz", tmp_path / "run"
    np.savez(data, x=x, y=x[:, 0])
    train(out, "--data", data, "--epochs", 1)
    x[3, 1] = np.nan
    np.savez(tmp_path / "new.npz", x=x)
    message = "new.npz' has a NaN or an infinity in example 4"
    assert message in fail("predict", out, tmp_path / "new.npz").stderr
    words = ("--data", tmp_path / "new.npz", "--validation", 0.5, "--out", tmp_path / "other")
    np.savez(tmp_path / "new.npz", x=x, y=x[:, 0])
    assert message in fail("train", *words).stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--validation", 0.0005], "digits has too few examples to hold out 0.0005"),
        (
            ["--validation", 0.2, "--iterations", 5],
            "the validation follows each epoch, of 35 iterations; raise --iterations from 5",
        ),
    ],
)
def test_a_validation_that_would_not_happen_is_refused(
    words: list[Any], message: str, tmp_path: Path
) -> None:
    refused = fail("train", *SMALL, "--data", "digits", *words, "--out", tmp_path / "run")
    assert message in refused.stderr


@pytest.mark.parametrize("error", [NonFiniteError("the loss is inf"), KeyboardInterrupt()])
def test_the_best_weights_survive_a_training_that_is_lost(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agrad.cli import train as command

    learn = command.train_model
    best: list[Any] = []

    def spoiled(model: Any, *rest: Any, **options: Any) -> Any:
        for step in learn(model, *rest, **options):
            if step.iteration == 35:  # the end of an epoch
                best.append(model.state_dict())
            yield step
            if step.iteration == 40:
                raise error

    words = ("--data", "digits", "--validation", 0.2, "--epochs", 2)
    monkeypatch.setattr(command, "train_model", spoiled)
    if isinstance(error, KeyboardInterrupt):
        assert invoke("train", *SMALL, *words, "--out", tmp_path / "run").exit_code != 0
    else:
        lost = fail("train", *SMALL, *words, "--out", tmp_path / "run")
        assert "metrics and best weights" in lost.stderr
    kept = ag.load(tmp_path / "run" / "weights.safetensors")
    assert kept.keys() == best[0].keys()
    assert all((kept[name] == array).all() for name, array in best[0].items())
