"""The claims, with made-up results: their runs, findings and reports."""

import json
import math
import runpy
from dataclasses import replace

import pytest
from source_tree import ROOT

from agrad.study.claims import (
    CLAIMS,
    SEEDS,
    complete,
    design_of,
    findings_of,
    missing,
    trainings_of,
    variant_findings_of,
)
from agrad.study.designs import Races, Trainings, rate
from agrad.study.estimates import DIAGONALS, ESTIMATES, Estimates
from agrad.study.measures import POINTS
from agrad.study.races import Race
from agrad.study.report import claims_page, readme_figure, readme_rows, write_report
from agrad.study.results import Results, Settings, key_of
from agrad.study.runs import TUNING, Experiment
from agrad.study.statistics import verdict
from agrad.study.tables import finding_table, tables_of

MACHINE = {"processor": "abacus", "cores": 2}


def falling(to, after=1.0):
    """Return a curve that falls from 2 to `to` in a share of its points, and stays there."""
    fall = round(POINTS * after)
    return [2 + (to - 2) * min(1, (i + 1) / fall) for i in range(POINTS)]


def training(job, after=1.0):
    """Return a result whose loss is lowest at a rate of 1e-3."""
    loss = 0.5 + 0.1 * abs(math.log10(job.lr) + 3)
    made = falling(loss, after)
    return {
        "curve": made if job.seed < TUNING else made[-1:],
        "chance": 2.3026,
        "test_loss": [1.0 - 0.05 * i for i in range(job.evaluations)],
        "test_accuracy": [0.5 + 0.04 * i for i in range(job.evaluations)],
    }


def outcome(job):
    """Return a made-up result: with the average gradient the loss falls four times as fast."""
    if isinstance(job, Experiment):
        return training(job, 0.25 if job.method.startswith("average") else 1.0)
    if isinstance(job, Race):
        return {
            method: {
                "curve": falling(0.5, 0.25 if method.startswith("average") else 1.0),
                "seconds": 0.002 if "rmsprop" != method != "adam" else 0.001,
                "state_bytes": 200 if "adam" in method else 100,
                "peak_bytes": 1000,
            }
            for method, _ in job.rates
        }
    found = {
        name: {"vector": [0.1, 0.2, 0.4], "change": [0.1] * 3} for name in ESTIMATES | DIAGONALS
    }
    found["average gradient"]["vector"] = [0.01, 0.02, 0.03]
    if job.timed:
        for i, entry in enumerate(found.values()):
            entry.update(seconds=1.0 + i, peak_bytes=1000 * (1 + i))
    return found


def filled(names, quick=True, seeds=3, outcome=outcome):
    """Return results that contain all jobs of the claims."""
    results = Results(Settings(tuple(names), quick, seeds))
    for name in names:
        design = design_of(CLAIMS[name], results.settings)
        while jobs := results.missing(design.jobs(results, seeds)):
            for job in jobs:
                results.add(job, outcome(job), MACHINE)
    return results


@pytest.fixture(scope="module")
def everything():
    return filled(CLAIMS)


# -- designs ---------------------------------------------------------------------------------------


def one(method="adam", steps=range(-7, -4)):
    cell = Experiment("digits", "tanh", "", 0.0, 0)
    return Trainings({"cell": cell}, (method,), steps, tuning_seeds=2)


def tuned(design, best):
    """Return the best rate and all rates tried, if the loss is lowest at the rate `best`."""

    def made_up(job):
        distance = abs(math.log10(job.lr) - math.log10(best))
        return {**training(job), "curve": falling(0.5 + 0.1 * distance)}

    results = Results(Settings((), True, 2))
    while jobs := results.missing(design.jobs(results, 2)):
        for job in jobs:
            results.add(job, made_up(job), MACHINE)
    tried = {
        rate(s) for s in range(-14, 2) if design.at("cell", "adam", rate(s), [TUNING])[0] in results
    }
    return design.best(results, "cell", "adam"), sorted(tried)


