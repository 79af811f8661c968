"""What stands behind the colon of `--config=FILE:ARGUMENTS`."""

from __future__ import annotations

from collections.abc import Iterable

from vit_keras.names import unknown_name

RUNLOCAL = "runlocal"


def read(
    text: str | None, **expected: tuple[str | None, Iterable[str] | None]
) -> tuple[str | bool, ...]:
    """The values of arguments such as "b16,cifar10,runlocal".

    Args:
      text: separated by commas; `runlocal` may stand anywhere.
      **expected: by position, the argument's name to its default (None: it must be given) and the
        valid values (None: any).

    Returns:
      A value for each expected argument, and whether `runlocal` was among them.

    Raises:
      ValueError: too few, too many, or one that isn't valid, naming the nearest that is.
    """
    words = [word.strip() for word in (text or "").split(",")] if text else []
    runlocal = RUNLOCAL in words
    words = [word for word in words if word != RUNLOCAL]
    required = sum(default is None for default, _ in expected.values())
    if not all(words) or not required <= len(words) <= len(expected):
        raise ValueError(
            f"--config arguments are {text!r}; expected {','.join(expected)!r}, of which the first "
            f"{required} are needed, and perhaps {RUNLOCAL!r}."
        )
    values = []
    for position, (name, (default, valid)) in enumerate(expected.items()):
        value = words[position] if position < len(words) else default
        if valid is not None and value not in valid:
            raise unknown_name(f"argument {name}", value, [*valid, RUNLOCAL])
        values.append(value)
    return (*values, runlocal)
