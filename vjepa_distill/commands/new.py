"""plugins new: writes the package of a plugin and says what to type next."""

from __future__ import annotations

import sys

from vjepa_distill.commands.template import write_plugin
from vjepa_distill.errors import UserError
from vjepa_distill.registry import catalogue


def new_plugin(name: str, folder: str) -> int:
    """Write it; UserError where the family's name is taken already."""
    for offer in catalogue("backbone").values():
        if offer.name.partition("/")[0] == name:
            raise UserError(f"the family {name!r} is {offer.origin}'s ({offer.name}): give another name")
    made = write_plugin(name, folder or None)
    print(f"{made} holds a plugin that works as it is. Type next:", file=sys.stderr)
    print(f"pip install --no-build-isolation -e {made}")
    print(f"python -m pytest {made}")
    print(f"vjepa-distill backbones check {name}/small")
    return 0
