"""Wrong bf16 kernels: told from wrong encoders, found before they are trusted, and they alone avoided."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from tests.testing.wrong_encoders import OverflowsInBf16
from vjepa_distill.errors import UserError
from vjepa_distill.kernels import aside
from vjepa_distill.kernels.calls import Attention, Call, Convolution, Product
from vjepa_distill.kernels.guard import Guard
from vjepa_distill.kernels.judge import fault, first_fault
from vjepa_distill.kernels.trial import cut, fault_of, spoil
from vjepa_distill.kernels.verdicts import Verdicts
from vjepa_distill.kernels.watch import Detour
from vjepa_distill.testing import examine_backbone
from vjepa_distill.tokens import Grid, take

aten = torch.ops.aten
BF16 = torch.bfloat16
ROW = "bf16 is finite and near"


def conv(shape: tuple[int, ...], weight: tuple[int, ...], **how: Any) -> Convolution:
    n = len(shape) - 2
    given = {
        "stride": (1,) * n, "padding": (0,) * n, "dilation": (1,) * n, "transposed": False,
        "output_padding": (0,) * n, "groups": 1, "channels_last": False,
    }  # fmt: skip
    return Convolution(shape, weight, **{**given, **how})


CALLS: dict[str, Call] = {
    "conv3d": conv((2, 3, 4, 16, 24), (8, 3, 3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2)),
    "conv2d of groups": conv((2, 8, 9, 9), (8, 1, 3, 3), padding=(1, 1), groups=8, channels_last=True),
    "conv1d": conv((2, 4, 19), (6, 4, 3), dilation=(2,)),
    "transposed": conv((2, 6, 5, 5), (6, 4, 2, 2), stride=(2, 2), transposed=True),
    "attention": Attention((2, 3, 20, 16), (2, 3, 20, 16), (2, 3, 20, 16), False, None),
    "cross attention": Attention((2, 2, 5, 16), (2, 2, 33, 16), (2, 2, 33, 16), False, None),
    "masked attention": Attention((2, 2, 9, 16), (2, 2, 9, 16), (2, 2, 9, 16), False, (1, 1, 9, 9)),
    "causal attention": Attention((2, 2, 9, 16), (2, 2, 9, 16), (2, 2, 9, 16), True, None),
    "bmm": Product((2, 5, 7), (2, 7, 3)),
}


def plainly(call: Any) -> Callable[..., Tensor]:
    """The call as a user of torch writes it."""
    if isinstance(call, Product):
        return torch.bmm
    if isinstance(call, Attention):
        mask = None if call.mask is None else torch.zeros(call.mask)
        return lambda q, k, v: F.scaled_dot_product_attention(
            q, k, v, is_causal=call.causal, attn_mask=None if mask is None else mask.to(q.dtype)
        )
    dims = len(call.stride)
    how = {"stride": call.stride, "padding": call.padding, "dilation": call.dilation, "groups": call.groups}
    function = getattr(F, f"conv{'_transpose' if call.transposed else ''}{dims}d")
    return lambda x, w: function(x, w, **how)


def inputs(call: Any) -> list[Tensor]:
    shapes = {
        Product: ("left", "right"), Attention: ("query", "key", "value"), Convolution: ("shape", "weight"),
    }[type(call)]  # fmt: skip
    drawn = [torch.randn(getattr(call, name)) for name in shapes]
    if getattr(call, "channels_last", False):
        drawn[0] = drawn[0].to(memory_format=torch.channels_last)
    return [x.requires_grad_() for x in drawn]


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_read_alike_from_the_forward_and_the_backward_pass(name: str) -> None:
    """What autocast hands to a kernel, and what autograd asks of it later, name one and the same call."""
    call, met = CALLS[name], []

    def note(found: Call, make: Callable[[], Any], exact: Callable[[], Any]) -> Any:
        met.append(found)
        return make()

    with Detour(note):
        with torch.autocast("cpu", BF16):
            made = plainly(call)(*inputs(call))
        made.float().square().mean().backward()
    if isinstance(call, Product):  # its gradients are products of other shapes
        met = met[:1]
    assert set(met) == {call}
    assert len(met) == 1 + (not isinstance(call, Product))


@pytest.mark.parametrize("name", CALLS)
def test_a_trial_computes_results_and_gradients_as_torch_does(name: str) -> None:
    """`run` equals torch's own function and its autograd on the same numbers."""
    call, seen = CALLS[name], []

    class Inputs(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append((func, args))
            return func(*args, **(kwargs or {}))

    with Inputs():
        made, *gradients = call.run(torch.float32)
    forward = next(args for func, args in seen if func in (
        aten.convolution.default, aten.bmm.default, aten._scaled_dot_product_flash_attention_for_cpu.default
    ))  # fmt: skip
    given = [x.detach().clone().requires_grad_() for x in forward[: 3 if isinstance(call, Attention) else 2]]
    if isinstance(call, Attention) and call.mask is not None:
        return  # its mask is random here; the plain one above is of zeros
    expected = plainly(call)(*given)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)
    last = seen[-1] if isinstance(call, Product) else next(s for s in seen if "backward" in str(s[0]))
    upstream = last[1][1] if isinstance(call, Product) else last[1][0]
    for one, two in zip(gradients, torch.autograd.grad(expected, given, upstream), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", CALLS)
def test_the_kernels_of_this_processor_are_right_for_these(name: str) -> None:
    """Small calls that no processor has been seen to get wrong; and what is right is not blamed."""
    assert fault_of(CALLS[name], 1e9) == ""


@pytest.mark.parametrize(
    ("call", "axes"),
    [
        (conv((2, 64, 16, 112, 112), (64, 64, 3, 3, 3), padding=(1, 1, 1)), slice(2, None)),
        (conv((2, 3, 84, 224, 224), (768, 3, 2, 16, 16), stride=(2, 16, 16)), slice(2, None)),
    ],
)
def test_a_cut_call_keeps_the_rest_of_every_block(call: Convolution, axes: slice) -> None:
    small = cut(call, 1e8)
    assert isinstance(small, Convolution)
    assert small.weight == call.weight
    assert small.work() < call.work() / 10
    assert all((a - b) % 16 == 0 for a, b in zip(call.shape[axes], small.shape[axes], strict=True))


def test_long_attention_and_products_are_cut_too() -> None:
    long = Attention((2, 12, 8232, 64), (2, 12, 8232, 64), (2, 12, 8232, 64), False, None)
    small = cut(long, 3e8)
    assert isinstance(small, Attention)
    assert small.work() <= 3e8
    assert (small.query[2] - 8232) % 512 == 0
    wide = cut(Product((2, 6273, 96), (2, 96, 6273)), 1e7)
    assert isinstance(wide, Product)
    assert wide.work() <= 1e7
    assert wide.left[2] == wide.right[1] == 96


def test_faults_are_told_from_rounding() -> None:
    exact = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    assert fault(exact.bfloat16(), exact) == ""
    assert fault(torch.where(exact > 3, torch.nan, exact), exact) == "is not finite"
    assert fault(torch.cat([exact[:60], 0 * exact[60:]]), exact).startswith("is off by 2")
    assert fault(exact * torch.inf, exact * torch.inf) == "", "what went in was not finite"
    assert first_fault((exact, None), (exact, None)) == ""


def test_spoiled_memory_is_handed_out_next() -> None:
    """A kernel that adds to memory it never cleared meets NaN there, and not zeros by luck."""
    spoil()
    assert any(bool(torch.empty(2**n).isnan().any()) for n in range(8, 21))


# A wrong kernel, put where torch keeps its own: for everything in this process, threads too.

WRONG = (16, 12, 1, 2, 2)
"""The weight of the convolution whose bf16 kernel is wrong."""


@pytest.fixture
def wrong_kernel() -> Iterator[dict[str, Any]]:
    """`plan["result"]` says what the bf16 kernel of that one convolution gives."""
    library, plan = torch.library.Library("aten", "IMPL"), {"result": torch.zeros_like, "made": 0}

    def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        made = aten._convolution(x, weight, bias, *rest, False, False, True, True)
        if weight.dtype == BF16 and tuple(weight.shape) == WRONG:
            plan["made"] += 1
            return plan["result"](made)
        return made

    library.impl("convolution", convolution, "CPU")
    yield plan
    library._destroy()


class Narrow(nn.Module):
    """A right encoder that uses it."""

    embed_dim = 16

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(3, 12, (2, 8, 8), (2, 8, 8))
        self.second = nn.Conv3d(12, 16, (1, 2, 2), (1, 2, 2))
        self.norm = nn.LayerNorm(16)

    def grid(self, T: int, H: int, W: int) -> Grid:
        if T % 2 or H % 16 or W % 16:
            raise UserError(f"{T} frames of {H} x {W} do not divide")
        return Grid(T // 2, H // 16, W // 16)

    def forward(self, clip: Tensor, keep: Tensor | None = None) -> Tensor:
        self.grid(*clip.shape[2:])
        tokens = self.norm(self.second(self.first(clip)).flatten(2).transpose(1, 2))
        return tokens if keep is None else take(tokens, keep)


def step(module: nn.Module, clip: Tensor, dtype: torch.dtype = BF16) -> list[Tensor]:
    """Tokens and gradients under autocast."""
    with torch.autocast("cpu", dtype, enabled=dtype == BF16):
        tokens = module(clip)
    loss = tokens.float()[..., :7].square().mean()
    return [tokens.detach(), *torch.autograd.grad(loss, list(module.parameters()))]


def apart(module: nn.Module, clip: Tensor) -> float:
    """The largest relative distance of bf16 tokens and gradients from those of fp32."""
    pairs = zip(step(module, clip), step(module, clip, torch.float32), strict=True)
    return max(float((a.float() - b).norm() / b.norm()) for a, b in pairs)


CLIP = torch.rand(2, 3, 4, 32, 48, generator=torch.Generator().manual_seed(3))
FAULTS = {
    "zeros": (torch.zeros_like, "is off by 100 % of its size"),
    "NaN": (lambda made: torch.where(made > made.mean(), made, torch.nan), "is not finite"),
    "another order": (lambda made: made.flip(-1), "is off by "),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_wrong_kernel_is_computed_in_fp32_told_once_and_remembered(
    kind: str, wrong_kernel: dict[str, Any], tmp_path: Path
) -> None:
    wrong_kernel["result"], words = FAULTS[kind]
    torch.manual_seed(0)
    module, told = Narrow(), []
    assert not apart(module, CLIP) < 0.1, "unguarded, it is wrong"
    guard = Guard(told.append, tmp_path)
    for _ in range(2):
        with guard("step"):
            assert apart(module, CLIP) < 0.02
    assert len(told) == 1
    assert "Conv3d(12, 16, kernel 1 x 2 x 2, stride 1 x 2 x 2) of 2 x 4 x 6 " + words in told[0]
    assert "--amp fp32" in told[0]
    assert "\n" not in told[0]

    before, again = wrong_kernel["made"], []
    other = Guard(again.append, tmp_path)
    with other("step"):
        assert apart(module, CLIP) < 0.02
    assert wrong_kernel["made"] == before, "what is known is neither tried again nor used"
    assert other.spent == 0
    assert again == told


def test_what_is_met_when_the_second_is_over_is_compared_as_it_is_made(
    wrong_kernel: dict[str, Any], tmp_path: Path
) -> None:
    """No trial any more, and nothing wrong passes; what was right stays to be tried by the next run."""
    torch.manual_seed(0)
    module, told = Narrow(), []
    guard = Guard(told.append, tmp_path)
    guard.spent = 10.0
    with guard("step"):
        assert apart(module, CLIP) < 0.02
    assert guard.spent == 10.0
    assert "Conv3d(12, 16, kernel 1 x 2 x 2, stride 1 x 2 x 2) of 2 x 4 x 6 is off by 100 %" in told[0]
    assert list(Verdicts(tmp_path).faults.values()) == ["is off by 100 % of its size"]


def test_where_all_is_right_a_repetition_passes_unwatched(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, told = Narrow(), []
    guard = Guard(told.append, tmp_path)
    with guard("step"):
        assert is_in_torch_dispatch_mode()
        watched = step(module, CLIP)
    with guard("step"):
        assert not is_in_torch_dispatch_mode()
        free = step(module, CLIP)
    with guard("evaluate"):
        assert is_in_torch_dispatch_mode()
    assert told == []
    torch.testing.assert_close(watched, free, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_wrong_kernel_is_avoided_without_gradients_too(
    mode: Callable[[], Any], wrong_kernel: dict[str, Any], tmp_path: Path
) -> None:
    """inference_mode hands operations over undivided: found by encoding with a wrong kernel."""
    torch.manual_seed(0)
    module, told = Narrow(), []
    guard = Guard(told.append, tmp_path)
    with mode(), guard("encode"):
        for _ in range(2):
            with torch.autocast("cpu", BF16):
                tokens = module(CLIP)
            assert float((tokens.float() - module(CLIP)).norm() / module(CLIP).norm()) < 0.02
    assert "is off by 100 %" in told[0]


@torch.inference_mode()
def test_attention_and_products_are_seen_in_inference_mode(tmp_path: Path) -> None:
    guard, x = Guard(print, tmp_path), torch.rand(2, 3, 9, 16)
    with guard("encode"), torch.autocast("cpu", BF16):
        F.scaled_dot_product_attention(x, x, x)
        x @ x.transpose(2, 3)
    assert {call.split("(")[0] for call in guard.verdicts.faults} == {"Attention", "Product"}


@torch.no_grad()
def test_torchs_fused_layer_is_watched_like_any_other(tmp_path: Path) -> None:
    """In eval() without gradient torch takes a short cut, inside which a mode would lose autocast."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True).eval()
    layer, x, guard = nn.Sequential(nn.Linear(32, 32), layer), torch.rand(2, 5, 32), Guard(print, tmp_path)
    for _ in range(2):
        with guard("encode"), torch.autocast("cpu", BF16):
            tokens = layer(x)
        torch.testing.assert_close(tokens.float(), layer(x), rtol=0, atol=0.1)
        assert torch.backends.mha.get_fastpath_enabled()
    assert any("Attention" in call for call in guard.verdicts.faults)


def test_verdicts_are_of_one_machine_and_survive_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Verdicts(tmp_path)
    one.learn("call", "is not finite")
    one.save()
    assert Verdicts(tmp_path).faults == {"call": "is not finite"}
    found = json.loads(one.path.read_text())
    assert found["format"] == 1
    assert {"processor", "torch", "threads"} <= set(found["machine"])
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert Verdicts(tmp_path).faults == {}, "other instructions, other kernels"
    monkeypatch.undo()

    two = Verdicts(tmp_path)
    two.learn("other", "")
    one.learn("call", "")
    one.save()
    two.save()
    assert Verdicts(tmp_path).faults == {"call": "", "other": ""}, "two runs at once lose nothing"
    one.path.write_text("{")
    assert Verdicts(tmp_path).faults == {}
    assert "kernels are tried anew" in caplog.text


def test_a_folder_that_cannot_be_written_is_told_and_lived_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    guard = Guard(print, tmp_path / "file" / "below")
    with guard("step"):
        step(Narrow(), CLIP)
    assert "cannot be written" in caplog.text


# The contract.


def row(module: nn.Module) -> Any:
    return next(found for found in examine_backbone(module) if found.check == ROW)


@pytest.mark.parametrize("kind", FAULTS)
def test_the_contract_blames_the_kernel_and_not_the_encoder(kind: str, wrong_kernel: dict[str, Any]) -> None:
    wrong_kernel["result"], words = FAULTS[kind]
    torch.manual_seed(0)
    found = row(Narrow())
    assert found.passed, found
    assert "a bf16 kernel of this processor is wrong: Conv3d(12, 16, kernel 1 x 2 x 2" in found.came
    assert f"in second {words}" in found.came
    assert "No fault of the encoder" in found.came
    assert "--amp fp32" in found.came


def test_the_contract_blames_the_encoder_and_names_the_operation() -> None:
    found = row(OverflowsInBf16())
    assert not found.passed
    assert found.came == "some that are not, the first from div"
    assert "wrong" not in row(Narrow()).came


# What does not end.


def test_a_kernel_that_hangs_is_left_alone_and_known_the_next_time(
    wrong_kernel: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()

    def wait(made: Tensor) -> Tensor:
        free.wait()
        return made

    wrong_kernel["result"] = wait
    monkeypatch.setattr(aside, "PATIENCE", 0.5)
    monkeypatch.setattr(aside, "hanging", hanging := [])
    monkeypatch.setattr("vjepa_distill.kernels.guard.hanging", hanging)
    torch.manual_seed(0)
    module, told = Narrow(), []
    try:
        with (
            pytest.raises(UserError, match="type the same command again"),
            Guard(told.append, tmp_path)("step"),
        ):
            assert apart(module, CLIP) < 0.02, "it was computed in fp32 all the same"
        assert "of 2 x 4 x 6 does not end" in told[0]
        hanging.clear()
        with Guard(told.append, tmp_path)("step"):
            assert apart(module, CLIP) < 0.02
    finally:
        free.set()


def test_slow_is_not_taken_for_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN does 1.4e8 bf16 multiply-adds a second on one thread with AVX2: ten seconds for a small clip."""
    monkeypatch.setattr(aside, "PATIENCE", 0.0)
    monkeypatch.setattr(aside, "hanging", [])
    alone = aside.Aside()
    for seconds, work in ((0.5, 1e8), (1.5, 2e8), (5.0, 2e8)):
        alone.do(lambda seconds=seconds: time.sleep(seconds), "slow", work)
    assert alone.pace < 1e8, "what was seen is expected from then on"
    with pytest.raises(aside.EndlessError):
        alone.do(lambda: time.sleep(1.0), "endless")


HANGING = """
import time
import torch
from torch import nn
from vjepa_distill import Grid, take

def convolution(x, weight, bias, *rest):
    while weight.dtype == torch.bfloat16 and len(weight) == 48:
        time.sleep(0.1)
    return torch.ops.aten._convolution(x, weight, bias, *rest, False, False, True, True)

library = torch.library.Library("aten", "IMPL")
library.impl("convolution", convolution, "CPU")

class Hanging(nn.Module):
    embed_dim = 48
    def __init__(self):
        super().__init__()
        self.embed = nn.Conv3d(3, 48, (2, 16, 16), (2, 16, 16))
    def grid(self, T, H, W):
        return Grid(T // 2, H // 16, W // 16)
    def forward(self, clip, keep=None):
        tokens = self.embed(clip).flatten(2).transpose(1, 2)
        return tokens if keep is None else take(tokens, keep)
"""


@pytest.mark.slow
def test_a_run_whose_kernel_hangs_ends_in_one_line_and_the_same_command_goes_through(
    tiny_distill: list[str], world_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "hanging.py").write_text(HANGING)
    given = [option for option in tiny_distill if not option.startswith("--student")]
    command = [
        sys.executable, "-m", "vjepa_distill", "distill", *given, f"--data.root={world_folder}",
        f"--student.name={tmp_path / 'hanging.py'}:Hanging", f"--out={tmp_path / 'run'}",
    ]  # fmt: skip
    first, second = (subprocess.run(command, capture_output=True, text=True, timeout=200) for _ in range(2))
    assert first.returncode == 2, first.stderr
    assert "does not end" in first.stderr
    assert first.stderr.splitlines()[-1].startswith("vjepa-distill: error: ")
    assert "type the same command again" in first.stderr.splitlines()[-1]
    assert second.returncode == 0, second.stderr
    assert "does not end" in " ".join(second.stderr.split())
