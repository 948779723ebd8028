"""Two real gloo ranks against one process on the whole batch."""

import os
import subprocess
import sys

import pytest
import torch

from vjepa_distill import distributed
from vjepa_distill.errors import Echo, UserError
from vjepa_distill.runs.first import from_first

HERE = os.path.dirname(os.path.abspath(__file__))


def contrastive(rows, others, first):
    """InfoNCE of rows [b, D] against others [n, D]; the partner of row i is others[first + i]."""
    logits = torch.nn.functional.normalize(rows, dim=-1) @ torch.nn.functional.normalize(others, dim=-1).T
    return torch.nn.functional.cross_entropy(logits / 0.2, first + torch.arange(len(rows)))


def whole_batch():
    """Two little encoders in fp64 and eight rows, the same on every rank."""
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(6, 5), "b": torch.nn.Linear(6, 5)}).double()
    return model, torch.randn(8, 6, dtype=torch.float64)


class Towers(torch.nn.Module):
    """Both encoders in one forward, so that DDP sees it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, rows, first):
        others = distributed.gather_with_grad(self.model["b"](rows))
        return contrastive(self.model["a"](rows), others, first)


def check_two_ranks():
    """Runs on each of two ranks; any failed assertion ends the process with an error."""
    with distributed.process_group("cpu") as ranks:
        assert ranks.world == 2
        model, rows = whole_batch()
        towers = distributed.wrap(Towers(model), "cpu")
        loss = towers(rows[4 * ranks.rank :][:4], first=4 * ranks.rank)
        loss.backward()
        alone, _ = whole_batch()
        whole = contrastive(alone["a"](rows), alone["b"](rows), 0)
        whole.backward()
        torch.testing.assert_close(distributed.all_mean(loss), whole.detach(), rtol=0, atol=1e-12)
        for mine, theirs in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=1e-12)
        check_decisions(ranks.rank)
        check_half_precision(ranks.rank)
    assert not distributed.active(), "the group is left at exit"


def check_decisions(rank):
    assert not distributed.all_true(rank == 0)
    assert distributed.any_true(rank == 1)
    assert distributed.all_true(True)
    assert not distributed.any_true(False)
    assert distributed.broadcast_object({"from": rank}) == {"from": 0}
    assert distributed.gather_object(rank * 10) == [0, 10]
    assert from_first(lambda: rank) == 0
    with pytest.raises(UserError if rank == 0 else Echo, match="rank 0"):
        from_first(lambda: refuse(rank))
    distributed.barrier()


def refuse(rank):
    raise UserError(f"said by rank {rank}")


def check_half_precision(rank):
    rows = torch.full((2, 3), float(rank), dtype=torch.bfloat16, requires_grad=True)
    everyone = distributed.gather_with_grad(rows)
    assert everyone[:, 0].tolist() == [0, 0, 1, 1]
    everyone.sum().backward()
    assert rows.grad.dtype == torch.bfloat16
    assert rows.grad.unique().item() == 2


@pytest.mark.timeout(120)
def test_two_ranks_are_one_rank_with_the_whole_batch():
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        __file__,
    ]
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([os.path.dirname(HERE), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(launch, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_alone_everything_is_the_identity(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with distributed.process_group("cpu") as ranks:
        assert ranks == (0, 1, 0)
        assert not distributed.active()
        x = torch.randn(2, 3, requires_grad=True)
        assert distributed.gather_with_grad(x) is x
        assert distributed.gather(x) is x
        assert distributed.all_mean(x) is x
        assert distributed.all_true(True)
        assert not distributed.all_true(False)
        assert distributed.any_true(True)
        assert not distributed.any_true(False)
        assert distributed.broadcast_object(3) == 3
        assert distributed.gather_object(3) == [3]
        assert from_first(lambda: 3) == 3
        stage = torch.nn.Linear(1, 1)
        assert distributed.wrap(stage, "cpu") is stage


if __name__ == "__main__":
    check_two_ranks()
