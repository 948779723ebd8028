"""What the parser refuses, in a user's words: the option as it is typed, what it takes, and what came."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

# How jsonargparse names an option, and a key of YAML or of a component, that it does not know.
UNRECOGNISED = re.compile(r"unrecognized arguments: (.*)")
CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")
UNKNOWN_KEY = re.compile(r"(?:does not accept option|Option) '([\w.-]+)'")
INNER = re.compile(r"Problem with given class_path '[\w.]+':\s*")
COMPONENT = ("name", "options", "weight")
# How it names a value of the wrong kind, one word in place of several settings, and text that is no YAML.
KEYS = r'^((?:Parser key "[\w.-]+"(?: element \d+)?: )+)'
EXPECTED = re.compile(KEYS + r"Expected an? ([^:]+)\. Got value: (.*)$")
UNION = re.compile(KEYS + r"Does not validate .* Subtypes: \[(.+?)\] Errors: .* Given value: (.*)$")
NO_MAPPING = re.compile(KEYS + r"Unable to load config '(.*?)' - ")
NO_COMPONENT = re.compile(KEYS + r"Expected a dot import path string: (.*)$")
ABOUT = re.compile(KEYS + r"(.*)$")
NO_YAML = re.compile(r"^Problems parsing config: (.*)$")
MISSING = "arguments are required"
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list": "a list such as '[a, b]'",
    "dict": "a mapping such as '{a: 1}'",
    "tuple": "a list such as '[a, b]'",
    "NoneType": "null",
}


def in_one_line(problem: Exception, typed: Mapping[str, str], config: str | None) -> str:
    """The message on one line; options by the names they are typed with, the nearest to an unknown one.

    `typed` gives the option of each key, as ``{"source": "--from"}``; `config` is the YAML file, if any.
    """
    words = " ".join(INNER.sub("", str(getattr(problem, "message", problem))).split())
    if wrong := EXPECTED.search(words) or UNION.search(words):
        return f"{option(wrong[1], typed)}: expected {kinds(wrong[2])}; got {wrong[3]}"
    if part := NO_MAPPING.search(words):
        name = option(part[1], typed)
        inner = [other for other in typed.values() if other.startswith(f"{name}.")]
        hint = f"type {name}.name {part[2]}" if f"{name}.name" in inner else f"as {', '.join(inner[:3])} …"
        return f"{name} is set by its parts, and {part[2]!r} is no YAML file of them; {hint}"
    if part := NO_COMPONENT.search(words):
        name = option(part[1], typed)
        return f"{name} is set by its parts, and {part[2]!r} is none; type {name}.NAME.name {part[2]}"
    if torn := NO_YAML.search(words):
        return f"{config} is not YAML: " + torn[1].replace(' in "<unicode string>",', " at")
    if found := UNRECOGNISED.search(words):
        return words + nearest(re.findall(r"(?<!\S)--[\w.]+", found[1]), list(typed.values()))
    if choice := CHOICE.search(words):
        close = get_close_matches(choice[1], re.findall(r"[\w-]+", choice[2]), n=2, cutoff=0.5)
        return words + (f". Did you mean {' or '.join(close)}?" if close else "")
    if key := UNKNOWN_KEY.search(words):
        known = [*COMPONENT, *(name.removeprefix("--") for name in typed.values())]
        return words + nearest([key[1]], known)
    if MISSING in words:
        return re.sub(r"(?<!\S)[\w-]+\.([\w.]+)", lambda found: typed.get(found[1], found[0]), words)
    if about := ABOUT.search(words):
        return f"{option(about[1], typed)}: {about[2]}"
    return words


def option(keys: str, typed: Mapping[str, str]) -> str:
    """The option of the keys that a message begins with, as it is typed."""
    key = ".NAME.".join(re.findall(r'"([\w.-]+)"', keys))
    return typed.get(key, f"--{key}")


def kinds(types: str) -> str:
    """``<class 'int'>, list[int]`` as ``a whole number or a list such as '[a, b]'``."""
    if choices := re.fullmatch(r"typing\.Literal\[(.*)\]", types):
        return f"one of {choices[1]}".replace("'", "")
    named = re.findall(r"<class '(\w+)'>|(\w+)\[[^\]]*\]|(\w+)", types)
    return " or ".join(KINDS.get(word, word) for word in ("".join(found) for found in named))


def nearest(unknown: Sequence[str], known: Sequence[str]) -> str:
    """`` Did you mean …?`` for names that nobody knows, or where to look."""
    near = [match for word in unknown for match in get_close_matches(word, known, n=2, cutoff=0.6)]
    return f". Did you mean {' or '.join(near)}?" if near else ". See --help"
