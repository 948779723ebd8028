"""backbones show: what an encoder is, what it takes, where it is from, and what a clip costs it here."""

from __future__ import annotations

import json
from typing import Any

from vjepa_distill.errors import UserError, accident

CLIP = (16, 224, 224)
SIDES = (224, 256, 384, 112, 64)
UNSAID = "not said"
WORDS = ("sizes", "normalisation", "weights", "licence")


def run(source: Any, chosen: Any) -> int:
    """Print it in two columns, or as JSON."""
    import torch

    from vjepa_distill import registry
    from vjepa_distill.commands.check import clip_for
    from vjepa_distill.commands.measure import measure

    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = source.built().eval().to(device)
    if not callable(getattr(module, "grid", None)):
        raise UserError(f"{source.name} has no grid(T, H, W); type vjepa-distill backbones check NAME")
    clips = [clip_for(module, chosen.clip)] if chosen.clip else clips_of(module, source.clip)
    try:
        cost = measure(module, clips, device)
    except Exception as problem:
        T, H, W = clips[0]
        reason = f"{type(problem).__name__}: {' '.join(str(problem).split())}"
        raise UserError(
            f"{source.name} does not encode {T} frames of {H} x {W}: {reason}. "
            f"Type vjepa-distill backbones check {source.name}"
        ) from problem
    facts = facts_of(module, source, cost, device)
    facts["longest_clip"] = list(clips[-1])
    offer, _ = registry.resolve("backbone", source.origin["name"])
    facts = {"name": source.name, "summary": offer.summary, **facts}
    if chosen.json:
        print(json.dumps(facts, indent=2))
    else:
        print_facts(facts)
    return 0


def clips_of(module: Any, run: tuple[int, int, int] | None) -> list[tuple[int, int, int]]:
    """Ever longer clips of one size that the grid takes: the run's, else the usual, else a small one."""
    from vjepa_distill.testing import fitting_clip

    T, H, W = run or CLIP
    for height, width in ((H, W), *((side, side) for side in SIDES)):
        lengths = sorted({max(T // part, 1) for part in (8, 4, 2, 1)})
        taken = [(length, height, width) for length in lengths if takes(module, (length, height, width))]
        if taken:
            return taken
    return [fitting_clip(module)]


def takes(module: Any, size: tuple[int, int, int]) -> bool:
    try:
        module.grid(*size)
    except ValueError:
        return False
    return True


def facts_of(module: Any, source: Any, cost: Any, device: Any) -> dict[str, Any]:
    """Everything that is known, as plain values."""
    import torch

    parameters = list(module.parameters())
    grid = module.grid(*cost.clip)
    threads = torch.get_num_threads()
    cpu = f"cpu, {threads} thread{'s' * (threads > 1)}"
    where = cpu if device.type == "cpu" else torch.cuda.get_device_name(device)
    dtype = str(next((p.dtype for p in parameters), torch.float32)).removeprefix("torch.")
    return {
        **{key: source.origin[key] for key in ("plugin", "distribution", "version")},
        "options": source.options,
        "parameters": sum(p.numel() for p in parameters),
        "frozen": sum(p.numel() for p in parameters if not p.requires_grad),
        "embed_dim": module.embed_dim,
        "clip": list(cost.clip),
        "grid": list(grid),
        "tokens": grid[0] * grid[1] * grid[2],
        "flops": cost.flops,
        "clips_per_second": 1 / cost.seconds,
        "passes": cost.passes,
        "weight_bytes": sum(t.numel() * t.element_size() for t in (*parameters, *module.buffers())),
        "peak_memory_bytes": cost.memory,
        "peak_memory_of": cost.memory_of,
        "measured": f"batch 1, {dtype}, {where}",
        **described(module, source),
    }


def described(module: Any, source: Any) -> dict[str, str]:
    """What the encoder says of itself; the weights of a stored one are those of its file."""
    from vjepa_distill.protocols import Described

    try:
        said = module.describe() if isinstance(module, Described) else {}
    except Exception as problem:
        raise UserError(f"describe() of {source.name} raised {accident(problem, 200)}") from problem
    if not isinstance(said, dict):
        raise UserError(f"describe() of {source.name} gives {said!r}; expected a dictionary of words")
    facts = {key: str(said.get(key, UNSAID)) for key in (*WORDS, *sorted(set(said) - set(WORDS)))}
    if facts["weights"] == "random" and facts["licence"] == UNSAID:
        facts["licence"] = "none needed: random"
    if source.weights:
        facts |= {"weights": source.weights, "licence": "unknown: it is the trainer's to say"}
    return facts


def print_facts(facts: dict[str, Any]) -> None:
    """Two columns, readable at 80 characters."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for label, words in in_words(facts).items():
        table.add_row(label, Text(words))
    Console(highlight=False).print(table)


def in_words(facts: dict[str, Any]) -> dict[str, str]:
    """The facts with their units."""
    T, H, W = facts["clip"]
    grid = " x ".join(map(str, facts["grid"]))
    shorter = f" (expected to take too long with {facts['longest_clip'][0]} frames; --clip T H W insists)"
    frozen = f", {counted(facts['frozen'])} of them frozen" if facts["frozen"] else ""
    rest = [key for key in list(facts)[list(facts).index("licence") + 1 :] if key != "longest_clip"]
    return {
        "name": facts["name"],
        "summary": facts["summary"],
        "from": f"{facts['distribution']} {facts['version']} (plugin {facts['plugin']!r})",
        **({"options": json.dumps(facts["options"])} if facts["options"] else {}),
        "parameters": f"{counted(facts['parameters'])}{frozen}",
        "clip": f"{T} frames of {H} x {W}{shorter if facts['clip'] != facts['longest_clip'] else ''}",
        "tokens": f"{facts['tokens']} a clip ({grid}), of width {facts['embed_dim']}",
        "FLOPs": f"{counted(facts['flops'])} a clip (a multiply-add is 2)",
        "speed": f"{facts['clips_per_second']:.3g} clips/s (median of {facts['passes']})",
        "memory": f"{mebibytes(facts['weight_bytes'])} of weights; "
        f"peak {mebibytes(facts['peak_memory_bytes'])} of {facts['peak_memory_of']}",
        "measured": f"{facts['measured']}, here and now",
        **{key: facts[key] for key in (*WORDS, *rest)},
    }


def counted(number: int) -> str:
    """1234567 as ``1.23 M``."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return str(number)


def mebibytes(number: int) -> str:
    return f"{number / 2**20:.0f} MiB"
