"""The commands of the command line, one a file.

Each has a docstring that `--help` shows, `add_arguments(parser)` and `run(arguments)`;
`TAKES_CONFIG` where it reads `--config`.
"""

from vit_keras.commands import evaluate, export, inspect, predict, preflight, train

COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "inspect": inspect,
    "preflight": preflight,
}
