"""Options of another type than a factory says are refused before anything is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from vjepa_distill import registry
from vjepa_distill.errors import UserError
from vjepa_distill.settings.values import misfits


def factory(
    model: str,
    depth: int = 1,
    rate: float = 0.0,
    weights: str | None = None,
    size: int | Sequence[int] | None = None,
    more: Mapping[str, Any] | None = None,
    cell: tuple[int, int] = (1, 1),
    kind: Literal["a", "b"] = "a",
    on: bool = False,
    free: Any = None,
    bare=None,
) -> None: ...


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 3, "rate": 1, "weights": None, "size": [1, 2], "more": {"a": 1}, "cell": [2, 3]},
        {"rate": 0.5, "weights": "x", "size": 4, "kind": "b", "on": True, "free": object(), "bare": 1},
    ],
)
def test_what_is_of_the_type_passes(options: dict[str, Any]) -> None:
    assert misfits(factory, options) == {}


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("depth", "x", "int"),
        ("depth", 1.5, "int"),
        ("depth", True, "int"),
        ("rate", "fast", "float"),
        ("weights", 3, "str or null"),
        ("size", "big", "int or collections.abc.Sequence[int] or null"),
        ("more", 3, "collections.abc.Mapping[str, typing.Any] or null"),
        ("cell", 2, "tuple[int, int]"),
        ("cell", [2, "x"], "tuple[int, int]"),
        ("size", [2, "x"], "int or collections.abc.Sequence[int] or null"),
        ("kind", "c", "choice of a, b"),
        ("on", "no", "bool"),
    ],
)
def test_what_is_not_is_named_with_the_type(option: str, value: Any, words: str) -> None:
    assert misfits(factory, {option: value}) == {option: words}


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("vjepa/tiny", {"depth": "x"}, "option depth='x' is no int"),
        ("vjepa/tiny", {"patch": 0}, "give tubelet and patch of 1 or more"),
        ("vjepa/tiny", {"tubelet": 0}, "give tubelet and patch of 1 or more"),
        ("conv/small", {"width": "abc"}, "option width='abc' is no int"),
        ("conv/small", {"tubelet": 0}, "give tubelet and patch of 1 or more"),
        ("timm/test_vit", {"tubelet": "two"}, "option tubelet='two' is no int"),
        ("timm/test_vit", {"tubelet": -1}, "give tubelet and patch of 1 or more"),
        ("timm/test_vit", {"timm": 3}, "option timm=3 is no dict"),
        ("timm/test_vit", {"weights": 3}, "option weights=3 is no str or null"),
        ("torchvision/s3d", {"weights": 3}, "option weights=3 is no str or null"),
    ],
)
def test_a_backbones_options_in_one_line(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        registry.create_backbone(name, **options)
