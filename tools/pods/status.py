"""What a slice is doing, through whichever client library there is."""

from __future__ import annotations

import importlib.util

from pods.api import TpuApi, make_client
from pods.errors import PodError
from pods.naming import Target


def describe(
    target: Target, through: str = "auto", endpoint: str | None = None, api: TpuApi | None = None
) -> str:
    """State, health and endpoints of a slice, in words.

    Args:
      target: the slice.
      through: "v2": `google-cloud-tpu`. "v1": `cloud-tpu-client`, which runtime images have, and
        through which TensorFlow itself looks up a slice's name. "auto": the first that is there.
      endpoint: of the API; None: Google's.
      api: for "v2"; None: made.

    Raises:
      PodError: if there is no such slice, or no client library.
    """
    if through == "auto":
        through = "v2" if _has("google.cloud.tpu_v2") else "v1"
    if through == "v1":
        return _through_v1(target, endpoint)
    api = api or TpuApi(make_client(endpoint))
    node, queue = api.get(target), api.queue_state(target)
    if node is None and queue is None:
        raise PodError(f"There is no slice {target}.")
    lines = [f"{target}"]
    if queue is not None:
        lines.append(f"queue      {queue}")
    if node is not None:
        lines += _lines(node.state, node.health, node.health_description)
        lines += [f"slice      {node.accelerator_type}", f"runtime    {node.runtime}"]
        for worker in node.workers:
            outside = f" ({worker.external_ip})" if worker.external_ip else ""
            lines.append(f"endpoint   grpc://{worker.internal_ip}:{worker.port}{outside}")
    return "\n".join(lines)


def _through_v1(target: Target, endpoint: str | None) -> str:
    try:
        from cloud_tpu_client import client
    except ImportError as error:
        raise PodError(
            f"{error}. Neither google-cloud-tpu nor cloud-tpu-client is installed; install the "
            "first: pip install 'google-cloud-tpu>=1.25,<2'."
        ) from error
    options = {}
    if endpoint:
        from google.auth.credentials import AnonymousCredentials

        url = f"{endpoint}/$discovery/rest?version={{apiVersion}}&api={{api}}"
        options = {"credentials": AnonymousCredentials(), "discovery_url": url}
    tpu = client.Client(tpu=target.name, zone=target.zone, project=target.project, **options)
    try:
        lines = [f"{target}", *_lines(tpu.state(), tpu.health() or "HEALTH_UNSPECIFIED", "")]
        lines += [f"slice      {tpu.accelerator_type()}", f"runtime    {tpu.runtime_version()}"]
        if tpu.state() == "READY":
            for point in tpu.network_endpoints():
                lines.append(f"endpoint   grpc://{point['ipAddress']}:{point['port']}")
    except ValueError as error:  # its only error, whatever happened
        raise PodError(str(error)) from error
    return "\n".join(lines)


def _lines(state: str, health: str, description: str) -> list[str]:
    return [f"state      {state}", f"health     {health} {description}".rstrip()]


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
