"""The command line: `vit-keras COMMAND ...`, also `python -m vit_keras.main COMMAND ...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from absl import logging

from vit_keras.commands import COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code (2: the user's mistake, said in one message)."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not arguments.takes_config:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    logging.set_verbosity(logging.INFO if arguments.verbose else logging.WARNING)
    logging.use_absl_handler()
    try:
        if arguments.takes_config:
            arguments.config_changes = rest
        return arguments.run(arguments) or 0
    except (ValueError, FileNotFoundError) as error:
        if arguments.verbose:
            raise
        print(f"vit-keras {arguments.command}: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vit-keras",
        description="Vision Transformers in TensorFlow/Keras that read JAX checkpoints.",
        epilog="`vit-keras COMMAND --help` explains a command.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        summary = command.__doc__.partition("\n")[0]
        sub = commands.add_parser(
            name,
            help=summary,
            description=command.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.add_argument("--verbose", action="store_true", help="log what is done, show tracebacks")
        command.add_arguments(sub)
        sub.set_defaults(run=command.run, takes_config=getattr(command, "TAKES_CONFIG", False))
    return parser


def run() -> None:
    """Entry point of the installed command."""
    sys.exit(main())


if __name__ == "__main__":
    run()
