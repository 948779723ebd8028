"""What comes with vjepa-distill, offered through the hooks every plugin uses; nothing here imports torch."""

from __future__ import annotations

from vjepa_distill.hookspecs import Register, hookimpl


@hookimpl
def register_backbones(register: Register) -> None:
    """Native video ViTs, any timm model, and a small convolutional encoder."""
    for size, shape in {
        "tiny": "width 192, depth 12, 3 heads",
        "small": "width 384, depth 12, 6 heads",
        "base": "width 768, depth 12, 12 heads",
        "large": "width 1024, depth 24, 16 heads",
        "huge": "width 1280, depth 32, 16 heads",
    }.items():
        register(
            f"vjepa/{size}", f"vjepa_distill.backbones.vjepa:{size}", summary=f"native video ViT: {shape}"
        )
    register(
        "timm/*", "vjepa_distill.backbones.timm:create", summary="any timm model, frame by frame per tubelet"
    )
    register("conv/small", "vjepa_distill.backbones.conv:small", summary="small 3D convolutional encoder")


@hookimpl
def register_objectives(register: Register) -> None:
    """The three losses of the tri-temporal JEPA, and token matching for distillation."""
    temporal = "vjepa_distill.objectives.temporal"
    register("now", f"{temporal}:Now", summary="predict the hidden tokens of the present")
    register("soon", f"{temporal}:Soon", summary="predict the tokens that come next")
    register("eventually", f"{temporal}:Eventually", summary="tell this clip's far future from other clips'")
    register("match", "vjepa_distill.objectives.match:Match", summary="match the teacher's tokens one by one")


@hookimpl
def register_decoders(register: Register) -> None:
    """Three ways to read a video file; ``auto`` in a config means pyav."""
    decoders = "vjepa_distill.data.decoders"
    register(
        "pyav", f"{decoders}.pyav:PyAV", summary="indexed PyAV: exact on every format tried; the default"
    )
    register(
        "decord",
        f"{decoders}.decord:Decord",
        summary="decord: no AV1, wheels for Linux x86-64 and Windows only",
    )
    register(
        "torchcodec",
        f"{decoders}.torchcodec:TorchCodec",
        summary="torchcodec, exact mode: needs FFmpeg's libraries",
    )
