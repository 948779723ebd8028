"""Where a model's files are: a local folder, or a repository through the cache of the Hugging Face Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, logging, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError
from vjepa_distill import UserError

# A checkpoint has one of these; which one depends on the age of the library that wrote it.
PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")

FILES = {"weights": ".safetensors", "config": "config.json"}
"""What may be named of a folder, by the option that names it."""


@dataclass(frozen=True)
class Source:
    """A folder, or a repository of the Hub at a revision."""

    place: str
    revision: str | None = None
    local: bool = False

    def file(self, name: str) -> Path | None:
        """The file, fetched if need be; None where the folder or the repository has none of that name.

        UserError where the repository cannot be reached or may not be read, and its cache has no such file.
        """
        if self.local:
            path = Path(self.place) / name
            return path if path.is_file() else None
        try:
            logging.set_verbosity_error()  # its retries; what is wrong is said below
            return Path(hf_hub_download(self.place, name, revision=self.revision))
        except EntryNotFoundError as problem:
            if not isinstance(problem, FileNotFoundError):  # not "the network was needed", but "not there"
                return None
            raise self.unreachable(problem) from problem
        except (OSError, ValueError) as problem:
            raise self.unreachable(problem) from problem

    def at_hand(self, name: str) -> Path | None:
        """The file where it can be had without asking the network."""
        if self.local:
            return self.file(name)
        found = try_to_load_from_cache(self.place, name, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON file as a mapping; None where there is none."""
        path = self.file(name)
        if path is None:
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as problem:
            raise UserError(f"{path} is not JSON: {problem}") from problem
        if not isinstance(values, dict):
            raise UserError(f"{path} holds a {type(values).__name__}: expected a mapping of names to values")
        return values

    def licence(self) -> str:
        """What the model card at hand says of the weights' licence, without asking the network."""
        path = self.at_hand("README.md")
        card = path.read_text(encoding="utf-8") if path else ""
        head = card.split("\n---", 1)[0] if card.startswith("---") else ""
        told = re.search(r"^license(?:_name)?:[ \t]*(?!other\b)(\S+)", head, re.MULTILINE)
        return told[1] if told else "unknown"

    def unreachable(self, problem: Exception) -> UserError:
        """One line for a repository that cannot be had."""
        return UserError(
            f"repository {self.place!r} cannot be had ({in_short(problem)}) and is not in the cache "
            f"{constants.HF_HUB_CACHE}: give weights: PATH, a folder with its config.json, model.safetensors "
            "and preprocessor_config.json (for random weights config: PATH), or type `hf auth login` where "
            "it asks for permission"
        )


def folder(path: str, option: str) -> Source:
    """The folder that an option names, itself or by a file in it; UserError where there is none."""
    place = Path(path).expanduser()
    if not place.exists():
        raise UserError(f"{option}={path!r}: there is no such file or folder; give a folder with config.json")
    if place.is_file() and not place.name.endswith(FILES[option]):
        raise UserError(f"{option}={path!r}: give a folder with config.json, or a file {FILES[option]} in it")
    return Source(str(place if place.is_dir() else place.parent), local=True)


def config_values(source: Source) -> dict[str, Any]:
    """The config.json of a model."""
    values = source.read("config.json")
    if values is None:
        raise UserError(f"{source.place} has no config.json: give the folder of a model of transformers")
    return values


def normalisation(source: Source) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, in units of [0, 1], as the model's own processor has them.

    UserError where no processor is with the model: a wrong guess would show nowhere but in the results.
    """
    unreached = None
    for name in sorted(
        PROCESSORS, key=lambda name: source.at_hand(name) is None
    ):  # offline, asking takes long
        try:
            values = source.read(name)
        except UserError as problem:  # another name may still be in the cache
            unreached, values = problem, None
        for part in ("video_processor", "image_processor"):
            values = values.get(part, values) if values else values
        if values and {"image_mean", "image_std"} <= values.keys():
            return in_unit_range(values)
    if unreached:
        raise unreached
    raise UserError(
        f"{source.place} has no {' or '.join(PROCESSORS[:2])} that gives image_mean and image_std: "
        "put it there, or give both as mean: [R, G, B] and std: [R, G, B]"
    )


def in_unit_range(values: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """A processor's rescaling of 0…255 and its normalisation, as one on [0, 1]: (x s - m) / d with s 1."""
    scale = 255 * values.get("rescale_factor", 1 / 255) if values.get("do_rescale", True) else 255.0
    if not values.get("do_normalize", True):
        return [0.0] * 3, [1 / scale] * 3
    mean, std = (
        [float(x) for x in (v if isinstance(v, list) else [v] * 3)]
        for v in (values["image_mean"], values["image_std"])
    )
    return [x / scale for x in mean], [x / scale for x in std]


def in_short(problem: Exception) -> str:
    """The kind of an error and its first words, on one line."""
    words = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {words if len(words) < 160 else words[:157] + '...'}"
