"""The rows of a batch that each rank computes, and their weights in its loss."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import agrad as ag
import agrad.nn.functional as F
from agrad import nn
from agrad.train.share import mean_loss, row_weights, share_of

weights = st.lists(st.integers(0, 3), min_size=1, max_size=12).filter(any)


def mean(losses, counts):
    """Return the mean of the rows' losses; losses of rows without a label do not matter."""
    return np.average(losses, weights=counts) if counts.any() else 1.0


@example(counts=[0, 1], size=1, probe=1)
@given(counts=weights, size=st.integers(1, 5), probe=st.none() | st.integers(1, 14))
def test_the_ranks_losses_add_up_to_that_of_the_batch(counts, size, probe):
    counts = np.array(counts, float)
    losses = np.arange(len(counts)) + 1.0
    total = first_total = 0.0
    for rank in range(size):
        ranks = SimpleNamespace(rank=rank, size=size, rows=slice(rank, None, size))
        share = share_of(ranks, counts, probe)
        own, labels = losses[share.rows], counts[share.rows]
        assert labels.any()  # so that the mean of its loss is finite
        total += share.weight * mean(own, labels)
        on_all = probe is None or probe >= len(counts) or not counts[:probe].any()
        assert (share.first is None) == on_all
        if share.first is not None:
            assert share.first_weight == 0 or labels[: share.first].any()
            first_total += share.first_weight * mean(own[: share.first], labels[: share.first])
    assert total == pytest.approx(mean(losses, counts))
    if probe is not None and probe < len(counts) and counts[:probe].any():
        assert first_total == pytest.approx(mean(losses[:probe], counts[:probe]))


def test_a_batch_without_labels_has_no_mean():
    ranks = SimpleNamespace(rank=0, size=2, rows=slice(0, None, 2))
    with np.errstate(invalid="ignore"):
        assert np.isnan(share_of(ranks, np.zeros(3), None).weight)


def test_labels_that_are_left_out_do_not_count():
    x, labels = np.ones((3, 2, 4)), np.array([[0, 1, -100, 1], [-100] * 4, [0, 0, 0, 0]])
    for loss in (F.cross_entropy, nn.CrossEntropyLoss(), partial(F.cross_entropy)):
        assert row_weights("train", loss, x, labels).tolist() == [3, 0, 4]
    weighted = nn.CrossEntropyLoss(weight=[0.25, 2.0])
    assert row_weights("train", weighted, x, labels).tolist() == [4.25, 0, 1]
    weighted.ignore_index = 0
    assert row_weights("train", weighted, x, np.maximum(labels, 0)).tolist() == [4, 0, 0]
    assert row_weights("train", F.mse_loss, x, labels).tolist() == [1, 1, 1]


def test_only_means_over_the_examples_can_be_shared():
    output = ag.tensor(np.random.default_rng(0).standard_normal((5, 3)), dtype=np.float32)
    labels = np.array([0, 1, 2, 1, 0])
    for mean in (
        partial(F.cross_entropy, label_smoothing=0.1),
        partial(F.cross_entropy, ignore_index=1),
        nn.CrossEntropyLoss(weight=[1.0, 2.0, 3.0]),
        nn.MSELoss(),
    ):
        given = labels if not isinstance(mean, nn.MSELoss) else output.data[::-1]
        assert mean_loss(mean, output, given).item() == mean(output, given).item()
    for wrong in (
        partial(F.cross_entropy, reduction="sum"),
        nn.CrossEntropyLoss(reduction="sum"),
        lambda output, labels: F.cross_entropy(output, labels, ignore_index=1),
    ):
        with pytest.raises(ValueError, match="must return the mean of the losses"):
            mean_loss(wrong, output, labels)
