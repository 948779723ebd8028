"""The one exception of a broken contract, and the one way to raise it."""

from __future__ import annotations


class ContractError(AssertionError):
    """A part does not keep its contract. pytest shows it as a failed assertion."""


def require(kept: bool, expected: str, came: str, mend: str) -> None:
    """ContractError unless kept."""
    if not kept:
        raise ContractError(f"expected {expected}; came {came}; to mend it: {mend}")
