"""Probe scores of features [N, D]: nearest neighbours and linear models, blind to rows of the same group."""

from __future__ import annotations

from typing import Any

import numpy as np

FOLDS = 5
QUERIES = 1024  # of which the similarities to all rows are in memory at a time


def majority_share(labels: np.ndarray) -> float:
    """The accuracy of always saying the commonest label."""
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def neighbours(features: np.ndarray, groups: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k rows most like each row of [N, D] by cosine, none of its group: indices, similarities [N, k].

    Where another group has fewer than k rows in all, the similarity of the missing ones is -inf.
    """
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = (features / np.maximum(length, 1e-12)).astype(np.float32)
    found = [_nearest(unit, groups, start, k) for start in range(0, len(unit), QUERIES)]
    return np.concatenate([index for index, _ in found]), np.concatenate([near for _, near in found])


def _nearest(unit: np.ndarray, groups: np.ndarray, start: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    likeness = unit[start : start + QUERIES] @ unit.T
    likeness[groups[start : start + QUERIES, None] == groups[None]] = -np.inf
    order = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(likeness, order, axis=1)


def knn_labels(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, k: int = 5) -> np.ndarray:
    """What the k nearest of each row vote for [N]; of equal votes the greater sum of similarities."""
    index, likeness = neighbours(features, groups, k)
    names, codes = np.unique(labels, return_inverse=True)
    there = np.isfinite(likeness)
    votes, sums = np.zeros((2, len(labels), len(names)))
    row = np.arange(len(labels))[:, None]
    np.add.at(votes, (row, codes[index]), there)
    np.add.at(sums, (row, codes[index]), np.where(there, likeness, 0.0))
    # Similarities lie in [-1, 1], so k of them scaled down this far never outweigh a vote.
    return names[(votes + sums / (4.0 * k)).argmax(axis=1)]


def knn_values(features: np.ndarray, values: np.ndarray, groups: np.ndarray, k: int = 5) -> np.ndarray:
    """The mean value of the k nearest of each row [N]."""
    index, likeness = neighbours(features, groups, k)
    there = np.isfinite(likeness)
    return (values[index] * there).sum(axis=1) / there.sum(axis=1)


def linear_labels(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, k: int = 5) -> np.ndarray:
    """What logistic regression on standardised features says of each row [N], over grouped folds.

    A label that occurs in one group alone cannot be known when that group is asked about: it counts as wrong.
    """
    from sklearn.linear_model import LogisticRegression

    return _out_of_fold(LogisticRegression(max_iter=2000), features, labels, groups)


def ridge_values(features: np.ndarray, values: np.ndarray, groups: np.ndarray, k: int = 5) -> np.ndarray:
    """What ridge regression on standardised features says [N]; each grouped fold chooses its strength."""
    from sklearn.linear_model import RidgeCV

    return _out_of_fold(RidgeCV(alphas=np.logspace(-1, 5, 13)), features, values, groups)


def knn_accuracy(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, k: int = 5) -> float:
    """Share of rows whose k nearest vote for their label."""
    return float((knn_labels(features, labels, groups, k) == labels).mean())


def knn_r2(features: np.ndarray, values: np.ndarray, groups: np.ndarray, k: int = 5) -> float:
    """R² of the mean value of the k nearest rows."""
    return r2(values, knn_values(features, values, groups, k))


def linear_accuracy(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, k: int = 5) -> float:
    """Accuracy of the linear probe."""
    return float((linear_labels(features, labels, groups) == labels).mean())


def ridge_r2(features: np.ndarray, values: np.ndarray, groups: np.ndarray, k: int = 5) -> float:
    """R² of the ridge probe."""
    return r2(values, ridge_values(features, values, groups))


def r2(values: np.ndarray, predicted: np.ndarray) -> float:
    """1 - squared error / squared error of the mean."""
    return float(1 - np.square(values - predicted).sum() / np.square(values - values.mean()).sum())


def fold_of(groups: np.ndarray, count: int = FOLDS) -> np.ndarray:
    """The number of the fold of each row [N]: groups stay whole, folds are about equal, at most `count`."""
    from sklearn.model_selection import GroupKFold

    # GroupKFold deals groups of one size to the folds in turn: shuffled, because labels may take turns too.
    groups = np.unique(groups, return_inverse=True)[1]
    mixed = np.random.default_rng(0).permutation(groups.max() + 1)[groups]
    fold = np.zeros(len(groups), np.int64)
    folds = GroupKFold(min(count, groups.max() + 1)).split(fold, groups=mixed)
    for number, (_, test) in enumerate(folds):
        fold[test] = number
    return fold


def _out_of_fold(model: Any, features: np.ndarray, answers: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """What a model fitted on the other folds says of each row; the groups of a fold are in no other."""
    from sklearn.dummy import DummyClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    said = np.empty_like(answers)
    fold = fold_of(groups)
    for number in range(fold.max() + 1):
        train, test = fold != number, fold == number
        one = len(np.unique(answers[train])) < 2  # logistic regression refuses a fold of one label
        fitted = make_pipeline(StandardScaler(), DummyClassifier() if one else model)
        said[test] = fitted.fit(features[train], answers[train]).predict(features[test])
    return said
