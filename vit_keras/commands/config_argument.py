"""`--config=FILE:args` and `--config.key=value`, as users of the JAX code write them."""

from __future__ import annotations

import importlib.util
import re
import runpy
from pathlib import Path

import ml_collections
from absl import flags
from ml_collections import config_dict, config_flags

from vit_keras.names import unknown_name
from vit_keras.training.config_defaults import OPEN_GROUPS

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")


def read_config(
    file: str | None, changes: list[str], default: ml_collections.ConfigDict | None = None
) -> ml_collections.ConfigDict:
    """Reads a config file and what the command line changes in it.

    Args:
      file: "FILE" or "FILE:args". A file `tpu_configs/...` that isn't below the current directory
        is taken from the installed package.
      changes: any number of `--config.key=value`; the value may be the next argument.
      default: the config where no file is given.

    Raises:
      ValueError: for a change that isn't one, a file that can't be read, and a key that the config
        doesn't have, naming the nearest that it has.
    """
    if file is None and default is None:
        raise ValueError("--config is missing; expected --config=FILE or --config=FILE:args.")
    changes = _joined(changes)
    for change in changes:
        if not _OVERRIDE.match(change):
            raise ValueError(
                f"argument is {change!r}; expected --config.key=value (--help lists the command's "
                "own arguments)."
            )
    config = default if file is None else _load(file)
    for change in changes:
        _check_key(config, _OVERRIDE.match(change)[1])
    return _changed(config, changes)


def _load(file: str) -> ml_collections.ConfigDict:
    path, _, argument = file.partition(":")
    get_config = runpy.run_path(str(_find(path))).get("get_config")
    if get_config is None:
        raise ValueError(f"--config is {path!r}, which has no function get_config.")
    return get_config(argument) if argument else get_config()


def _joined(arguments: list[str]) -> list[str]:
    """`--config.key value` as `--config.key=value`."""
    joined = []
    for argument in arguments:
        if joined and re.fullmatch(r"--config\.[\w.]+", joined[-1]) and argument[:2] != "--":
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _find(path: str) -> Path:
    if Path(path).is_file():
        return Path(path)
    if Path(path).parts[:1] != ("tpu_configs",):
        raise ValueError(f"--config is {path!r}, but there is no such file.")
    package = importlib.util.find_spec("tpu_configs")
    shipped = Path(package.origin).parent
    candidate = shipped.joinpath(*Path(path).parts[1:])
    if not candidate.is_file():
        modules = sorted(file.name for file in shipped.glob("*.py") if file.name != "__init__.py")
        raise unknown_name("--config", path, [f"tpu_configs/{name}" for name in modules])
    return candidate


def _changed(config: ml_collections.ConfigDict, changes: list[str]) -> ml_collections.ConfigDict:
    config = config.copy_and_resolve_references()
    for change in changes:
        key = _OVERRIDE.match(change)[1]
        group, _, name = key.rpartition(".")
        parent = _at(config, group)
        # The flags know no type for None, and none that allows both a number and a pair.
        if parent.get(name) is None or key == "pp.crop" or change.endswith("=None"):
            with parent.ignore_type():
                parent[name] = config_dict.FieldReference(parent.get(name), field_type=object)
    values = flags.FlagValues()
    argv = ["vit-keras", *changes]
    config_flags.DEFINE_config_dict(
        "config",
        config,
        flag_values=values,
        sys_argv=argv,
        lock_config=False,
        accept_new_attributes=True,  # below an open group; `_check_key` has seen to the others
    )
    try:
        values(argv)
        return values["config"].value.copy_and_resolve_references()
    except (flags.Error, TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{' '.join(changes)} can't be read: {error}") from error


def _check_key(config: ml_collections.ConfigDict, key: str) -> None:
    group, prefix = config, ""
    for part in key.split("."):
        if prefix.rstrip(".") in OPEN_GROUPS:
            return
        if not isinstance(group, ml_collections.ConfigDict) or part not in group:
            valid = list(group) if isinstance(group, ml_collections.ConfigDict) else []
            raise unknown_name("config key", key, [f"{prefix}{name}" for name in valid])
        group, prefix = group[part], f"{prefix}{part}."


def _at(config: ml_collections.ConfigDict, path: str) -> ml_collections.ConfigDict:
    for part in filter(None, path.split(".")):
        config = config[part]
    return config
