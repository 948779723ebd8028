"""The options by which commands choose an encoder and how it runs, once for all that have them."""

from __future__ import annotations

from typing import Any, Literal

from vjepa_distill.settings import Data


def add_encoder(parser: Any) -> None:
    """Which encoder behind the source: options of a registered one, student or teacher of a run."""
    parser.add_argument(
        "--options",
        type=dict[str, Any],
        default={},
        help="Options of a registered backbone, e.g. '{depth: 6}'.",
    )
    parser.add_argument(
        "--which",
        type=Literal["student", "teacher"],
        default="student",
        help="Of a jepa-train run: or its average.",
    )


def add_running(parser: Any, amp: Literal["bf16", "fp32"]) -> None:
    """Batch, precision (its default), device and seed."""
    add = parser.add_argument
    add("--batch_size", type=int, default=16, help="Clips in one forward pass.")
    add("--amp", type=Literal["bf16", "fp32"], default=amp, help="Precision of matrix products.")
    add_device(parser)
    add("--seed", type=int, default=0, help="Of random weights.")


def add_device(parser: Any) -> None:
    """Where it runs."""
    parser.add_argument(
        "--device", type=Literal["auto", "cpu", "cuda"], default="auto", help="Where it runs."
    )


def add_data(parser: Any) -> None:
    """Which videos, and how clips are cut."""
    parser.add_class_arguments(Data, "data")
