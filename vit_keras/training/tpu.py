"""From a TPU's name or addresses to a strategy, with an error where TensorFlow would wait."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator

import tensorflow as tf

REACH_SECONDS = 60
"""How long the workers of a TPU may take until all of them answer."""

LOOKUP_SECONDS = 30
"""How long one answer to the lookup of a TPU's name may take."""

# What an HTTP/2 client (such as gRPC's) begins with: the preface and an empty SETTINGS frame. A
# server answers at once with its own SETTINGS (RFC 9113, 3.4); the fourth byte is a frame's type.
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
_SETTINGS = 4


def tpu_strategy(tpu: str | None = None) -> tf.distribute.Strategy:
    """Connects to a TPU, initializes it, and returns the strategy of all its cores.

    Args:
      tpu: a TPU's name, `local` for the one that this host holds, or the workers' gRPC addresses
        (`grpc://10.0.0.2:8470,grpc://...`). Default: the environment variable TPU_NAME, or `local`.

    Raises:
      ValueError: if the name can't be looked up, its runtime has another TensorFlow, a worker
        doesn't answer within `REACH_SECONDS`, or there is no TPU.
    """
    tpu = tpu or os.environ.get("TPU_NAME") or "local"
    resolver = resolve(tpu)
    if tpu != "local":
        wait_until_reachable(resolver.cluster_spec().as_dict()["worker"])
        tf.config.experimental_connect_to_cluster(resolver)
    try:
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except tf.errors.NotFoundError as error:
        if tpu == "local":
            raise ValueError(
                "config.tpu is 'local', but TensorFlow finds no TPU on this machine; expected a "
                "TPU VM with libtpu and a TensorFlow built for it, or the name or grpc:// "
                f"addresses of a TPU elsewhere. TensorFlow says: {_first_line(error)}"
            ) from error
        raise ValueError(
            f"config.tpu is {tpu!r}; a TensorFlow server answers there, but it has no TPU: "
            f"{_first_line(error)}"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def resolve(
    tpu: str, credentials: object = "default"
) -> tf.distribute.cluster_resolver.TPUClusterResolver:
    """TensorFlow's resolver for a TPU, whose cluster spec is known to exist.

    A name is looked up by the package `cloud-tpu-client` (TPU API v1), in the zone and project
    that the metadata server of a Google Cloud VM names.

    Args:
      tpu: as in `tpu_strategy`.
      credentials: of oauth2client, for the lookup; "default": the application's default ones.

    Raises:
      ValueError: if the lookup fails, the TPU isn't ready, or its runtime's TensorFlow has another
        minor version than this one. TensorFlow itself connects to any version and fails later.
    """
    if ":" in tpu and not tpu.startswith("grpc://"):
        raise ValueError(
            f"config.tpu is {tpu!r}; expected addresses to begin with grpc://: {'grpc://' + tpu!r}."
        )
    try:
        with _socket_timeout(LOOKUP_SECONDS):
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
                tpu=tpu, credentials=credentials
            )
            resolver.cluster_spec()
            if tpu != "local" and not tpu.startswith("grpc://"):
                _check_version(tpu, resolver._cloud_tpu_client.runtime_version())
    except ValueError:
        raise
    except Exception as error:  # of four libraries, each with errors of its own
        raise ValueError(
            f"config.tpu is {tpu!r}, and looking that name up failed: {error}. Expected the name "
            "of a TPU in state READY, on a VM of the same project and zone; grpc://ip:8470 "
            "addresses, one for each worker and with commas between, need no lookup."
        ) from error
    return resolver


def _check_version(tpu: str, runtime: str | None) -> None:
    """Refuses a runtime (`2.15.0`, `tpu-vm-tf-2.15.0-pod`) of another TensorFlow than ours."""
    found = re.search(r"(?:^|tf-)(\d+\.\d+)\b", runtime or "")
    ours = ".".join(tf.__version__.split(".")[:2])
    if found and found.group(1) != ours:
        raise ValueError(
            f"The runtime of TPU {tpu!r} is {runtime!r}, but this is TensorFlow {tf.__version__}; "
            f"expected the same minor version. Install TensorFlow {found.group(1)}, or make the "
            f"TPU with a runtime for {ours}."
        )


def wait_until_reachable(addresses: list[str]) -> None:
    """Returns once a gRPC server answers at each of the addresses (`ip:port`).

    Raises:
      ValueError: naming those that don't within `REACH_SECONDS`. TensorFlow would wait for ever.
    """
    deadline = time.monotonic() + REACH_SECONDS
    problems = {}
    for address in addresses:
        while problem := _problem(address, deadline):
            if time.monotonic() > deadline:
                problems[address] = problem
                break
            time.sleep(0.2)
    if problems:
        listed = "\n  ".join(f"{address}: {problem}" for address, problem in problems.items())
        raise ValueError(
            f"{len(problems)} of {len(addresses)} workers of the TPU didn't answer within "
            f"{REACH_SECONDS:g} s:\n  {listed}\nIs the TPU running, is its TensorFlow server "
            "started, and may this machine reach that port?"
        )


def _problem(address: str, deadline: float) -> str | None:
    """What is wrong with the gRPC server at `address`, if anything."""
    host, _, port = address.rpartition(":")
    patience = max(0.5, min(10.0, deadline - time.monotonic()))
    try:
        with socket.create_connection((host, int(port)), patience) as connection:
            connection.sendall(_HTTP2_HELLO)
            answer = connection.recv(9)
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return str(error)
    return None if len(answer) > 3 and answer[3] == _SETTINGS else "not a gRPC server"


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """For libraries that open their connections without one."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _first_line(error: tf.errors.OpError) -> str:
    return error.message.partition("\n")[0]