def test_a_best_rate_inside_the_grid_ends_the_search():
    assert tuned(one(), 1e-3) == (1e-3, [3e-4, 1e-3, 3e-3])


def test_a_best_rate_at_an_end_extends_the_grid():
    assert tuned(one(), 1e-2) == (1e-2, [3e-4, 1e-3, 3e-3, 1e-2, 3e-2])
    assert tuned(one(), 1e-4) == (1e-4, [3e-5, 1e-4, 3e-4, 1e-3, 3e-3])


def test_the_grid_grows_by_three_rates_at_most():
    assert tuned(one(), 1e5) == (1e-1, [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1])
    assert tuned(one(), 1e-9) == (1e-5, [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3])


@pytest.mark.parametrize("quick", [True, False])
def test_tuning_seeds_are_not_scoring_seeds(quick):
    for claim in CLAIMS.values():
        results = filled([claim.name], quick) if quick else Results(Settings((), quick, 9))
        design = claim.design(quick)
        first = {job.seed for job in design.jobs(results, 9) if isinstance(job, Experiment)}
        all_rates = any(part.all_rates for part in trainings_of(design))
        assert not (first & {*range(TUNING)}) or quick or all_rates
    design = one()
    results = Results(Settings((), True, 2))
    assert {job.seed for job in design.jobs(results, 2)} == {1000, 1001}


def test_all_methods_have_the_same_grid_and_the_same_seeds():
    for claim in CLAIMS.values():
        none = Results(Settings((claim.name,), False, 9))
        design = claim.design(False)
        parts = (design.trainings,) if isinstance(design, Races) else trainings_of(design)
        for part in parts:
            of: dict[str, dict[str, set[tuple[float, int]]]] = {}
            for job in part.jobs(none, 9):
                methods = of.setdefault(f"{job.data} {job.network}", {})
                methods.setdefault(job.method, set()).add((job.lr, job.seed))
            for methods in of.values():
                assert [*methods] == [*part.methods]
                assert len({frozenset(tried) for tried in methods.values()}) == 1


