"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replace_when_done(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its place when the block ends well.

    When the block raises, the temporary file is removed and what was at `path` stays.
    """
    path = Path(path)
    # Some writers look at the ending: .keras, .weights.h5.
    handle, temporary = tempfile.mkstemp(
        prefix=".", suffix="".join(path.suffixes[-2:]), dir=path.parent
    )
    os.close(handle)
    try:
        yield Path(temporary)
        # mkstemp makes files private; give this one what any new file would have.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
