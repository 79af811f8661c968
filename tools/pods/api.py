"""The Cloud TPU API, version 2: a few calls of `google-cloud-tpu`, and what they mean for us."""

from __future__ import annotations

import dataclasses
import re
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from pods.errors import ExistsError, NoCapacityError, PodError, QuotaError
from pods.naming import Target

# States in which a node no longer computes for us and won't by itself.
GONE = ("PREEMPTED", "TERMINATED", "STOPPED", "STOPPING", "DELETING", "HIDING", "HIDDEN")
_REPEAT_AFTER = (1, 4, 15, 60)  # seconds
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclasses.dataclass(frozen=True)
class Worker:
    """One of a slice's machines: its addresses, and the port of its TensorFlow server."""

    internal_ip: str
    port: int
    external_ip: str = ""


@dataclasses.dataclass(frozen=True)
class Node:
    """What the API says of a slice.

    Attributes:
      state: CREATING, READY, PREEMPTED, ...
      health: HEALTHY, UNHEALTHY_MAINTENANCE, ... or HEALTH_UNSPECIFIED.
      health_description: the API's words.
      workers: its machines, in order.
      accelerator_type: such as v5litepod-8.
      runtime: the image.
      uid: differs between slices that had the same name one after the other.
    """

    state: str
    health: str
    health_description: str
    workers: tuple[Worker, ...]
    accelerator_type: str
    runtime: str
    uid: str

    @property
    def ready(self) -> bool:
        """Whether it can be worked with."""
        return self.state == "READY" and self.health in ("HEALTHY", "HEALTH_UNSPECIFIED")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A slice to ask for.

    Attributes:
      target: where and under which name.
      accelerator_type: such as v5litepod-8.
      runtime: the image.
      spot: cheaper, and preempted when others need it.
      queued: wait in Google's queue rather than ask again and again.
      wait_seconds: leave the queue if nothing came by then; None: never.
      service_account: whose rights programs on the slice have; None: the project's default.
      network: None: default.
      subnetwork: None: the network's.
      external_ips: whether the machines have public addresses.
      labels: shown in the console.
      metadata: of the machines.
    """

    target: Target
    accelerator_type: str
    runtime: str
    spot: bool = False
    queued: bool = False
    wait_seconds: int | None = None
    service_account: str | None = None
    network: str | None = None
    subnetwork: str | None = None
    external_ips: bool = True
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)

    def node(self) -> dict[str, Any]:
        """The API's Node."""
        network = {"enable_external_ips": self.external_ips}
        if self.network:
            network["network"] = self.network
        if self.subnetwork:
            network["subnetwork"] = self.subnetwork
        node: dict[str, Any] = {
            "accelerator_type": self.accelerator_type,
            "runtime_version": self.runtime,
            "network_config": network,
            "labels": dict(self.labels),
            "metadata": dict(self.metadata),
        }
        if self.service_account:
            node["service_account"] = {
                "email": self.service_account,
                "scope": ["https://www.googleapis.com/auth/cloud-platform"],
            }
        if self.spot and not self.queued:
            node["scheduling_config"] = {"spot": True}
        return node

    def queued_resource(self) -> dict[str, Any]:
        """The API's QueuedResource."""
        target = self.target
        spec = {"parent": target.parent, "node_id": target.name, "node": self.node()}
        resource: dict[str, Any] = {"tpu": {"node_spec": [spec]}}
        if self.spot:
            resource["spot"] = {}
        if self.wait_seconds is not None:
            resource["queueing_policy"] = {"valid_until_duration": f"{self.wait_seconds}s"}
        return resource


