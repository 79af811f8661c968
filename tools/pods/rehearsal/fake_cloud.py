"""A TPU API on loopback that queues, grants, fails health checks, preempts and deletes.

It speaks the HTTP of the API's versions 2 (for `google-cloud-tpu`) and 1 (for `cloud-tpu-client`,
which first asks for the API's description), and the metadata server's for tokens.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import itertools
import json
import os
import re
import shutil
import signal
import threading
import time
import urllib.parse
from pathlib import Path

TOKEN = "ya29.a-secret-that-nobody-may-see"
_RESOURCE = re.compile(
    r"/(v1|v2)/(projects/[^/]+/locations/[^/]+)/(nodes|queuedResources|operations|runtimeVersions)"
    r"(?:/([^/:]+))?(?::(\w+))?"
)


@dataclasses.dataclass
class Plan:
    """What happens to those who ask.

    Attributes:
      refusals: messages of "no capacity" before the first slice is granted.
      quota: message of the quota error that every request gets; None: none.
      forbidden: message of the permission error that every request gets; None: none.
      unhealthy_looks: how often a new slice is looked at before it is healthy.
      creating_looks: how often before it is ready.
      waiting_looks: how often a queued request is looked at before it is granted.
      outages: how many of the next calls fail with 503.
      deletable: whether deleting works.
    """

    refusals: list[str] = dataclasses.field(default_factory=list)
    quota: str | None = None
    forbidden: str | None = None
    unhealthy_looks: int = 0
    creating_looks: int = 1
    waiting_looks: int = 1
    outages: int = 0
    deletable: bool = True


class FakeCloud:
    """The server and everything it rents out.

    Args:
      machines: directory for the workers' homes, which appear and vanish with their slice.
      hosts: of every slice.
      runtimes: names of the runtime images.
      plan: what happens.
    """

    def __init__(self, machines: Path, hosts: int, runtimes: list[str], plan: Plan | None = None):
        self.machines, self.hosts, self.runtimes = machines, hosts, runtimes
        self.plan = plan or Plan()
        self.calls: list[tuple[str, str]] = []
        self.bodies: list[dict] = []
        self.nodes: dict[str, dict] = {}
        self.queued: dict[str, dict] = {}
        self._operations: dict[str, dict] = {}
        self._uids = itertools.count(1)
        self._lock = threading.RLock()
        cloud = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                with cloud._lock:
                    code, answer = cloud._handle(self.command, self.path, body, self.headers)
                data = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                # A watchdog that has deleted its own machine doesn't wait for the answer.
                with contextlib.suppress(BrokenPipeError):
                    self.wfile.write(data)

            do_GET = do_POST = do_DELETE = _answer  # noqa: N815

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeCloud:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            for node in list(self.nodes.values()):
                self._switch_off(node)

    def preempt(self, state: str = "PREEMPTED") -> None:
        """Takes every slice away: its processes are killed, its disks are gone."""
        with self._lock:
            for node in self.nodes.values():
                self._switch_off(node)
                node["state"] = state
            for request in self.queued.values():
                request["state"] = {"state": "SUSPENDED"}

    def worker(self, index: int) -> Path | None:
        """Home directory of a worker of the slice that is there."""
        with self._lock:
            for node in self.nodes.values():
                if node["state"] == "READY":
                    return self.machines / node["id"] / str(index)
        return None

    # -- The API ---------------------------------------------------------------------------------

    def _handle(self, method: str, path: str, body: dict, headers) -> tuple[int, dict]:
        url = urllib.parse.urlsplit(path)
        self.calls.append((method, url.path))
        self.bodies.append(body)
        if url.path == "/token":
            return 200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
        if url.path == "/$discovery/rest":
            return 200, _DISCOVERY | {"rootUrl": f"{self.url}/", "baseUrl": f"{self.url}/"}
        if self.plan.outages:
            self.plan.outages -= 1
            return _error(503, "UNAVAILABLE", "The service is currently unavailable.")
        match = _RESOURCE.fullmatch(url.path)
        if not match:
            return _error(404, "NOT_FOUND", f"no such path: {path}")
        version, parent, kind, name, action = match.groups()
        query = urllib.parse.parse_qs(url.query)
        if kind == "runtimeVersions":
            found = [{"name": f"{parent}/{kind}/{n}", "version": n} for n in self.runtimes]
            return 200, {"runtimeVersions": found}
        if kind == "operations":
            return 200, self._operations[f"{parent}/operations/{name}"]
        if method == "POST" and action is None:
            identity = query[f"{'node' if kind == 'nodes' else 'queuedResource'}Id"][0]
            return self._create(parent, kind, identity, body)
        where = self.nodes if kind == "nodes" else self.queued
        full = f"{parent}/{kind}/{name}"
        if full not in where:
            return _error(404, "NOT_FOUND", f'Resource "{full}" was not found')
        if method == "DELETE":
            return self._delete(parent, kind, name)
        if action == "stop":
            self._switch_off(where[full])
            where[full]["state"] = "STOPPED"
            return 200, self._operation(parent)
        if kind == "nodes":
            shown = self._look_at_node(where[full])
            return 200, shown if version == "v2" else _as_v1(shown)
        return 200, self._look_at_request(where[full])

    def _create(self, parent: str, kind: str, name: str, body: dict) -> tuple[int, dict]:
        if self.plan.quota:
            return _error(429, "RESOURCE_EXHAUSTED", self.plan.quota)
        if self.plan.forbidden:
            return _error(403, "PERMISSION_DENIED", self.plan.forbidden)
        full = f"{parent}/{kind}/{name}"
        if full in self.nodes or full in self.queued:
            return _error(409, "ALREADY_EXISTS", f'Resource "{full}" already exists')
        if kind == "nodes":
            if self.plan.refusals:
                error = {"code": 8, "message": self.plan.refusals.pop(0)}
                return 200, self._operation(parent, error)
            self._grant(full, body)
            return 200, self._operation(parent)
        request = {**body, "name": full, "state": {"state": "WAITING_FOR_RESOURCES"}, "looks": 0}
        self.queued[full] = request
        return 200, self._operation(parent)

    def _grant(self, full: str, body: dict) -> None:
        uid = str(next(self._uids))
        for index in range(self.hosts):
            (self.machines / uid / str(index)).mkdir(parents=True)
        self.nodes[full] = {**body, "name": full, "id": uid, "state": "CREATING", "looks": 0}

    def _look_at_node(self, node: dict) -> dict:
        node["looks"] += 1
        over = node["looks"] - self.plan.creating_looks
        if node["state"] == "CREATING" and over > 0:
            node["state"] = "READY"
            node["networkEndpoints"] = [
                {"ipAddress": "127.0.0.1", "port": 8470 + i} for i in range(self.hosts)
            ]
        if node["state"] == "READY":
            sick = over <= self.plan.unhealthy_looks
            node["health"] = "UNHEALTHY_TENSORFLOW" if sick else "HEALTHY"
            node["healthDescription"] = "The TensorFlow server doesn't answer." if sick else ""
        return {key: value for key, value in node.items() if key != "looks"}

    def _look_at_request(self, request: dict) -> dict:
        request["looks"] += 1
        waiting = request["state"]["state"] == "WAITING_FOR_RESOURCES"
        if waiting and request["looks"] > self.plan.waiting_looks:
            request["state"] = {"state": "ACTIVE"}
            spec = request["tpu"]["nodeSpec"][0]
            self._grant(f"{spec['parent']}/nodes/{spec['nodeId']}", spec["node"])
        return {key: value for key, value in request.items() if key != "looks"}

    def _delete(self, parent: str, kind: str, name: str) -> tuple[int, dict]:
        if self.plan.deletable:
            self.queued.pop(f"{parent}/queuedResources/{name}", None)
            node = self.nodes.pop(f"{parent}/nodes/{name}", None)
            if node is not None:
                self._switch_off(node)
        return 200, self._operation(parent)

    def _operation(self, parent: str, error: dict | None = None) -> dict:
        operation = {"name": f"{parent}/operations/{len(self._operations)}", "done": bool(error)}
        self._operations[operation["name"]] = operation
        if not error:
            return operation
        self._operations[operation["name"]] = {**operation, "error": error}
        return {**operation, "done": False}

    # -- The machines ----------------------------------------------------------------------------

    def _switch_off(self, node: dict) -> None:
        home = self.machines / node["id"]
        for name, keys in (("session.json", ("supervisor", "child")), ("watchdog.json", ("pid",))):
            for file in home.glob(f"*/vit_keras_run/{name}"):
                state = json.loads(file.read_text())
                for key in keys:
                    _kill(state[key], home)
        for _ in range(50):
            shutil.rmtree(home, ignore_errors=True)
            if not home.exists():
                return
            time.sleep(0.1)  # somebody was still writing


def _kill(pid: int, home: Path) -> None:
    """Kills a process that we started, unless its number belongs to another by now."""
    proc = Path(f"/proc/{pid}/cwd")
    if Path("/proc").is_dir():
        try:
            if not Path(os.readlink(proc)).is_relative_to(home):
                return
        except OSError:
            return
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _error(code: int, status: str, message: str) -> tuple[int, dict]:
    return code, {"error": {"code": code, "status": status, "message": message}}


def _as_v1(node: dict) -> dict:
    return {**node, "tensorflowVersion": node["runtimeVersion"]}


_GET_NODE = {
    "id": "tpu.projects.locations.nodes.get",
    "path": "v1/{+name}",
    "flatPath": "v1/{+name}",
    "httpMethod": "GET",
    "parameterOrder": ["name"],
    "response": {"$ref": "Node"},
    "parameters": {"name": {"type": "string", "required": True, "location": "path"}},
}
_NODES = {"nodes": {"methods": {"get": _GET_NODE}}}
_DISCOVERY = {
    "kind": "discovery#restDescription",
    "name": "tpu",
    "version": "v1",
    "servicePath": "",
    "batchPath": "batch",
    "parameters": {},
    "schemas": {"Node": {"id": "Node", "type": "object", "properties": {}}},
    "resources": {"projects": {"resources": {"locations": {"resources": _NODES}}}},
}
