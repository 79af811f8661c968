"""Error messages that name what would have been valid."""

import difflib
from collections.abc import Iterable


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> str:
    """Says that `name` is not a known `kind`, which valid name is nearest, and what is valid."""
    valid = sorted(valid)
    nearest = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.4)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"Unknown {kind} {name!r}.{hint} Valid: {', '.join(valid) or 'none'}."
