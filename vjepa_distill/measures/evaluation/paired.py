"""A paired linear probe: of two versions of one clip, say which is which."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vjepa_distill.measures.scores import fold_of

STRENGTHS = 10.0 ** np.arange(-5, 1.1, 0.5)
"""Of the penalty, as a share of the sum of squares of the differences."""
INNER = 3


def paired(
    one: np.ndarray, other: np.ndarray, groups: np.ndarray, floor: np.ndarray | float = 0.0
) -> np.ndarray:
    """For each pair of rows of [N, D] whether it was told which is which: 1, 0, or 1/2 for a tie. float [N].

    Ridge regression without intercept of 1 on the differences d (so of -1 on -d, the other answer), which is
    a shrunk Fisher discriminant, over five folds of whole groups; its strength is chosen by folds inside each
    training part. A channel is divided by its standard deviation over both versions of the training rows.
    floor [D]: differences no larger are none. Rounding alone differs where frames are summed in another
        order, and a probe of standardised features would find what it correlates with.
    """
    apart = one.astype(np.float64) - other
    apart[np.abs(apart) <= floor] = 0.0
    right = np.full(len(apart), 0.5)
    for train, test in splits(groups):
        spread = np.concatenate([one[train], other[train]]).std(axis=0)
        d = apart / np.maximum(spread, 1e-12)
        margin = d[test] @ direction(d[train], groups[train])
        right[test] = (np.sign(margin) + 1) / 2
    return right


def splits(groups: np.ndarray, count: int = 5) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit on and rows to judge, for each fold."""
    fold = fold_of(groups, count)
    for number in range(fold.max() + 1):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def direction(d: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The weights [D] by which differences [N, D] come out at 1, at the strength that held-out pairs like."""
    if not d.any():
        return np.zeros(d.shape[1])
    loss = np.zeros(len(STRENGTHS))
    if len(np.unique(groups)) >= INNER:
        for train, test in splits(groups, INNER):
            loss += np.square(1 - d[test] @ fitted(d[train], STRENGTHS)).sum(axis=0)
    return fitted(d, STRENGTHS[[loss.argmin()]])[:, 0]


def fitted(d: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    """Weights [D, S] that minimise |1 - d w|² / N + strength · |d|² / N · |w|², for each strength."""
    tall = d.shape[0] > d.shape[1]
    gram = d.T @ d if tall else d @ d.T
    values, basis = np.linalg.eigh(gram)
    shared = basis.T @ (d.sum(axis=0) if tall else np.ones(len(d)))
    penalty = np.maximum(strengths * np.trace(gram), 1e-300)
    weights = basis @ (shared[:, None] / (values.clip(0)[:, None] + penalty))
    return weights if tall else d.T @ weights
