"""How much memory an input pipeline is going to need, said before it is used."""

import tensorflow as tf
from absl import logging

_MEMINFO = "/proc/meminfo"


def check(name: str, needs: dict[str, float]) -> None:
    """Logs the memory that a pipeline will hold.

    Args:
        name: of the pipeline.
        needs: what for -> bytes.

    Raises:
        ValueError: if the host has less memory available than that.
    """
    total = sum(needs.values())
    parts = ", ".join(f"{what} {_human(size)}" for what, size in needs.items())
    available = available_memory()
    of = "" if available is None else f" of {_human(available)} available"
    logging.info("Input of %s: about %s of host memory%s (%s).", name, _human(total), of, parts)
    if available is not None and total > available:
        raise ValueError(
            f"Input of {name} needs about {_human(total)} of host memory ({parts}), but only "
            f"{_human(available)} are available. Lower shuffle_buffer or turn off cache_raw."
        )


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping, as Linux estimates them; else None."""
    if not tf.io.gfile.exists(_MEMINFO):
        return None
    with open(_MEMINFO) as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _human(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
