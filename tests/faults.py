"""Faults put into real runs: losses times a number, or a collapse, when the run meets a place in its data.

As a program, for torchrun: python tests/faults.py JSON COMMAND ..., the command as behind vjepa-distill.
"""

import json
import sys

import torch

from vjepa_distill.stages.distill import Distill
from vjepa_distill.stages.jepa import Jepa

STAGES = {"distill": Distill, "jepa-train": Jepa}


def inject(command, factors, collapse=(), put=setattr):
    """The stage of a command, broken: by patching its class, so that everything around it is as it is.

    factors: {position of the data: what the losses of a batch with that row are multiplied by}.
    collapse: after an update that met one of these, all weights of student and teacher are zero; a rank sees
    its own rows alone.
    """
    stage = STAGES[command]
    forward, after_step = stage.forward, stage.after_step
    factors = {int(position): factor for position, factor in factors.items()}

    def broken_forward(self, batch):
        losses = forward(self, batch)
        if not self.training:
            return losses
        rows = batch.position.tolist()
        self.collapses = not set(rows).isdisjoint(collapse)
        for position in set(rows) & factors.keys():
            losses = {name: loss * factors[position] for name, loss in losses.items()}
        return losses

    @torch.no_grad()
    def broken_after_step(self, step):
        after_step(self, step)
        if self.collapses:
            for part in (self.student, self.teacher):
                for weight in part.parameters():
                    weight.zero_()

    put(stage, "forward", broken_forward)
    put(stage, "after_step", broken_after_step)


if __name__ == "__main__":
    from vjepa_distill.cli import main

    torch.set_num_threads(1)
    inject(sys.argv[2], **json.loads(sys.argv[1]))
    main(sys.argv[2:])
