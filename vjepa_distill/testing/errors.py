"""The one exception of a broken contract, in three parts, and the one way to raise it."""

from __future__ import annotations


class ContractError(AssertionError):
    """A part does not keep its contract. pytest shows it as a failed assertion.

    Args:
        expected: what the contract says.
        came: what was found instead.
        mend: what to do about it.
        check: the name of the check that found it, where there is one.
    """

    def __init__(self, expected: str, came: str, mend: str, check: str = "") -> None:
        super().__init__(expected, came, mend, check)
        self.expected = expected
        self.came = came
        self.mend = mend
        self.check = check

    def __str__(self) -> str:
        words = f"expected {self.expected}; came {self.came}; to mend it: {self.mend}"
        return f"{self.check}: {words}" if self.check else words


def require(kept: bool, expected: str, came: str, mend: str) -> None:
    """ContractError unless kept."""
    if not kept:
        raise ContractError(expected, came, mend)
