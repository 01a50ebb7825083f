"""Cases of losses, and strategies for their targets and options."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

import agrad.nn.functional as F
from agrad.backend import Array
from agrad.ops import arithmetic, ctc, loss
from agrad.testing.strategies._arrays import seeds, shapes
from agrad.testing.strategies._operations.case import Case, Entry
from agrad.testing.strategies._points import POSITIVE, REAL, points

__all__ = ["ENTRIES", "logits_and_classes", "reductions"]

reductions = st.sampled_from(["mean", "sum", "none"])


@st.composite
def logits_and_classes(draw: st.DrawFn) -> tuple[Array, Array, dict[str, Any]]:
    """Draw logits (C,), (N, C) or (N, C, d), their target classes, and the options of a loss."""
    classes = draw(st.integers(1, 4))
    batch = draw(st.sampled_from([(), (1,), (3,), (2, 3)]))
    (logits,) = draw(points(((*batch[:1], classes, *batch[1:]), REAL)))
    rng = np.random.default_rng(draw(seeds))
    target = np.asarray(rng.integers(0, classes, batch))
    options: dict[str, Any] = {"reduction": draw(reductions)}
    if draw(st.booleans()):
        options["weight"] = rng.uniform(0.5, 2, classes)
    if target.size > 1 and draw(st.booleans()):
        target.flat[0] = options["ignore_index"] = -1
    return logits, target, options


@st.composite
def likelihood(draw: st.DrawFn) -> Case:
    logits, target, options = draw(logits_and_classes())
    return Case(F.nll_loss, (logits,), (REAL,), {"target": target, **options})


@st.composite
def entropy(draw: st.DrawFn, *smoothing: float) -> Case:
    logits, target, options = draw(logits_and_classes())
    options |= {"target": target, "label_smoothing": draw(st.sampled_from(smoothing))}
    return Case(F.cross_entropy, (logits,), (REAL,), options)


@st.composite
def soft_entropy(draw: st.DrawFn) -> Case:
    logits, _, options = draw(logits_and_classes())
    options.pop("ignore_index", None)
    options["label_smoothing"] = draw(st.sampled_from([0.0, 0.1]))
    options["target"] = np.random.default_rng(draw(seeds)).random(logits.shape)
    return Case(F.cross_entropy, (logits,), (REAL,), options)


@st.composite
def binary_entropy(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_side=1))
    rng = np.random.default_rng(draw(seeds))
    options: dict[str, Any] = {"target": rng.random(drawn), "reduction": draw(reductions)}
    for name in ("weight", "pos_weight"):
        if draw(st.booleans()):
            options[name] = rng.uniform(0.5, 2, drawn[-1:])
    inputs = draw(points((drawn, REAL)))
    return Case(F.binary_cross_entropy_with_logits, inputs, (REAL,), options)


@st.composite
def squared_error(draw: st.DrawFn) -> Case:
    drawn, options = draw(shapes(min_side=1)), {"reduction": draw(reductions)}
    return Case(F.mse_loss, draw(points((drawn, REAL), (drawn, REAL))), (REAL, REAL), options)


@st.composite
def robust(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_side=1))
    options: dict[str, Any] = {"reduction": draw(reductions)}
    function, name = draw(st.sampled_from([(F.huber_loss, "delta"), (F.smooth_l1_loss, "beta")]))
    options[name] = draw(st.sampled_from([0.5, 1.5]))
    inputs = draw(points((drawn, REAL), (drawn, REAL)))
    return Case(function, inputs, (REAL, REAL), options, name=function.__name__)


@st.composite
def probabilities(draw: st.DrawFn) -> Case:
    drawn, options = draw(shapes(min_side=1)), {"reduction": draw(reductions)}
    return Case(
        lambda x, y, reduction: F.binary_cross_entropy(
            F.sigmoid(x), F.sigmoid(y), reduction=reduction
        ),
        draw(points((drawn, REAL), (drawn, REAL))),
        (REAL, REAL),
        options,
    )


@st.composite
def gaussian(draw: st.DrawFn) -> Case:
    drawn = draw(shapes(min_dims=1, min_side=1))
    spread = draw(st.sampled_from([drawn, drawn[:-1], (*drawn[:-1], 1)]))
    inputs = draw(points((drawn, REAL), (drawn, REAL), (spread, POSITIVE)))
    options = {"reduction": draw(reductions), "full": draw(st.booleans())}
    return Case(F.gaussian_nll_loss, inputs, (REAL, REAL, POSITIVE), options)


@st.composite
def unaligned(draw: st.DrawFn) -> Case:
    times, count, most = draw(st.integers(3, 5)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    inputs = draw(points(((times, count, 4), REAL)))
    rng = np.random.default_rng(draw(seeds))
    lengths = rng.integers(3, times + 1, count)
    options = {
        "targets": rng.integers(1, 4, (count, most)),
        "input_lengths": lengths,
        "target_lengths": rng.integers(0, np.minimum(most, lengths // 2) + 1),
        "reduction": draw(reductions),
    }
    return Case(F.ctc_loss, inputs, (REAL,), options)


ENTRIES = {
    "nll_loss": Entry(loss.NegativeLogLikelihood, likelihood()),
    "cross_entropy": Entry(loss.CrossEntropy, entropy(0.0)),
    "cross_entropy with label smoothing": Entry(loss.SoftNegativeLogLikelihood, entropy(0.1, 1.0)),
    "cross_entropy of probabilities": Entry(loss.SoftNegativeLogLikelihood, soft_entropy()),
    "binary_cross_entropy_with_logits": Entry(loss.BinaryCrossEntropy, binary_entropy()),
    "mse_loss": Entry(arithmetic.Subtract, squared_error()),
    "huber_loss": Entry(loss.Huber, robust()),
    "binary_cross_entropy": Entry(loss.ProbabilityEntropy, probabilities()),
    "gaussian_nll_loss": Entry(loss.Within, gaussian()),
    "ctc_loss": Entry(ctc.PathLikelihood, unaligned()),
}
