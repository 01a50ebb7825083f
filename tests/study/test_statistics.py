"""Statistics against SciPy's, and the verdicts of findings on a claim."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrad.study.statistics import Finding, interval, sign_test, verdict

UP = {"claimed": (3.0, math.inf), "direction": (1.0, math.inf)}


@given(st.integers(0, 12), st.integers(0, 12))
def test_the_sign_test_is_the_exact_binomial_test(wins, losses):
    from scipy import stats  # takes seconds to import, which other workers spare

    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1e300) | st.just(math.inf), min_size=1, max_size=9))
def test_an_interval_holds_the_median_and_lies_within_the_values(values):
    low, high = interval(values)
    assert min(values) <= low <= np.median(values) <= high <= max(values)


def test_an_interval_is_that_of_scipy():
    from scipy import stats

    values = np.random.default_rng(1).normal(2, 1, 41)
    found = stats.bootstrap((values,), np.median, method="percentile", random_state=0)
    # Medians of resamples are values or means of two; both ends are noisy by about a tenth.
    np.testing.assert_allclose(interval(values), found.confidence_interval, atol=0.15)


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ((4.0, 5.0, 6.0), "holds"),
        ((3.0, 3.0, 3.0), "holds"),
        ((2.0, 2.5, 3.5), "partly"),
        ((1.0, 2.0, 3.0), "does not hold"),
        ((0.0, 5.0, 6.0), "does not hold"),
        ((math.inf, math.inf, 4.0), "holds"),
        ((), "undecided"),
    ],
)
def test_the_outcome_of_a_finding(values, outcome):
    assert Finding("x", values, **UP).outcome == outcome


def test_about_the_same_is_a_range():
    def outcome(*values):
        return Finding("x", values, (0.8, 1.25), (0.5, 2.0)).outcome

    assert outcome(0.9, 1.0, 1.1) == "holds"
    assert outcome(1.3, 1.4, 1.5) == "partly"
    assert outcome(0.4, 1.0, 1.1) == outcome(1.0, 1.1, 2.5) == "does not hold"


def test_ties_do_not_count_in_the_sign_test():
    assert Finding("x", (1.0, 1.0, 2.0, 2.0), **UP).p == 0.5
    assert Finding("x", (0.0, 0.1, 0.2), **UP, neutral=0.0).p == 0.5


def test_a_verdict_needs_findings_that_agree():
    holds, partly, no, none = (
        Finding("x", values, **UP) for values in ((4.0,), (2.0,), (0.0,), ())
    )
    assert verdict([holds, holds, none]) == "holds"
    assert verdict([holds, no]) == verdict([holds, partly]) == "partly"
    assert verdict([no, no]) == "does not hold"
    assert verdict([none]) == "undecided"


def test_each_part_of_a_claim_has_a_verdict():
    holds, no = (Finding("x", (value,), **UP, part="time") for value in (4.0, 0.0))
    other = Finding("x", (0.0,), **UP, part="memory")
    assert verdict([holds, other, holds]) == "time: holds; memory: does not hold"
    assert verdict([holds, other, no]) == "time: partly; memory: does not hold"
