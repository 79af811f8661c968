"""Finding what a user meant by a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown_name(argument: str, value: object, valid: Iterable[str]) -> ValueError:
    """The error for a name that isn't valid: says which are, the nearest first."""
    valid = list(valid)
    expected = ", ".join(valid)
    return ValueError(
        f"{argument} is {value!r}; expected one of {expected}.{nearest_hint(value, valid)}"
    )


def nearest_hint(value: object, valid: list[str]) -> str:
    """Asks whether the nearest valid name was meant; empty where none is near."""
    near = difflib.get_close_matches(str(value), valid, n=1, cutoff=0.4)
    return f" Did you mean {near[0]!r}?" if near else ""
