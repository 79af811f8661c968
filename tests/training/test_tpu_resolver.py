"""The way from a TPU's name to its workers, as far as it goes without a TPU."""

import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading

import pytest
import tensorflow as tf

from vit_keras.training import get_strategy, tpu
from vit_keras.training.tpu import resolve, wait_until_reachable

MINOR = ".".join(tf.__version__.split(".")[:2])
NODES = {
    "pod": {
        "state": "READY",
        "tensorflowVersion": f"tpu-vm-tf-{MINOR}.0-pod",
        "networkEndpoints": [
            {"ipAddress": "10.0.0.2", "port": 8470},
            {"ipAddress": "10.0.0.3", "port": 8470},
        ],
    },
    "coming": {"state": "CREATING"},
    "old": {
        "state": "READY",
        "tensorflowVersion": "tpu-vm-tf-2.9.1",
        "networkEndpoints": [{"ipAddress": "10.0.0.4", "port": 8470}],
    },
}


def discovery(root):
    """What the API says of itself: the part of version 1 that finds a node."""
    method = {
        "id": "tpu.projects.locations.nodes.get",
        "path": "v1/{+name}",
        "httpMethod": "GET",
        "parameters": {"name": {"type": "string", "location": "path", "required": True}},
        "parameterOrder": ["name"],
        "response": {"$ref": "Node"},
    }
    resources = {"nodes": {"methods": {"get": method}}}
    for name in ("locations", "projects"):
        resources = {name: {"resources": resources}}
    return {
        "kind": "discovery#restDescription",
        "name": "tpu",
        "version": "v1",
        "rootUrl": root,
        "servicePath": "",
        "baseUrl": root,
        "batchPath": "batch",
        "schemas": {"Node": {"id": "Node", "type": "object"}},
        "resources": resources,
    }


class Cloud(http.server.BaseHTTPRequestHandler):
    """The TPU API, and as a proxy the metadata server of a VM."""

    def do_GET(self):
        root = f"http://127.0.0.1:{self.server.server_port}/"
        path = re.sub("^http://[^/]*", "", self.path).partition("?")[0]
        self.server.paths.append(path)
        node = NODES.get(path.rpartition("/")[2]) if "/nodes/" in path else None
        if path.endswith("/project/project-id"):
            self.answer(200, b"our-project")
        elif path.endswith("/instance/zone"):
            self.answer(200, b"projects/1/zones/our-zone")
        elif path == "/discovery":
            self.answer_json(200, discovery(root))
        elif node is not None and self.headers["Authorization"] == "Bearer a-token":
            self.answer_json(200, node)
        elif "/nodes/" in path:
            self.answer_json(404, {"error": {"code": 404, "message": "no such node"}})
        else:
            self.answer(404, b"")

    def answer_json(self, status, value):
        self.answer(status, json.dumps(value).encode(), "application/json")

    def answer(self, status, body, kind="text/plain"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def cloud():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cloud)
    server.paths = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def outcomes(cloud):
    """What tpu_client.py says of each TPU, on a machine that seems to be a VM of the cloud."""
    tpus = ["pod", "coming", "old", "absent", "local", "server"]
    script = pathlib.Path(__file__).with_name("tpu_client.py")
    here = f"127.0.0.1:{cloud.server_port}"
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("TPU_NAME", "TF_CONFIG")},
        "METADATA_PROXY": f"http://{here}",
        "TPU_API_DISCOVERY_URL": f"http://{here}/discovery",
    }
    process = subprocess.run(
        [sys.executable, str(script), *tpus],
        capture_output=True,
        env=environment,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return dict(zip(tpus, map(json.loads, process.stdout.splitlines()), strict=True))


def test_addresses_need_no_lookup():
    one = resolve("grpc://10.0.0.2:8470")
    assert one.cluster_spec().as_dict() == {"worker": ["10.0.0.2:8470"]}
    assert one.master() == "grpc://10.0.0.2:8470"
    three = resolve("grpc://10.0.0.2:8470,grpc://10.0.0.3,grpc://10.0.0.4:9000")
    workers = ["10.0.0.2:8470", "10.0.0.3:8470", "10.0.0.4:9000"]
    assert three.cluster_spec().as_dict() == {"worker": workers}
    with pytest.raises(ValueError, match="expected addresses to begin with grpc://"):
        resolve("10.0.0.2:8470")


@pytest.mark.slow
def test_name_is_looked_up(outcomes, cloud):
    pytest.importorskip("cloud_tpu_client")
    assert outcomes["pod"] == {"worker": ["10.0.0.2:8470", "10.0.0.3:8470"]}
    assert "/v1/projects/our-project/locations/our-zone/nodes/pod" in cloud.paths


@pytest.mark.slow
def test_name_that_does_not_fit(outcomes):
    pytest.importorskip("cloud_tpu_client")
    assert 'state: "CREATING"' in outcomes["coming"]["error"]
    assert "'absent'" in outcomes["absent"]["error"]
    assert "no such node" in outcomes["absent"]["error"]
    expected = f"is 'tpu-vm-tf-2.9.1', but this is TensorFlow {tf.__version__}"
    assert expected in outcomes["old"]["error"]
    assert "Install TensorFlow 2.9" in outcomes["old"]["error"]


@pytest.mark.slow
def test_no_tpu(outcomes):
    assert "TensorFlow finds no TPU on this machine" in outcomes["local"]["error"]
    assert "a TensorFlow server answers there, but it has no TPU" in outcomes["server"]["error"]


def test_workers_that_do_not_answer(monkeypatch):
    monkeypatch.setattr(tpu, "REACH_SECONDS", 1)
    with socket.socket() as closed, socket.socket() as silent:
        closed.bind(("127.0.0.1", 0))  # and nothing listens
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        ports = [each.getsockname()[1] for each in (closed, silent)]
        addresses = [f"127.0.0.1:{port}" for port in ports]
        with pytest.raises(ValueError, match="2 of 2 workers of the TPU didn't answer") as error:
            get_strategy("tpu", tpu=",".join(f"grpc://{address}" for address in addresses))
    assert f"{addresses[0]}: [Errno 111]" in str(error.value)
    assert f"{addresses[1]}: no answer" in str(error.value)


def test_port_of_something_else(cloud, monkeypatch):
    monkeypatch.setattr(tpu, "REACH_SECONDS", 0.5)
    with pytest.raises(ValueError, match="not a gRPC server"):
        wait_until_reachable([f"127.0.0.1:{cloud.server_port}"])
