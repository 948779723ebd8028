"""Numbers as colours: three principal components of tokens as RGB, and a ramp for errors."""

from __future__ import annotations

import numpy as np

FITTED = 20_000
"""Tokens that the components are fitted on, at most."""
RAMP = np.array(
    [[13, 8, 75], [106, 20, 143], [191, 49, 114], [239, 112, 62], [250, 200, 62], [252, 250, 190]]
)
"""Dark to bright, so that it reads without colour, too."""


def components(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [..., D] on their first three principal axes, and the share of the variance each holds.

    One fit over all of them: [..., 3], whose signs are fixed (the largest entry of an axis is positive), and
    [3]; where D or the rank is below 3 the rest is 0.
    """
    rows = tokens.reshape(-1, tokens.shape[-1]).astype(np.float64)
    rows = rows - rows.mean(axis=0)
    sample = rows[:: max(1, -(-len(rows) // FITTED))]
    values, axes = np.linalg.eigh(sample.T @ sample)
    total = values.clip(0).sum()
    values, axes = values[::-1][:3].clip(0), axes[:, ::-1][:, :3]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    share = values / total if total > 0 else np.zeros_like(values)
    placed = (rows @ axes) * (share > 1e-9)
    short = 3 - axes.shape[1]
    placed, share = np.pad(placed, [(0, 0), (0, short)]), np.pad(share, (0, short))
    return placed.reshape(*tokens.shape[:-1], 3), share


def token_colours(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [..., D] as uint8 RGB [..., 3], and the shares of variance [3]: equal tokens, equal colours.

    Each component fills its channel from its 2nd to its 98th percentile.
    """
    placed, share = components(tokens)
    flat = placed.reshape(-1, 3)
    low, high = np.percentile(flat, 2, axis=0), np.percentile(flat, 98, axis=0)
    span = np.where(high > low, high - low, np.inf)  # a component that is not there stays in the middle
    scaled = np.where(high > low, (placed - low) / span, 0.5)
    return np.round(255 * scaled.clip(0, 1)).astype(np.uint8), share


def ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers [...] as uint8 RGB [..., 3]: the dark end at low, the bright one at high."""
    place = ((values - low) / (high - low if high > low else 1.0)).clip(0, 1) * (len(RAMP) - 1)
    stops = np.arange(len(RAMP))
    channels = [np.interp(place, stops, RAMP[:, channel]) for channel in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)