def test_the_full_study_has_what_the_abstracts_name():
    dense = CLAIMS["3"].design(False)
    assert {(c.data, c.depth, c.iterations) for c in dense.cells.values()} == {
        ("mnist", 30, 320),
        ("fashion-mnist", 30, 320),
    }
    assert [rate(s) for s in dense.steps] == [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
    assert SEEDS[False] >= 9
    assert {c.depth for c in CLAIMS["11"].design(False).cells.values()} == {1, 2, 4, 8, 16, 30, 50}
    assert len(CLAIMS["10"].design(False).cells) == 4 * 6
    assert "cautious-adam" in CLAIMS["7"].design(False).methods
    sizes = CLAIMS["12"].design(False).trainings.cells.values()
    assert {c.width for c in sizes} == {64, 256, 1024}
    assert {c.batch_size for c in sizes} == {32, 128, 512, 2048}


def test_timed_studies_are_races_at_the_tuned_rates(everything):
    design = design_of(CLAIMS["6"], everything.settings)
    (first, *_) = design.races(everything, "MNIST, tanh", 3)
    assert first.timed
    assert dict(first.rates) == dict.fromkeys(design.trainings.methods, 1e-3)
    fixed = replace(design, fixed=0.5)
    assert [
        (race.experiment.activation, race.experiment.seed) for race in fixed.jobs(everything, 2)
    ] == [("tanh", 0), ("relu", 0), ("tanh", 1), ("relu", 1)]
    assert isinstance(fixed, Races)
    assert {lr for _, lr in fixed.races(everything, "MNIST, tanh", 1)[0].rates} == {0.5}


# -- findings --------------------------------------------------------------------------------------


def test_gains_by_hand():
    design = one("adam")
    design = replace(design, methods=("adam", "rmsprop"))
    results = Results(Settings((), True, 4))
    for method in design.methods:
        for job in design.at("cell", method, 1e-3, range(TUNING, TUNING + 2)):
            results.add(job, training(job), MACHINE)
        for lr in (3e-4, 3e-3):
            for job in design.at("cell", method, lr, range(TUNING, TUNING + 2)):
                results.add(job, training(job), MACHINE)
    lost = [math.inf] * POINTS
    pairs = [
        (falling(0.5, 0.25), falling(0.5)),  # a gain of 4
        (lost, falling(0.5)),  # of 0
        (falling(0.5), [2.2] * POINTS),  # the baseline is not better than a guess
        (lost, lost),  # is left out
    ]
    for seed, curves in enumerate(pairs):
        for method, made in zip(design.methods, curves):
            (job,) = design.at("cell", method, 1e-3, [seed])
            results.add(job, {**training(job), "curve": made}, MACHINE)
    (finding,) = design.gains(results, 4, "adam", "rmsprop", (1.0, math.inf))
    assert finding.values == (4.0, 0.0, math.inf)
    assert finding.failed == (2, 2)
    assert finding.missed == 1
    for method, made in zip(design.methods, (falling(0.5, 0.5), falling(0.6))):
        (job,) = design.at("cell", method, 3e-3, [0])
        results.add(job, {**training(job), "curve": made}, MACHINE)
    (finding,) = design.gains(results, 1, "adam", "rmsprop", (1.0, math.inf), lr=3e-3)
    assert finding.what == "cell at 0.003: rmsprop over adam, iterations"
    assert finding.values == (POINTS / 47,)  # 2 - 1.5 i / 50 is at most 0.6 from i = 47 on


def test_what_is_made_up_is_found(everything):
    found = {name: findings_of(claim, everything) for name, claim in CLAIMS.items()}
    assert [f.values for f in found["3"]] == [(4.0,) * 3] * 4
    assert {name: verdict(f) for name, f in found.items() if name in ("1", "3", "7", "8")} == {
        "1": "1 times the update: holds",
        "3": "holds",
        "7": "holds",
        "8": "holds",
    }
    assert [f.median for f in found["1"]] == [pytest.approx(10.0)] * 6
    assert {f.median for f in found["2"] if "seconds" in f.what} == {3.0, 4.0, 4.5}
    # Twice the seconds a step and a quarter of the steps; with four rates searched, (4+1)/2(4+1/4).
    pair = [f.median for f in found["6"] if f.what.startswith("MNIST, tanh: rmsprop over average")]
    assert pair == [pytest.approx(2.0), pytest.approx(10 / 17)]
    assert {f.median for f in found["6"] if "state" in f.what} == {0.5}
    assert {f.median for f in found["6"] if "peak" in f.what} == {1.0}
    assert {f.median for f in found["5"]} == {0.0}
    shallow = [f for f in found["11"] if f.claimed == (0.8, 1.25)]
    assert len(shallow) == 4
    assert {f.outcome for f in shallow} == {"does not hold"}
    assert {f.median for f in found["12"] if "seconds" in f.what} == {2.0}
    assert {f.median for f in found["ablations"]} == {0.25}
    # The verified method is as slow as all that do not begin with "average".
    assert [f.median for f in found["variants"]] == [4.0] * 8 + [1.0] * 2 + [4.0] * 8


def test_the_full_variants_judge_text_by_its_own_claim():
    found = findings_of(CLAIMS["variants"], filled(["variants"], quick=False))
    text = [f for f in found if f.what.startswith("IMDb")]
    assert [f.median for f in text] == [4.0] * 4 + [1.0] + [4.0] * 3
    against_own_rule = [f.claimed[0] for f in found if ": rmsprop over" not in f.what]
    assert against_own_rule == [1.0] * 10
    assert {f.claimed[0] for f in text if ": rmsprop over" in f.what} == {1.55}
    dense = [f for f in found if not f.what.startswith("IMDb") and ": rmsprop over" in f.what]
    assert {f.claimed[0] for f in dense} == {3.0}
    assert found.index(text[0]) == len(found) - len(text)


def test_the_variant_is_compared_with_every_baseline():
    found = variant_findings_of(CLAIMS["11"], filled(["11"], quick=False, seeds=1))
    # Cautious Adam is as slow as all that do not begin with "average".
    assert {(f.part, f.median, f.outcome) for f in found} == {
        (f"{part} against {baseline}", 4.0, verdict)
        for part, verdict in (("shallow", "does not hold"), ("deeper", "holds"))
        for baseline in ("rmsprop", "adam", "cautious-adam")
    }
    found = variant_findings_of(CLAIMS["4"], filled(["4"], quick=False, seeds=1))
    assert {f.part for f in found} == {"at equal epochs", "at equal training loss"}
    assert all("adam over average-adam's" in f.what for f in found if "test loss" in f.what)
    found = findings_of(CLAIMS["5"], filled(["5"], quick=False, seeds=1))
    assert sum("less cautious-adam" in f.what for f in found) == 4


def test_generalization_at_equal_epochs_loss_and_seconds(everything):
    found = [f for f in findings_of(CLAIMS["4"], everything) if "digits, tanh" in f.what]
    # The training loss is reached in a quarter of ten epochs: the third test has a loss of 0.9, an
    # accuracy of 58 %. Steps take twice the seconds: the fifth test has 0.8 and 66 %.
    assert [f.median for f in found] == [
        1.0,
        0.0,
        pytest.approx(0.55 / 0.9),
        pytest.approx(58 - 86),
        pytest.approx(0.55 / 0.8),
        pytest.approx(66 - 86),
    ]


def test_a_training_loss_reached_between_two_tests_is_reached():
    """A noisy curve that is above its target again at every test has reached it all the same."""

    def noisy(job):
        made = outcome(job)
        if not isinstance(job, Experiment) or job.method != "average-rmsprop":
            return made
        ends = POINTS // job.evaluations
        curve = [
            loss if i % ends else loss + 1.0 for i, loss in enumerate(falling(0.5, 0.25), start=1)
        ]
        return {**made, "curve": curve[-1:] if job.seed >= TUNING else curve}

    found = findings_of(CLAIMS["4"], filled(["4"], outcome=noisy))
    loss, points = [f for f in found if "digits, tanh" in f.what and "training loss" in f.what]
    assert loss.median == pytest.approx(0.55 / 0.9)
    assert points.median == pytest.approx(58 - 86)


def test_a_training_loss_that_is_never_reached_counts_as_no_accuracy():
    def stuck(job):
        made = outcome(job)
        slow = isinstance(job, Experiment) and job.method == "average-rmsprop"
        return {**made, "curve": falling(1.0)} if slow else made

    found = findings_of(CLAIMS["4"], filled(["4"], outcome=stuck))
    loss, points = [f for f in found if "digits, tanh" in f.what and "training loss" in f.what]
    assert set(loss.values) == {0.0}
    assert [*points.values] == [pytest.approx(-86)] * 3
    assert loss.missed == points.missed == 3


def lost(methods):
    """Return `outcome`, but trainings and races of these methods end at an infinite loss."""

    def made(job):
        found = outcome(job)
        endless = [*falling(1.0)[:-1], math.inf]
        if isinstance(job, Experiment) and job.seed < TUNING and job.method in methods:
            return {**found, "curve": endless, "test_loss": [math.inf] * job.evaluations}
        if isinstance(job, Race):
            return {m: {**e, "curve": endless} if m in methods else e for m, e in found.items()}
        return found

    return made


@pytest.mark.parametrize("number", ["4", "6"])
def test_where_both_are_lost_nothing_is_found(number):
    both = ("rmsprop", "average-rmsprop")
    found = findings_of(CLAIMS[number], filled([number], outcome=lost(both)))
    found = [f for f in found if "average-rmsprop" in f.what and "adam" not in f.what]
    assert len(found) >= 4
    assert {f.outcome for f in found} == {"undecided"}


@pytest.mark.parametrize(("method", "value"), [("rmsprop", math.inf), ("average-rmsprop", 0.0)])
def test_the_one_that_is_lost_loses(method, value):
    found = findings_of(CLAIMS["6"], filled(["6"], outcome=lost([method])))
    seconds = [f for f in found if "rmsprop over average-rmsprop, seconds" in f.what]
    assert len(seconds) >= 2
    assert {value for f in seconds for value in f.values} == {value}
    found = findings_of(CLAIMS["4"], filled(["4"], outcome=lost([method])))
    assert {v for f in found if "test loss" in f.what for v in f.values} == {value}


def test_a_method_that_is_lost_at_once_has_no_memory_and_no_seconds():
    def made(job):
        found = outcome(job)
        if isinstance(job, Race):
            for method in ("adam", "probed-rmsprop"):
                found.get(method, {}).update(seconds=math.inf, peak_bytes=math.inf)
        return found

    found = findings_of(CLAIMS["6"], filled(["6"], outcome=made))
    peaks = {f.part: f.values for f in found if f.part.startswith("peak")}
    assert peaks == {
        "peak memory of average-rmsprop": (0.0,) * 3,
        "peak memory of probed-rmsprop": (),
    }
    found = findings_of(CLAIMS["12"], filled(["12"], outcome=made))
    probed = [f for f in found if "probed" in f.what]
    assert {f.outcome for f in probed} == {"does not hold"}
    assert finding_table("", []).rows == []


def test_runs_that_failed_at_any_rate_are_counted():
    def stuck(job):
        high = job.method == "rmsprop" and job.lr > 0.001
        return {**outcome(job), "curve": [2.2] * POINTS} if high else outcome(job)

    found = findings_of(CLAIMS["5"], filled(["5"], outcome=stuck))
    assert {f.failed for f in found if "less rmsprop" in f.what} == {(0, 4 * 3)}
    assert {f.failed for f in found if "less adam" in f.what} == {(0, 0)}


def test_what_was_not_counted_is_not_called_zero(everything):
    table = finding_table("", findings_of(CLAIMS["12"], everything))
    assert not {"failed", "missed"} & {*table.head}
    (seconds, *_, peak) = finding_table("", findings_of(CLAIMS["6"], everything)).rows
    assert (seconds[-2:], peak[-2:]) == (["0 of 3", "holds"], ["", "holds"])


def test_the_page_has_test_losses_and_accuracies_epoch_by_epoch(everything):
    chapter = claims_page(everything, "there").partition("\n## 4. ")[2].partition("\n## ")[0]
    assert "| network | method | epoch 1 | epoch 2 |" in chapter
    assert "| digits, relu | Adam | 1 (50.0 %) | 0.95 (54.0 %) |" in chapter


def test_tables_of_rates_estimates_and_races(everything):
    rates = tables_of(CLAIMS["5"], everything)[1]
    assert rates.head[2:] == [
        "1e-05",
        "3e-05",
        "0.0001",
        "0.0003",
        "0.001",
        "0.003",
        "0.01",
        "0.03",
        "0.1",
    ]
    assert rates.rows[0][:4] == ["digits, tanh", "RMSprop", "0.7", "0.652"]
    lost = filled(["5"], outcome=lambda job: {**outcome(job), "curve": [2.2] * POINTS})
    assert tables_of(CLAIMS["5"], lost)[1].rows[0][2] == "2.2 (3)"
    errors, changes, seconds, memory = tables_of(CLAIMS["2"], everything)
    assert errors.head[:3] == ["network and update", "gradient", "average gradient"]
    assert [row[1:3] for row in errors.rows] == [["0.2", "0.02"]] * 2
    assert [row[1:3] for row in seconds.rows] == [["1e+03", "2e+03"]] * 2
    assert [row[1:3] for row in memory.rows] == [["0.001", "0.002"]] * 2
    assert len(changes.rows) == 2
    (races,) = tables_of(CLAIMS["12"], everything)
    assert races.rows[0][:2] == ["width 32, batch 32", "RMSprop"]
    assert races.rows[0][2:] == ["0.0001", "0.5", "1", "0.0001", "0.001"]


def test_breadth_by_hand():
    def wide(job):
        found = training(job)
        flat = job.method == "average-rmsprop" and 1e-4 <= job.lr <= 1e-2
        return {**found, "curve": falling(0.5)} if flat else found

    found = findings_of(CLAIMS["5"], filled(["5"], outcome=wide))
    (width,) = [f for f in found if "tanh: decades" in f.what and "less rmsprop" in f.what]
    # Within 10 % of 0.5 are 1e-3 and 3e-3 (0.548), half a decade each; with it, 1e-4 to 1e-2.
    assert width.values == (1.5,) * 3


# -- the file --------------------------------------------------------------------------------------


def test_results_come_back_from_their_file(tmp_path):
    results = filled(["12"], seeds=1)
    (job, *others) = design_of(CLAIMS["12"], results.settings).jobs(results, 1)
    results.add(job, {"curve": [1.0, math.inf], "x": {"y": [2]}}, {"cores": 3})
    path = tmp_path / "results.json"
    results.save(path)
    loaded = Results.load(path)
    assert loaded.settings == results.settings
    assert loaded[job] == {"curve": [1.0, math.inf], "x": {"y": [2]}}
    assert loaded[others[0]] == results[others[0]]
    assert len(loaded) == len(results)
    assert loaded.machines == ["cores 3", "processor abacus, cores 2"]


def test_the_order_in_which_results_come_does_not_matter(tmp_path):
    jobs = [*design_of(CLAIMS["1"], Settings((), True, 2)).jobs(Results(Settings((), True, 2)), 2)]
    for name, order in (("a", jobs), ("b", jobs[::-1])):
        results = Results(Settings(("1",), True, 2))
        for job in order:
            results.add(job, outcome(job), MACHINE)
        results.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_key_of_a_job_leaves_out_defaults():
    job = Experiment("mnist", "tanh", "adam", 1e-3, 0)
    assert json.loads(key_of(job)) == {
        "kind": "Experiment",
        "data": "mnist",
        "activation": "tanh",
        "method": "adam",
        "lr": 1e-3,
        "seed": 0,
    }
    others = {key_of(replace(job, depth=2)), key_of(replace(job, lr=1e-2)), key_of(job)}
    assert len({*others, key_of(Race(job, (("adam", 1e-3),)))}) == 4
    assert key_of(job) != key_of(Estimates("mnist", "tanh", 0, (1,)))


@pytest.mark.parametrize(
    "content", ["", "[1, 2]", "{}x", '{"settings": {}}', '{"settings": {"claims": []}, "rows": []}']
)
def test_a_file_that_holds_no_results_is_refused(content, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="not a complete file of results"):
        Results.load(path)


# -- reports ---------------------------------------------------------------------------------------


def test_the_report_is_made_from_the_results_alone_byte_for_byte(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        filled(["3", "12"], seeds=2).save(tmp_path / folder / "results.json")
        written = write_report(tmp_path / folder / "results.json")
    assert [path.name for path in written] == ["report.html", "claim-3.png", "claim-12.png"]
    for path in written:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    text = written[0].read_text()
    assert "agrad study 3 12 --quick --seeds 2" in text
    assert "It settles nothing" in text
    assert text.count("<table>") == text.count("<div class='scroll'>\n<table>") == 6
    assert "prefers-color-scheme: dark" in text
    assert text.count("data:image/png;base64,") == 3
    assert "Left out" not in text


def test_the_report_leaves_out_claims_that_lack_runs(tmp_path):
    results = filled(["12"], seeds=1)
    results.settings = Settings(("3", "12"), True, 1)
    results.save(tmp_path / "results.json")
    write_report(tmp_path / "results.json")
    text = (tmp_path / "report.html").read_text()
    assert "Left out, because some of their runs are missing: 3." in text
    assert not (tmp_path / "claim-3.png").exists()
    page = claims_page(results, "there")
    assert f"| 3 | {CLAIMS['3'].text} |  | not run yet |" in page
    assert f"| [12](#claim-12) | {CLAIMS['12'].text} | 1 | seconds: " in page


def test_the_page_says_what_was_run_and_found(everything):
    page = claims_page(everything, "there")
    for claim in CLAIMS.values():
        assert f"## {claim.name}. {claim.text}" in page
        assert f"![Claim {claim.name}: findings](there/claim-{claim.name}.png)" in page
        assert f"`agrad study {claim.name} --quick --seeds 3 --out OUT`" in page
    assert (
        "| MNIST, tanh: rmsprop over average-rmsprop, iterations | 4 | 4 to 4 | at least 3 |"
        in page
    )
    # The quick studies of claims 7 and 11 do not train with the variant.
    assert page.count("The variant, `average-adam`: ") == 2
    chapter = page.partition("\n## 3. ")[2].partition("\n## ")[0]
    assert "| MNIST, tanh: rmsprop over average-adam, iterations | 4 |" in chapter
    assert (
        "*Runs.* 4 networks, dense, 30 layers deep and 32 wide, batches of 32, in 120 iterations: "
        "`rmsprop`, `adam`, `cautious-adam`, `average-rmsprop`, `average-adam`, at the best of 4 "
        "rates from 0.0003 to 0.01 (tuning seeds: 1). Scoring seeds: 3." in chapter
    )
    chapter = page.partition("\n## 12. ")[2].partition("\n## ")[0]
    assert "32 or 128 wide, batches of 32 or 256, in 40 iterations: interleaved races of" in chapter
    assert (
        "**Verdict.** seconds: holds (8 findings, median 2); "
        "peak memory: holds (8 findings, median 1)." in chapter
    )


def test_a_claim_has_as_many_seeds_as_have_all_their_runs():
    results = filled(["12"], seeds=5)
    results.settings = Settings(("12",), True, 9)
    page = claims_page(results, "there")
    assert "`agrad study 12 --quick --seeds 5 --out OUT`" in page
    assert f"| {CLAIMS['12'].text} | 5 | seconds: " in page
    *jobs, last = missing(CLAIMS["12"], results, 9)
    for job in jobs:
        results.add(job, outcome(job), MACHINE)
    assert complete(CLAIMS["12"], results).settings.seeds == 8
    results.add(last, outcome(last), MACHINE)
    assert complete(CLAIMS["12"], results).settings.seeds == 9
    assert complete(CLAIMS["3"], results) is None


def test_the_rows_of_readme(everything):
    rows = readme_rows(everything).splitlines()
    assert rows[2:] == [
        f"| iterations: {compared} | 4 (4 to 4) | 4 (4 to 4) |"
        for compared in (
            "RMSprop over average gradient on RMSprop",
            "RMSprop over average gradient on Adam",
            "Adam over average gradient on Adam",
        )
    ]
    panels = readme_figure(everything).axes
    assert [axis.get_title() for axis in panels] == ["MNIST, tanh", "MNIST, relu"]


def test_the_rows_of_readme_need_their_claim():
    with pytest.raises(ValueError, match="need all runs of claim 3"):
        readme_rows(filled(["12"], seeds=1))


def committed():
    """Return the results of the committed study, and its folder's path from the documentation's."""
    folder = runpy.run_path(str(ROOT / "docs" / "make_claims.py"))["FOLDER"]
    return Results.load(ROOT / "docs" / folder / "results.json"), folder


def test_readme_has_the_rows_of_the_committed_studies():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    results, _ = committed()
    assert f"agrad study 3 --seeds {complete(CLAIMS['3'], results).settings.seeds}`" in readme
    for row in readme_rows(results).splitlines()[2:]:
        name, rest = row.split(" |", 1)
        assert f"{name} ¹ |{rest}" in readme


def test_the_page_in_the_documentation_is_made_from_its_results():
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert page == claims_page(*committed())
