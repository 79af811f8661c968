"""Error messages that name what would have been valid."""

from collections.abc import Iterable

from vit_keras.names import nearest_hint


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> str:
    """Says that `name` is not a known `kind`, which valid name is nearest, and what is valid."""
    valid = sorted(valid)
    hint = nearest_hint(name, valid)
    return f"Unknown {kind} {name!r}.{hint} Valid: {', '.join(valid) or 'none'}."