class TpuApi:
    """Creates, looks at and deletes slices.

    Args:
      client: a `google.cloud.tpu_v2.TpuClient`, or what behaves like one.
      sleep: waits between repetitions of a call that failed in passing.
    """

    def __init__(self, client, sleep: Callable[[float], None] = time.sleep):
        self._client = client
        self._sleep = sleep

    def create(self, wanted: Wanted) -> str | None:
        """Asks for a slice; returns the operation's name, whose failure `check` raises.

        Raises:
          PodError: one of its kinds, if the API refuses at once.
        """
        target = wanted.target
        if wanted.queued:
            self._call(
                "create_queued_resource",
                target,
                parent=target.parent,
                queued_resource_id=target.name,
                queued_resource=wanted.queued_resource(),
            )
            return None
        operation = self._call(
            "create_node", target, parent=target.parent, node_id=target.name, node=wanted.node()
        )
        return operation.operation.name

    def check(self, operation: str | None, target: Target) -> None:
        """Raises what `create` failed of, if it did after all."""
        if operation is None:
            return
        found = self._call("get_operation", target, name=operation)
        if found.done and found.HasField("error"):
            raise meaning(found.error.message, found.error.code == 8, target)

    def get(self, target: Target) -> Node | None:
        """The slice as it is; None if there is none."""
        node = self._call("get_node", target, name=target.node, missing_ok=True)
        if node is None:
            return None
        workers = tuple(
            Worker(point.ip_address, point.port or 8470, point.access_config.external_ip)
            for point in node.network_endpoints
        )
        return Node(
            state=node.state.name,
            health=node.health.name,
            health_description=node.health_description,
            workers=workers,
            accelerator_type=node.accelerator_type,
            runtime=node.runtime_version,
            uid=str(node.id),
        )

    def queue_state(self, target: Target) -> str | None:
        """State of the request in the queue; None if there is none."""
        name = target.queued_resource
        found = self._call("get_queued_resource", target, name=name, missing_ok=True)
        return None if found is None else found.state.state.name

    def runtimes(self, target: Target) -> list[str]:
        """The runtime images of the zone."""
        found = self._call("list_runtime_versions", target, parent=target.parent)
        return [runtime.version for runtime in found]

    def stop_node(self, target: Target) -> None:
        """Turns the machines off; single hosts only, says the API."""
        self._call("stop_node", target, name=target.node)

    def delete(self, target: Target) -> None:
        """Begins to delete the slice and its request in the queue; neither need exist."""
        if self.queue_state(target) is not None:
            # With force, the node goes with it.
            name = target.queued_resource
            self._call("delete_queued_resource", target, name=name, force=True, missing_ok=True)
        else:
            self._call("delete_node", target, name=target.node, missing_ok=True)

    def _call(self, method: str, target: Target, *, missing_ok: bool = False, **request):
        for seconds in (*_REPEAT_AFTER, None):
            try:
                return getattr(self._client, method)(request=request)
            except Exception as error:
                from google.api_core import exceptions

                if missing_ok and isinstance(error, exceptions.NotFound):
                    return None
                if seconds is not None and _is_passing(error):
                    self._sleep(seconds)
                    continue
                if isinstance(error, exceptions.AlreadyExists | exceptions.Conflict):
                    raise ExistsError(f"{target} exists already: {error.message}") from error
                if not isinstance(error, exceptions.GoogleAPICallError):
                    if _is_passing(error):
                        raise PodError(f"The Cloud TPU API can't be reached: {error}") from error
                    raise
                exhausted = isinstance(error, exceptions.TooManyRequests)
                raise meaning(error.message, exhausted, target, error) from error


def _is_passing(error: Exception) -> bool:
    """Whether the same call may well succeed a little later."""
    import requests
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth

    passing = (api.ServerError, api.RetryError, requests.ConnectionError, requests.Timeout)
    return isinstance(error, (*passing, auth.TransportError))


