"""The contracts as checks, for plugins and our own: failures say what was expected, what came, what to do.

In comes an encoder, an objective or a decoder (``backbone.py``, ``objective.py``, ``decoder.py`` hold their
lists of checks); out go findings, or the first that fails. It must never know one by name: ours and
strangers' are equal.

In a plugin's tests::

    from vjepa_distill.testing import check_backbone

    def test_contract():
        check_backbone(lambda: create("mine/small"))
"""

from vjepa_distill.testing.backbone import (
    BACKBONE_CHECKS,
    Finding,
    check_backbone,
    examine_backbone,
    report_backbone,
)
from vjepa_distill.testing.decoder import check_decoder
from vjepa_distill.testing.errors import ContractError
from vjepa_distill.testing.objective import check_objective
from vjepa_distill.testing.sizes import fitting_clip
from vjepa_distill.testing.tools import sample_clip

__all__ = [
    "BACKBONE_CHECKS",
    "ContractError",
    "Finding",
    "check_backbone",
    "check_decoder",
    "check_objective",
    "examine_backbone",
    "fitting_clip",
    "report_backbone",
    "sample_clip",
]
