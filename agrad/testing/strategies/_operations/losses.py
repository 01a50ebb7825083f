"""Cases of losses, and strategies for their targets and options."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

import agrad.nn.functional as F
from agrad.backend import Array
from agrad.ops import arithmetic, loss
from agrad.testing.strategies._arrays import seeds, shapes
from agrad.testing.strategies._operations.case import Case, Entry
from agrad.testing.strategies._points import REAL, points

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


ENTRIES = {
    "nll_loss": Entry(loss.NegativeLogLikelihood, likelihood()),
    "cross_entropy": Entry(loss.CrossEntropy, entropy(0.0)),
    "cross_entropy with label smoothing": Entry(loss.SoftNegativeLogLikelihood, entropy(0.1, 1.0)),
    "cross_entropy of probabilities": Entry(loss.SoftNegativeLogLikelihood, soft_entropy()),
    "binary_cross_entropy_with_logits": Entry(loss.BinaryCrossEntropy, binary_entropy()),
    "mse_loss": Entry(arithmetic.Subtract, squared_error()),
}
