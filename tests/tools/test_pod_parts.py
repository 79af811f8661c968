"""The parts of tools/tpu.py that need no TPU API: names, quoting, variables, sessions, reports."""

import itertools
import json
import os
import shlex
import stat
import time

import pytest
from pods import pins, prepare, session
from pods.api import Worker
from pods.environment import variables
from pods.errors import RemoteError
from pods.lifecycle import session_state
from pods.naming import Target, checked
from pods.rehearsal.local_remote import LocalRemote
from pods.remote import GcloudRemote, SshRemote

from vit_keras.slices import SLICES, get_slice

HOSTILE = [
    "; touch hacked", "$(touch hacked)", "`touch hacked`", "a'b\"c", "--config.x=('head/.*', 10.0)",
    "new\nline", "*", "~", "", "a  b", "\\", "-rf", "ü", "$HOME", "!!", "&& touch hacked",
]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "value", "expected"),
    [
        ("project", "My Project", "my-project-123"),
        ("project", "x; rm -rf /", "my-project-123"),
        ("zone", "us-central1", "us-central1-a"),
        ("zone", "us-central1-a\n", "us-central1-a"),
        ("name", "-vit", "vit-b16"),
        ("name", "vit$(id)", "vit-b16"),
        ("name", "v" * 40, "at most 39"),
        ("service-account", "me@gmail.com", "gserviceaccount.com"),
        ("workdir", "/tmp/run", "gs://my-bucket/runs/b16"),
        ("runtime", "tpu vm", "tpu-vm-tf-2.15.1-pod-pjrt"),
    ],
)
def test_names_are_checked(what, value, expected):
    with pytest.raises(ValueError, match=f"--{what} is ") as error:
        checked(what, value)
    assert expected in str(error.value)


def test_valid_names():
    target = Target("my-project-123", "europe-west4-b", "vit")
    assert target.node == "projects/my-project-123/locations/europe-west4-b/nodes/vit"
    assert Target("example.com:my-project", "us-east1-d", "v").project == "example.com:my-project"
    assert checked("workdir", "gs://bucket/a b/c") == "gs://bucket/a b/c"


