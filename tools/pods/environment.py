"""Which environment variables TensorFlow needs on a slice."""

from __future__ import annotations

from collections.abc import Sequence

from pods.api import Worker
from vit_keras.slices import Slice


def variables(
    tpu_slice: Slice, workers: Sequence[Worker], libtpu: str | None = None
) -> dict[str, str]:
    """What the training process on worker 0 gets.

    On a pod, one controller talks to the TensorFlow server of every worker, so its own process
    must not take the TPU (`TPU_LOAD_LIBRARY=0`), and `TPU_NAME` says where the servers are: as
    addresses, which need neither the API nor credentials to resolve. On a single host the process
    itself drives the TPU, through the pluggable device in libtpu.

    The generation's `libtpu_init_args` reach the compiler on a single host only: on a pod it runs
    in the image's servers, which are started before us.

    Args:
      tpu_slice: the slice.
      workers: its machines, in order.
      libtpu: path of libtpu.so on worker 0; a single host needs it.

    Raises:
      ValueError: if the number of machines isn't the slice's, or libtpu is missing.
    """
    if len(workers) != tpu_slice.hosts:
        raise ValueError(
            f"{tpu_slice.name} has {tpu_slice.hosts} hosts, but the API lists {len(workers)}."
        )
    common = {"PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "1"}
    if tpu_slice.hosts > 1:
        addresses = ",".join(f"grpc://{worker.internal_ip}:{worker.port}" for worker in workers)
        return {**common, "TPU_NAME": addresses, "TPU_LOAD_LIBRARY": "0"}
    if not libtpu:
        raise ValueError("libtpu.so was not found on the host; is this a TPU host?")
    single = {
        "TPU_NAME": "local",
        "PJRT_DEVICE": "TPU",
        "NEXT_PLUGGABLE_DEVICE_USE_C_API": "true",
        "TF_PLUGGABLE_DEVICE_LIBRARY_PATH": libtpu,
    }
    options = tpu_slice.generation.libtpu_init_args
    if options:
        single["LIBTPU_INIT_ARGS"] = " ".join(options)
    return {**common, **single}