def meaning(
    message: str, exhausted: bool, target: Target, error: Exception | None = None
) -> PodError:
    """The error that says what to do about a refusal of the API.

    Args:
      message: the API's.
      exhausted: whether its code is RESOURCE_EXHAUSTED: a quota, or no capacity.
      target: the slice it was about.
      error: what the client library raised.
    """
    project, zone = target.project, target.zone
    if re.search(r"quota", message, re.IGNORECASE):
        return QuotaError(
            f"The quota of project {project} doesn't allow this slice in {zone}: {message} "
            "Ask for more at https://console.cloud.google.com/iam-admin/quotas?project="
            f"{project}&service=tpu.googleapis.com (spot and on-demand are separate quotas), or "
            "take a smaller slice or another zone."
        )
    if exhausted or re.search(r"no more capacity|insufficient.*capacity", message, re.IGNORECASE):
        return NoCapacityError(f"No capacity in {zone}: {message}")
    if "has not been used in project" in message or "SERVICE_DISABLED" in message:
        return PodError(
            f"The Cloud TPU API is off in project {project}: {message} Turn it on: gcloud services "
            f"enable tpu.googleapis.com --project={project}"
        )
    if type(error).__name__ == "Forbidden" or type(error).__name__ == "PermissionDenied":
        return PodError(
            f"Not allowed in project {project}: {message} Your account needs the role TPU Admin "
            "(roles/tpu.admin), and Service Account User on the slice's service account."
        )
    if type(error).__name__ == "Unauthenticated" or type(error).__name__ == "Unauthorized":
        return PodError(
            f"Google doesn't know who you are: {message} Log in: gcloud auth application-default "
            "login"
        )
    return PodError(f"The Cloud TPU API refused {target}: {message}")


def make_client(endpoint: str | None):
    """A `TpuClient`: Google's with your default credentials, or one for a server on this machine.

    Args:
      endpoint: None, or http://127.0.0.1:PORT. Credentials are never sent there.

    Raises:
      PodError: if `google-cloud-tpu` isn't installed, or nobody is logged in.
      ValueError: for an endpoint elsewhere.
    """
    try:
        from google.auth import credentials, exceptions
        from google.cloud import tpu_v2
        from google.cloud.tpu_v2.services.tpu.transports.rest import TpuRestTransport
    except ImportError as error:
        raise PodError(
            f"{error}. The TPU API needs the package google-cloud-tpu: pip install "
            "'google-cloud-tpu>=1.25,<2', or the extra 'pods' of this project."
        ) from error
    if endpoint is None:
        try:
            return tpu_v2.TpuClient()
        except exceptions.DefaultCredentialsError as error:
            raise PodError("You aren't logged in: gcloud auth application-default login") from error
    url = urllib.parse.urlsplit(endpoint)
    if url.scheme != "http" or url.hostname not in _LOOPBACK:
        raise ValueError(f"--api-endpoint is {endpoint!r}; expected http://127.0.0.1:PORT.")
    transport = TpuRestTransport(
        host=url.netloc, url_scheme="http", credentials=credentials.AnonymousCredentials()
    )
    return tpu_v2.TpuClient(transport=transport)


class PrintingClient:
    """Stands where a `TpuClient` would in a dry run: prints each call, and lets it succeed.

    Args:
      say: where to.
      hosts: of the slice.
      existing: a Node that is there from the beginning.
    """

    def __init__(self, say: Callable[[str], None], hosts: int, existing: dict | None = None):
        self._say = say
        self._hosts = hosts
        self._created, self._queued = existing, None

    def __getattr__(self, method: str):
        def call(request: dict[str, Any]):
            self._say(f"[dry run] TPU API v2 {method} {request}")
            return self._answer(method, request)

        return call

    def _answer(self, method: str, request: dict[str, Any]):
        from types import SimpleNamespace as Answer

        if method == "create_node":
            self._created = request["node"]
            return Answer(operation=Answer(name=f"{request['parent']}/operations/OPERATION"))
        if method == "create_queued_resource":
            self._queued = request["queued_resource"]
            self._created = self._queued["tpu"]["node_spec"][0]["node"]
        if method == "get_operation":
            return Answer(done=False)
        if method == "list_runtime_versions":
            return []
        if method.startswith("delete_"):
            self._created = self._queued = None
        if method == "get_queued_resource" and self._queued:
            return Answer(state=Answer(state=Answer(name="ACTIVE")))
        if method == "get_node" and self._created:
            address = [Answer(external_ip=f"WORKER_{i}_ADDRESS") for i in range(self._hosts)]
            return Answer(
                state=Answer(name="READY"),
                health=Answer(name="HEALTHY"),
                health_description="",
                network_endpoints=[
                    Answer(ip_address=f"WORKER_{i}_INTERNAL", port=8470, access_config=address[i])
                    for i in range(self._hosts)
                ],
                accelerator_type=self._created["accelerator_type"],
                runtime_version=self._created["runtime_version"],
                id=0,
            )
        return None