@pytest.fixture
def shell_programs(tmp_path, monkeypatch):
    """`ssh` and `gcloud` that do what the real ones end in: give one string to a shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "ssh": 'for last; do :; done\nexec sh -c "$last"',
        "gcloud": 'for last; do :; done\nexec sh -c "${last#--command=}"',
    }
    for name, script in scripts.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", ["ssh", "gcloud"])
def test_arguments_arrive_as_they_are(kind, shell_programs):
    target = Target("my-project-123", "us-central1-a", "vit")
    remote = {
        "ssh": lambda: SshRemote(["10.0.0.1"], "me", shell_programs / "keys"),
        "gcloud": lambda: GcloudRemote(target, 1),
    }[kind]()
    program = "import json, sys; print(json.dumps(sys.argv[1:]))"
    printed = remote.run(0, ["python3", "-c", program, *HOSTILE])
    assert json.loads(printed) == HOSTILE
    assert not (shell_programs / "hacked").exists()
    assert list(remote.stream(0, ["printf", "%s\\n", "a", "$HOME"])) == ["a", "$HOME"]
    with pytest.raises(RemoteError, match="worker 0: exit code 3"):
        remote.run(0, ["sh", "-c", "exit 3"])


def test_single_host_variables():
    found = variables(get_slice("v5e-8"), [Worker("10.0.0.2", 8470)], "/lib/libtpu.so")
    assert found["TPU_NAME"] == "local"
    assert found["PJRT_DEVICE"] == "TPU"
    assert found["NEXT_PLUGGABLE_DEVICE_USE_C_API"] == "true"
    assert found["TF_PLUGGABLE_DEVICE_LIBRARY_PATH"] == "/lib/libtpu.so"
    assert "TPU_LOAD_LIBRARY" not in found
    with pytest.raises(ValueError, match=r"libtpu\.so"):
        variables(get_slice("v5e-8"), [Worker("10.0.0.2", 8470)])


def test_pod_variables():
    workers = [Worker(f"10.0.0.{i}", 8470) for i in range(16)]
    found = variables(get_slice("v3-128"), workers)
    assert found["TPU_LOAD_LIBRARY"] == "0"
    assert found["TPU_NAME"].startswith("grpc://10.0.0.0:8470,grpc://10.0.0.1:8470,")
    assert found["TPU_NAME"].count("grpc://") == 16
    assert "PJRT_DEVICE" not in found
    with pytest.raises(ValueError, match="16 hosts, but the API lists 3"):
        variables(get_slice("v3-128"), workers[:3])


def test_compiler_options_reach_a_single_host():
    for tpu_slice in SLICES.values():
        if tpu_slice.hosts == 1:
            found = variables(tpu_slice, [Worker("10.0.0.2", 8470)], "/lib/libtpu.so")
            options = tpu_slice.generation.libtpu_init_args
            assert found.get("LIBTPU_INIT_ARGS", "") == " ".join(options)


@pytest.mark.parametrize(
    ("runtime", "tensorflow"),
    [
        ("tpu-vm-tf-2.15.1-pod-pjrt", "2.15.1"),
        ("tpu-vm-tf-2.18.0-pjrt-v5e-and-v6", "2.18.0"),
        ("tpu-ubuntu2204-base", None),
        ("v2-alpha-tpuv5-lite", None),
    ],
)
def test_versions_follow_the_image(runtime, tensorflow):
    assert pins.image_tensorflow(runtime) == tensorflow


def test_each_tensorflow_gets_its_keras():
    assert "keras==2.15.0" in pins.requirements("2.15.0", preinstalled=True)
    assert "tensorflow-addons==0.23.0" in pins.requirements("2.15.1", preinstalled=True)
    assert pins.requirements("2.18.0", preinstalled=True) == ["keras>=3,<4"]
    assert "tensorflow-tpu==2.19.1" in pins.requirements("2.19.1", preinstalled=False)
    for tpu_slice, version in itertools.product(SLICES.values(), ("2.15.1", "2.18.0")):
        assert pins.image_tensorflow(tpu_slice.runtime_image(version)) == version


def test_an_image_without_tensorflow_serves_no_pod(tmp_path):
    (tmp_path / "x.whl").write_bytes(b"")
    with pytest.raises(ValueError, match="has no TensorFlow server; a slice of 4 hosts"):
        prepare._spec("tpu-ubuntu2204-base", 4, tmp_path / "x.whl", offline=True)


def test_differences_between_workers_are_named():
    same = {"python": "3.10.12", "packages": {"keras": "3.5.0", "numpy": "1.26.4"}}
    other = {"python": "3.10.6", "packages": {"keras": "3.6.0", "numpy": "1.26.4"}}
    bare = {"python": "3.10.12", "packages": {"numpy": "1.26.4"}}
    assert prepare.differences([same, same]) == []
    assert prepare.differences([same, other, same, bare]) == [
        "python: 3.10.12 on workers 0, 2, 3; 3.10.6 on worker 1",
        "keras: 3.5.0 on workers 0, 2; 3.6.0 on worker 1; none on worker 3",
    ]


@pytest.fixture
def machine(tmp_path):
    """One worker that has our programs."""
    home = tmp_path / "machine" / "0"
    (home / prepare.DIRECTORY).mkdir(parents=True)
    remote = LocalRemote(tmp_path / "machine", 1)
    remote.copy(0, sorted(prepare._PROGRAMS.glob("*.py")), prepare.DIRECTORY)
    return remote


def until(condition, seconds=30):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline
        time.sleep(0.05)


def test_a_session_outlives_its_connection(machine):
    assert session.look(machine, 0).state == "none"
    script = "echo $GREETING; trap 'echo saving; exit 75' TERM; while :; do sleep 0.1; done"
    session.start(machine, ["sh", "-c", script], {"GREETING": "hello $USER"})
    until(lambda: session.look(machine, 0).log)
    found = session.look(machine, 0)
    assert (found.state, found.code, found.log) == ("running", None, "hello $USER\n")
    assert session_state(machine) == "running"
    with pytest.raises(RemoteError, match="running already"):
        session.start(machine, ["true"], {})
    session.stop(machine)
    until(lambda: session.look(machine, 0).state == "ended")
    ended = session.look(machine, found.offset)
    assert (ended.code, ended.log) == (75, "saving\n")


def test_a_command_that_cannot_start_is_an_ended_session(machine):
    session.start(machine, ["/no/such/program"], {})
    until(lambda: session.look(machine, 0).state == "ended")
    found = session.look(machine, 0)
    assert found.code == 127
    assert "/no/such/program" in found.log


def test_a_machine_that_is_off_is_an_error(tmp_path):
    with pytest.raises(RemoteError, match="worker 1"):
        LocalRemote(tmp_path / "nowhere", 2).run(1, ["true"])


def test_what_is_shown_can_be_pasted():
    command = SshRemote(["10.0.0.1"], "me", "keys")._command(0, ["echo", "a b"])
    assert shlex.split(command[-1]) == ["echo", "a b"]
