"""A slice's life against a TPU API on loopback, through Google's own client libraries."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("google.cloud.tpu_v2")

import tpu
from pods import guard, prepare, session
from pods.api import TpuApi, Wanted, make_client
from pods.errors import PodError, QuotaError
from pods.lifecycle import Job, Keeper, Pace, Training, watch_spec
from pods.naming import Target
from pods.prepare import Prepared
from pods.rehearsal.fake_cloud import TOKEN, FakeCloud
from pods.rehearsal.local_remote import LocalRemote
from pods.status import describe

from vit_keras.slices import get_slice

TARGET = Target("my-project-123", "us-central2-b", "vit")
RUNTIME = "tpu-vm-tf-2.15.1-pod-pjrt"
NAME = [f"--project={TARGET.project}", f"--zone={TARGET.zone}", f"--name={TARGET.name}"]
PACE = Pace(
    poll=0.05, backoff=0.05, longest_backoff=0.1, health=1, silence=60, save=5, report=60, gone=1
)
NO_CAPACITY = 'There is no more capacity in the zone "us-central2-b"'


@pytest.fixture
def cloud(tmp_path):
    with FakeCloud(tmp_path / "machines", 2, [RUNTIME, "tpu-vm-tf-2.18.0"]) as found:
        yield found
    assert not list((tmp_path / "machines").glob("*"))


class Heard(list):
    """Messages, as a list."""

    def __call__(self, message):
        self.append(message)

    write = __call__

    def __contains__(self, part):
        return any(part in message for message in self)


def wanted(**options):
    return Wanted(TARGET, "v4-16", RUNTIME, **options)


def keeper(cloud, heard, **options):
    api = TpuApi(make_client(cloud.url), sleep=lambda seconds: None)
    return Keeper(api, wanted(**options), PACE, heard)


def soon(seconds=30):
    return time.time() + seconds


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("spot", [False, True])
def test_a_slice_comes_and_goes(cloud, queued, spot):
    heard = Heard()
    found = keeper(cloud, heard, queued=queued, spot=spot, wait_seconds=600)
    node = found.acquire(soon())
    assert (node.state, node.health, len(node.workers)) == ("READY", "HEALTHY", 2)
    assert node.accelerator_type == "v4-16"
    asked = next(body for body in cloud.bodies if body)
    if queued:
        assert asked["queueingPolicy"] == {"validUntilDuration": "600s"}
        assert ("spot" in asked) == spot
        asked = asked["tpu"]["nodeSpec"][0]["node"]
    else:
        assert asked.get("schedulingConfig", {}).get("spot", False) == spot
    assert asked["runtimeVersion"] == RUNTIME
    found.discard()
    assert not cloud.nodes
    assert not cloud.queued
    found.discard()  # nothing there: nothing to do


def test_no_capacity_for_a_while(cloud):
    cloud.plan.refusals = [NO_CAPACITY] * 3
    heard = Heard()
    assert keeper(cloud, heard).acquire(soon()).ready
    assert sum(NO_CAPACITY in message for message in heard) == 3
    assert "Trying again in 0 s." in heard


def test_no_capacity_for_too_long(cloud):
    cloud.plan.refusals = [NO_CAPACITY] * 10_000
    with pytest.raises(PodError, match="No slice came in time"):
        keeper(cloud, Heard()).acquire(soon(0.5))


def test_a_slice_that_never_gets_healthy_is_replaced(cloud):
    cloud.plan.unhealthy_looks = 10_000

    class Watching(Heard):
        def __call__(self, message):
            super().__call__(message)
            if "it is replaced" in message:
                cloud.plan.unhealthy_looks = 2

    heard = Watching()
    node = keeper(cloud, heard).acquire(soon())
    assert (node.uid, node.ready) == ("2", True)
    assert "UNHEALTHY_TENSORFLOW The TensorFlow server doesn't answer." in heard


def test_a_slice_that_is_taken_before_it_is_used(cloud):
    taken = []

    class Watching(Heard):
        def __call__(self, message):
            super().__call__(message)
            if "CREATING" in message and not taken:
                taken.append(cloud.preempt())

    heard = Watching()
    assert keeper(cloud, heard).acquire(soon()).uid == "2"
    assert "was taken away before it could be used" in heard


def test_passing_failures_of_the_api_are_not_the_users_business(cloud):
    cloud.plan.outages = 4
    assert keeper(cloud, Heard()).acquire(soon()).ready


def test_a_quota_is_said_and_not_waited_for(cloud, capsys):
    cloud.plan.quota = (
        "Quota 'TPUV5sLitepodServingPerProjectPerZoneForTPUAPI' exhausted. Limit 4 in zone."
    )
    with pytest.raises(QuotaError, match="doesn't allow this slice in us-central2-b: ") as error:
        keeper(cloud, Heard()).acquire(soon())
    assert "Limit 4" in str(error.value)
    assert "https://console.cloud.google.com/iam-admin/quotas" in str(error.value)
    code = tpu.main(
        ["create", *NAME, "--slice=v4-16", "--max-hours=1", f"--api-endpoint={cloud.url}"]
    )
    assert code == 1
    assert "Limit 4 in zone" in capsys.readouterr().err
    assert guard.guarded_until(TARGET) is None


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("Permission 'tpu.nodes.create' denied", "roles/tpu.admin"),
        (
            "Cloud TPU API has not been used in project 1 before or it is disabled.",
            "gcloud services enable tpu.googleapis.com",
        ),
    ],
)
def test_a_refusal_says_what_to_do(cloud, message, advice):
    cloud.plan.forbidden = message
    with pytest.raises(PodError, match="my-project-123") as error:
        keeper(cloud, Heard()).acquire(soon())
    assert message in str(error.value)
    assert advice in str(error.value)


def test_a_slice_that_will_not_go_is_loud(cloud):
    found = keeper(cloud, Heard())
    found.acquire(soon())
    cloud.plan.deletable = False
    with pytest.raises(PodError, match="STILL EXISTS AND COSTS"):
        found.discard()


def test_an_unknown_runtime_image_is_refused_with_the_nearest(cloud):
    found = keeper(cloud, Heard())
    found.wanted = Wanted(TARGET, "v4-16", "tpu-vm-tf-2.15.2-pod-pjrt")
    with pytest.raises(ValueError, match=r"Did you mean 'tpu-vm-tf-2\.15\.1-pod-pjrt'"):
        found.check_runtime()


# -- A training, with a program that takes no time in the place of vit-keras --------------------


def training(cloud, tmp_path, script, heard, max_hours=1.0):
    """A `Training` whose workers get our programs, but nothing from pip."""
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)

    def install(remote, runtime, say, offline):
        for worker in range(remote.workers):
            remote.run(worker, ["mkdir", "-p", prepare.DIRECTORY])
            remote.copy(worker, sorted(prepare._PROGRAMS.glob("*.py")), prepare.DIRECTORY)
        return Prepared(str(program), None, {})

    job = Job(
        wanted=wanted(),
        slice=get_slice("v4-16"),
        command=(),
        config_file=None,
        workdir=str(tmp_path / "bucket"),
        max_hours=max_hours,
        max_wait_hours=1,
        endpoint=cloud.url,
        token_url=f"{cloud.url}/token",
    )

    def remote(node):
        return LocalRemote(cloud.machines / node.uid, len(node.workers))

    return Training(job, keeper(cloud, heard), remote, heard, install)


def test_the_slice_is_deleted_when_training_ends(cloud, tmp_path):
    heard = Heard()
    training(cloud, tmp_path, "echo $TPU_LOAD_LIBRARY $TPU_NAME; exit 0", heard).run()
    assert "[worker 0] 0 grpc://127.0.0.1:8470,grpc://127.0.0.1:8471" in heard
    assert "chip-hours in all. No slice is left." in heard
    assert not cloud.nodes
    assert guard.guarded_until(TARGET) is None


def test_the_slice_is_deleted_when_training_fails(cloud, tmp_path):
    heard = Heard()
    with pytest.raises(PodError, match=r"(?s)exit code 2.*no such key"):
        training(cloud, tmp_path, "echo no such key; exit 2", heard).run()
    assert not cloud.nodes


def test_a_training_that_has_saved_goes_on(cloud, tmp_path):
    script = f"if [ -e {tmp_path}/once ]; then exit 0; fi; touch {tmp_path}/once; exit 75"
    heard = Heard()
    training(cloud, tmp_path, script, heard).run()
    assert "Training stopped and has saved; it goes on." in heard
    assert sum("Asking for v4-16" in message for message in heard) == 1


@pytest.mark.parametrize(
    "end",
    [
        "echo 'tensorflow.python.framework.errors_impl.UnavailableError: Socket closed'; exit 1",
        'echo "2 of 4 workers of the TPU didn\'t answer within 60 s:"; exit 2',
        "exit 77",
    ],
)
def test_a_worker_that_goes_away_costs_one_slice(cloud, tmp_path, end):
    script = f"if [ -e {tmp_path}/once ]; then exit 0; fi; touch {tmp_path}/once; {end}"
    heard = Heard()
    training(cloud, tmp_path, script, heard).run()
    assert sum("Asking for v4-16" in message for message in heard) == 2


def test_the_time_limit_saves_and_deletes(cloud, tmp_path):
    script = f"trap 'touch {tmp_path}/saved; exit 75' TERM; echo on; while :; do sleep 0.05; done"

    class Late(Heard):
        def write(self, message):
            super().__call__(message)
            if "[worker 0] on" in message:
                found._deadline = time.time()

    found = training(cloud, tmp_path, script, Late(), max_hours=0.5)
    with pytest.raises(PodError, match=r"time limit of 0\.5 hours"):
        found.run()
    assert (tmp_path / "saved").exists()
    assert not cloud.nodes


def test_an_interrupt_saves_and_deletes(cloud, tmp_path):
    script = f"trap 'touch {tmp_path}/saved; exit 75' TERM; echo on; while :; do sleep 0.05; done"

    class Impatient(Heard):
        def write(self, message):
            super().__call__(message)
            if "[worker 0] on" in message:
                raise KeyboardInterrupt

    heard = Impatient()
    with pytest.raises(KeyboardInterrupt):
        training(cloud, tmp_path, script, heard).run()
    assert (tmp_path / "saved").exists()
    assert not cloud.nodes


def test_a_silent_training_is_restarted_elsewhere(cloud, tmp_path):
    script = f"if [ -e {tmp_path}/once ]; then exit 0; fi; touch {tmp_path}/once; echo a; sleep 99"
    heard = Heard()
    found = training(cloud, tmp_path, script, heard)
    found.pace = Pace(**{**vars(PACE), "silence": 3})
    found.run()
    assert "a worker may hang" in heard
    assert sum("Asking for v4-16" in message for message in heard) == 2


# -- The dead man's limits ---------------------------------------------------------------------


def gone(cloud, seconds=30):
    deadline = time.time() + seconds
    while cloud.nodes or cloud.queued:
        assert time.time() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_guard_outlives_the_one_who_set_it(cloud):
    keeper(cloud, Heard()).acquire(soon())
    program = (
        f"import sys, time; sys.path.insert(0, {str(Path(tpu.__file__).parent)!r})\n"
        "from pods import guard; from pods.naming import Target\n"
        f"guard.set_guard(Target(*{(TARGET.project, TARGET.zone, TARGET.name)!r}), "
        f"time.time() + 1, {cloud.url!r}, 0.2)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ)
    gone(cloud)
    deadline = soon()
    while guard.guarded_until(TARGET) is not None:  # it sees that its work is done
        assert time.time() < deadline
        time.sleep(0.05)


def test_a_guard_that_is_lifted_leaves(cloud):
    target = keeper(cloud, Heard())
    target.acquire(soon())
    heard = Heard()
    file = guard._file(TARGET)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"token": "a", "deadline": time.time() + 60}))
    thread = threading.Thread(
        target=guard.keep_guard, args=(TARGET, target.api, "a", 0.05, heard), daemon=True
    )
    thread.start()
    guard.lift_guard(TARGET)
    thread.join(10)
    assert not thread.is_alive()
    assert "No longer needed." in heard
    assert cloud.nodes


@pytest.mark.parametrize("reason", ["deadline", "idle"])
def test_the_slice_deletes_itself(cloud, tmp_path, reason):
    node = keeper(cloud, Heard()).acquire(soon())
    remote = LocalRemote(cloud.machines / node.uid, 2)
    remote.run(0, ["mkdir", "-p", prepare.DIRECTORY])
    remote.copy(0, sorted(prepare._PROGRAMS.glob("*.py")), prepare.DIRECTORY)
    spec = watch_spec(TARGET, soon(600), PACE, cloud.url, f"{cloud.url}/token")
    session.start_watchdog(remote, {**spec, "idle_seconds": 600})
    folder = cloud.worker(0) / prepare.DIRECTORY
    while not (folder / "watchdog.json").exists():
        time.sleep(0.02)
    state = json.loads((folder / "watchdog.json").read_text())
    assert state["problem"] == ""
    assert not any(TOKEN in file.read_text() for file in folder.glob("*.*"))
    # It goes by what the file says now.
    change = {"deadline": time.time()} if reason == "deadline" else {"idle_seconds": 0}
    session._copy_json(remote, "watch.json", {**spec, "idle_seconds": 600, **change})
    gone(cloud)


# -- The command line --------------------------------------------------------------------------

TRAIN = ["train", *NAME, "--slice=v4-16", "--max-hours=1", "--workdir=gs://bucket/run"]
CONFIG = "--config=tpu_configs/vit.py:b16,cifar10"


def test_a_dry_run_touches_nothing(cloud, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "secret.json"))
    (tmp_path / "secret.json").write_text(json.dumps({"private_key": TOKEN}))
    hostile = "--config.dataset=a b; $(touch hacked)"
    assert tpu.main([*TRAIN, CONFIG, hostile, "--dry-run", f"--api-endpoint={cloud.url}"]) == 0
    out = capsys.readouterr().out
    for expected in (
        "create_node", "tpu-vm-tf-2.15.1-pod-pjrt", "--worker=1", "session.py start",
        "TPU_LOAD_LIBRARY", hostile, "delete_node",
    ):  # fmt: skip
        assert expected in out
    for command in ("setup", "status", "logs", "stop", "delete"):
        assert tpu.main([command, *NAME, "--dry-run", f"--api-endpoint={cloud.url}"]) == 0
    out += capsys.readouterr().out
    assert cloud.calls == []
    assert TOKEN not in out
    assert "secret.json" not in out
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--zone=us-central2", "--zone is 'us-central2'; expected a region and a letter"),
        ("--slice=v4-17", "slice is 'v4-17'"),
        ("--workdir=/home/me", "--workdir is '/home/me'; expected a directory in a bucket"),
        ("--max-hours=0", "--max-hours is 0.0; expected hours above 0"),
        ("--tensorflow=2.19.0", "tensorflow is '2.19.0'; expected one of 2.15.0"),
        ("--via=telnet", "--via is 'telnet'; expected gcloud or ssh"),
        ("--config=mine.py", "expected tpu_configs/NAME.py or a file that is here"),
        ("--confg.batch=3", "argument is '--confg.batch=3'; expected --config.key=value"),
        ("--api-endpoint=http://example.com", "expected http://127.0.0.1:PORT"),
        ("--service-account=a;b", "--service-account is 'a;b'; expected an address"),
    ],
)
def test_mistakes_are_named_before_anything_is_asked_for(cloud, capsys, change, message):
    arguments = [*TRAIN, CONFIG, f"--api-endpoint={cloud.url}", change]
    assert tpu.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert cloud.calls == []


def test_status_through_both_libraries(cloud):
    with pytest.raises(PodError, match="There is no slice"):
        describe(TARGET, "v2", cloud.url)
    keeper(cloud, Heard()).acquire(soon())
    described = describe(TARGET, "v2", cloud.url)
    assert "state      READY" in described
    assert "endpoint   grpc://127.0.0.1:8471" in described
    pytest.importorskip("cloud_tpu_client")
    assert describe(TARGET, "v1", cloud.url).replace(" ", "") in described.replace(" ", "")


def test_create_and_delete(cloud, capsys, tmp_path):
    options = ["--slice=v4-16", "--max-hours=1", "--poll-seconds=0.05"]
    assert tpu.main(["create", *NAME, f"--api-endpoint={cloud.url}", *options]) == 0
    assert "costs 8 chip-hours an hour" in capsys.readouterr().out
    assert 3500 < guard.guarded_until(TARGET) - time.time() <= 3600
    logs = ["logs", *NAME, f"--api-endpoint={cloud.url}", f"--via=local:{cloud.machines}"]
    for index in range(2):
        (cloud.worker(index) / prepare.DIRECTORY).mkdir()
        (cloud.worker(index) / prepare.DIRECTORY / "train.log").write_text(f"line of {index}\n")
    assert tpu.main(logs) == 0
    shown = capsys.readouterr().out
    assert "[worker 0] line of 0" in shown
    assert "[worker 1] line of 1" in shown
    assert tpu.main(["delete", *NAME, f"--api-endpoint={cloud.url}", "--poll-seconds=0.05"]) == 0
    assert not cloud.nodes
    assert guard.guarded_until(TARGET) is None


@pytest.mark.slow
def test_workers_with_other_versions_are_refused(cloud, tmp_path):
    """Real installations, on two workers of which one has another libtpu."""
    import tensorflow as tf

    class Uneven(LocalRemote):
        def _process_options(self, worker):
            options = super()._process_options(worker)
            if worker == 1:
                info = tmp_path / "other" / "libtpu-0.0.1.dist-info"
                info.mkdir(parents=True, exist_ok=True)
                (info / "METADATA").write_text(
                    "Metadata-Version: 2.1\nName: libtpu\nVersion: 0.0.1\n"
                )
                path = options["env"]["PYTHONPATH"]
                options["env"]["PYTHONPATH"] = f"{info.parent}{os.pathsep}{path}"
            return options

    node = keeper(cloud, Heard()).acquire(soon())
    remote = Uneven(cloud.machines / node.uid, 2)
    runtime = f"tpu-vm-tf-{tf.__version__}-pod-pjrt"
    with pytest.raises(PodError, match="workers have different versions") as error:
        prepare.prepare(remote, runtime, Heard(), offline=True)
    assert "libtpu: none on worker 0; 0.0.1 on worker 1" in str(error.value)
