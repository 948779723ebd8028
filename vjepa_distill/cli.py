"""The command line: ``vjepa-distill distill | jepa-train | encode | probe | evaluate | surprise | …``.

Parsing imports no torch, so that ``--help`` answers at once; the work is imported when it is asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NoReturn

from jsonargparse import ActionYesNo, ArgumentError, ArgumentParser, Namespace, set_parsing_settings

import vjepa_distill
from vjepa_distill.commands import COMMANDS, train
from vjepa_distill.commands.arguments import check_sections, for_training, value_of, with_clip_of_run
from vjepa_distill.commands.wording import in_one_line
from vjepa_distill.errors import Echo, UserError
from vjepa_distill.settings import DistillConfig, JepaConfig
from vjepa_distill.settings.run import FORMAT

set_parsing_settings(docstring_parse_attribute_docstrings=True)

FLAGS = {"resume": "Go on with the run in the folder --out.", "overwrite": "Empty the folder --out first."}
TRAINING = {"distill": DistillConfig, "jepa-train": JepaConfig}


class Parser(ArgumentParser):
    """Refuses abbreviations, and raises instead of printing its usage: errors here are one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "exit_on_error": False, **kwargs})


def training_parser(schema: type, summary: str) -> Parser:
    """Every field of a training configuration as an option, and YAML by --config."""
    parser = Parser(description=summary)
    parser.add_argument(
        "--config",
        action="config",
        help="A YAML file of settings, or the name of one of ours; the command line overrules it.",
    )
    parser.add_class_arguments(schema, None, skip={*FLAGS, "format"})
    for name, words in FLAGS.items():
        parser.add_argument(f"--{name}", action=ActionYesNo, default=False, help=words)
    words = "Version that the settings are of: what they mean stays as it was then."
    parser.add_argument("--format", type=int, default=FORMAT, help=words)
    return parser


def build_parser() -> Parser:
    """The whole command line."""
    parser = Parser(
        prog="vjepa-distill",
        description="Give your video encoder a strong teacher's tokens, then teach it the future.",
        version=vjepa_distill.__version__,
    )
    verbs = parser.add_subcommands(required=True, dest="command", metavar="COMMAND")
    for name, schema in TRAINING.items():
        summary = (schema.__doc__ or "").splitlines()[0]
        verbs.add_subcommand(name, training_parser(schema, summary), help=summary)
    for name, command in COMMANDS.items():
        sub = Parser(description=command.summary)
        command.add_arguments(sub)
        verbs.add_subcommand(name, sub, help=command.summary)
    return parser


def configured(schema: type, parser: Parser, chosen: Namespace) -> Any:
    """The typed configuration; its ``__post_init__`` runs here: jsonargparse builds only the nested ones."""
    built = parser.instantiate(chosen)
    return schema(**{f.name: built[f.name] for f in fields(schema)})


def run(arguments: Sequence[str]) -> int:
    """Parse and do it; returns the exit code."""
    parser = build_parser()
    if arguments and arguments[0] in TRAINING:
        arguments = for_training(arguments)
        check_sections(TRAINING[arguments[0]], value_of(arguments, "--config"))
    elif arguments and arguments[0] in ("encode", "surprise"):
        by_name = arguments[0] == "encode"
        arguments = with_clip_of_run(arguments, value_of(arguments, "--from"), by_name)
    elif arguments and arguments[0] == "evaluate" and "--help" not in arguments:
        arguments = with_clip_of_run(arguments, parser.parse_args(arguments)["evaluate"].source)
    chosen = parser.parse_args(arguments)
    name = chosen.command
    verb = _verb(parser, name)
    if name in TRAINING:
        return train.train(name, configured(TRAINING[name], verb, chosen[name]))
    return COMMANDS[name].run(verb.instantiate(chosen[name]))


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Bad input: one line and exit code 2."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = run(given)
        sys.stdout.flush()  # here, where a reader that is gone can be met
        leave(code)
    except BrokenPipeError:  # as in `backbones list | head -1`: nobody is left to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + 13)
    except Echo:
        train.let_the_first_speak()
        leave(2)
    except (UserError, ArgumentError) as problem:
        print(
            f"vjepa-distill: error: {in_one_line(problem, _options(given), value_of(given, '--config'))}",
            file=sys.stderr,
        )
        leave(2)
    except KeyboardInterrupt:
        print(
            "vjepa-distill: interrupted; the same command starts again, and encode goes on where it was",
            file=sys.stderr,
        )
        sys.exit(130)


def leave(code: int) -> NoReturn:
    """End with this code; at once where a thread hangs in a kernel, for Python's own end would crash then."""
    aside = sys.modules.get("vjepa_distill.kernels.aside")
    if aside and aside.hanging:
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _options(given: Sequence[str]) -> dict[str, str]:
    """Each key of the command that was typed, and the option that gives it."""
    verb = _verb(build_parser(), given[0]) if given else None
    actions = verb._actions if verb else ()
    return {action.dest: action.option_strings[0] for action in actions if action.option_strings}


def _verb(parser: Parser, name: str) -> Any:
    """The parser of a subcommand, to which there is no public way; None for an unknown one."""
    action: Any = parser._subcommands_action
    return action.choices.get(name)


if __name__ == "__main__":
    main()
