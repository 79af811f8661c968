"""TPU slices from your machine: rent, set up, train, watch, return.

  python tools/tpu.py train --project=P --zone=Z --name=vit --slice=v5e-8 --max-hours=3 \\
      --workdir=gs://BUCKET/run --config=tpu_configs/vit.py:b16,cifar10 --config.batch=512

`train` does everything in order: it waits for the slice, installs the project on all workers,
starts the training on worker 0, shows its log, starts again from the last checkpoint after a
preemption or maintenance, and deletes the slice when the run ends, fails, is interrupted by Ctrl-C,
or reaches --max-hours. The other commands are its parts. --dry-run prints every API call and every
command instead. It needs the package google-cloud-tpu (extra "pods") and a login: `gcloud auth
application-default login`. docs/pods.md goes through all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import getpass
import os
import signal
import sys
import threading
import time
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
if __name__ == "__main__":
    # The slice table without the rest of the package, which wants TensorFlow.
    package = types.ModuleType("vit_keras")
    package.__path__ = [str(ROOT / "vit_keras")]
    sys.modules["vit_keras"] = package

from pods import guard, lifecycle, pins, session  # noqa: E402
from pods.api import Node, PrintingClient, TpuApi, Wanted, make_client  # noqa: E402
from pods.errors import PodError  # noqa: E402
from pods.lifecycle import Job, Keeper, Pace, Training  # noqa: E402
from pods.naming import Target, checked  # noqa: E402
from pods.output import Output  # noqa: E402
from pods.prepare import DIRECTORY, prepare  # noqa: E402
from pods.remote import (  # noqa: E402
    GcloudRemote,
    PrintingRemote,
    Remote,
    SshRemote,
    public_key,
)
from pods.status import describe  # noqa: E402

from vit_keras.slices import Slice, get_slice  # noqa: E402

POD_TENSORFLOW = "2.15.1"
"""The default on several hosts: with it the classic stack is exactly the one that is tested."""

LOGS = (f"{DIRECTORY}/train.log", f"{DIRECTORY}/install.log", "/tmp/tpu_logs/tpu_driver.INFO")


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.command != "train":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        arguments.changes = rest
        for change in rest:
            if not change.startswith("--config."):
                raise ValueError(f"argument is {change!r}; expected --config.key=value.")
        arguments.run(arguments)
        return 0
    except (ValueError, PodError) as error:
        print(f"tpu {arguments.command}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    except KeyboardInterrupt:
        return 130


# -- Commands ------------------------------------------------------------------------------------


def create(arguments: argparse.Namespace) -> None:
    """Asks for a slice and waits until it is there."""
    keeper, _ = _keeper(arguments)
    keeper.check_runtime()
    now = time.time()
    limit = 3600 * arguments.max_hours
    _set_guard(arguments, keeper, now + 3600 * arguments.max_wait_hours + limit)
    try:
        keeper.acquire(now + 3600 * arguments.max_wait_hours)
    except BaseException:
        keeper.discard()
        guard.lift_guard(keeper.target)
        raise
    _set_guard(arguments, keeper, time.time() + limit)
    chips = get_slice(arguments.slice).chips
    keeper.say(
        f"It is there, and costs {chips} chip-hours an hour until it is deleted: by `tpu.py "
        f"delete`, or after {arguments.max_hours:g} hours by a process on this machine."
    )


def setup(arguments: argparse.Namespace) -> None:
    """Installs the project on all workers and checks that they agree."""
    node, remote, say = _existing(arguments)
    remote.wait_until_reachable(arguments.pace.health, time.sleep)
    prepare(remote, node.runtime, say)


def run(arguments: argparse.Namespace) -> None:
    """Starts a training on worker 0, in a session that outlives this terminal."""
    node, remote, say = _existing(arguments)
    job = _job(arguments, _wanted(arguments, node), get_slice(node.accelerator_type))
    prepared = prepare(remote, node.runtime, say)
    environment = lifecycle.variables(job.slice, node.workers, prepared.libtpu)
    deadline = guard.guarded_until(job.wanted.target) or time.time() + 3600 * job.max_hours
    target = job.wanted.target
    spec = lifecycle.watch_spec(target, deadline, arguments.pace, job.endpoint, job.token_url)
    session.start_watchdog(remote, spec)
    if job.config_file is not None:
        remote.copy(0, [job.config_file], DIRECTORY)
    argv = [prepared.interpreter, "-m", "vit_keras.main", "train", *job.command]
    session.start(remote, argv, environment)
    say("Training started on worker 0; `tpu.py logs --follow` shows it.")


def status(arguments: argparse.Namespace) -> None:
    """State, health, endpoints, training, cost."""
    api = _api(arguments, Output()) if arguments.dry_run else None
    print(describe(_target(arguments), arguments.through, arguments.api_endpoint, api))
    until = guard.guarded_until(_target(arguments))
    if until is None:
        print("No process on this machine would delete it.")
    else:
        print(f"A process on this machine deletes it in {(until - time.time()) / 3600:.1f} hours.")


def logs(arguments: argparse.Namespace) -> None:
    """What all workers write, each line with its worker's number."""
    _, remote, say = _existing(arguments)
    follow = ["-F"] if arguments.follow else []

    def show(worker: int) -> None:
        # A file that isn't there makes tail complain once, and no more.
        for line in remote.stream(worker, ["tail", "-q", "-n", "100", *follow, *LOGS]):
            if not line.startswith("tail: "):
                say.write(f"[worker {worker}] {line}")

    threads = [threading.Thread(target=show, args=(i,), daemon=True) for i in range(remote.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def stop(arguments: argparse.Namespace) -> None:
    """Lets the training save and end. The slice stays and costs, unless --node turns it off."""
    _, remote, say = _existing(arguments)
    session.stop(remote)
    deadline = time.time() + arguments.pace.save
    while lifecycle.session_state(remote) == "running":
        if time.time() > deadline:
            raise PodError(f"Training did not end within {arguments.pace.save:.0f} s.")
        time.sleep(arguments.pace.poll)
    say("No training is running. The slice stays, and costs, until `tpu.py delete`.")
    if arguments.node:
        _api(arguments, say).stop_node(_target(arguments))
        say("The machines are being turned off.")


def delete(arguments: argparse.Namespace) -> None:
    """Deletes the slice and its request in the queue."""
    say = Output()
    target = _target(arguments)
    keeper = Keeper(_api(arguments, say), Wanted(target, "", ""), arguments.pace, say)
    keeper.discard()
    if not arguments.dry_run:
        guard.lift_guard(target)
    say(f"{target} does not exist (any more).")


def train(arguments: argparse.Namespace) -> None:
    """Everything, from asking for a slice to deleting it."""
    keeper, say = _keeper(arguments)
    job = _job(arguments, keeper.wanted, get_slice(arguments.slice))
    if not arguments.dry_run:
        _outlive_the_terminal()
    Training(job, keeper, lambda node: _remote(arguments, node, say), say).run()


def keep_guard(arguments: argparse.Namespace) -> None:
    """Internal: the process that deletes a slice at its deadline."""
    say = Output()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    api = _api(arguments, say)
    guard.keep_guard(_target(arguments), api, arguments.token, arguments.pace.poll, say)


# -- From arguments to parts -----------------------------------------------------------------------


def _target(arguments: argparse.Namespace) -> Target:
    return Target(arguments.project, arguments.zone, arguments.name)


def _api(arguments: argparse.Namespace, say: Output) -> TpuApi:
    if not getattr(arguments, "dry_run", False):
        return TpuApi(make_client(arguments.api_endpoint))
    tpu_slice = get_slice(getattr(arguments, "slice", None) or "v5e-8")
    existing = None
    if arguments.command not in ("create", "train"):
        runtime = _runtime(argparse.Namespace(runtime=None, tensorflow=None), tpu_slice)
        existing = {"accelerator_type": tpu_slice.name, "runtime_version": runtime}
    return TpuApi(PrintingClient(say, tpu_slice.hosts, existing))


def _wanted(arguments: argparse.Namespace, node: Node | None = None) -> Wanted:
    if node is not None:
        return Wanted(_target(arguments), node.accelerator_type, node.runtime)
    tpu_slice = get_slice(arguments.slice)
    metadata = {}
    if arguments.via == "ssh":
        user = checked("user", arguments.user or getpass.getuser())
        metadata["ssh-keys"] = f"{user}:{public_key(arguments.identity)}"
    for name in ("service_account", "network", "subnetwork"):
        if getattr(arguments, name) is not None:
            checked(name.replace("_", "-"), getattr(arguments, name))
    return Wanted(
        _target(arguments),
        tpu_slice.name,
        _runtime(arguments, tpu_slice),
        spot=arguments.spot,
        queued=arguments.queued,
        wait_seconds=round(3600 * arguments.max_wait_hours),
        service_account=arguments.service_account,
        network=arguments.network,
        subnetwork=arguments.subnetwork,
        external_ips=not arguments.internal_ip,
        labels={"made-by": "vit-keras", "max-hours": f"{arguments.max_hours:g}".replace(".", "_")},
        metadata=metadata,
    )


def _runtime(arguments: argparse.Namespace, tpu_slice: Slice) -> str:
    if arguments.runtime:
        return checked("runtime", arguments.runtime)
    if arguments.tensorflow:
        return tpu_slice.runtime_image(arguments.tensorflow)
    if tpu_slice.hosts > 1:
        return tpu_slice.runtime_image(POD_TENSORFLOW)
    return tpu_slice.generation.base_image  # gets tensorflow-tpu


def _keeper(arguments: argparse.Namespace) -> tuple[Keeper, Output]:
    if arguments.via not in ("gcloud", "ssh") and not arguments.via.startswith("local:"):
        raise ValueError(f"--via is {arguments.via!r}; expected gcloud or ssh.")
    wanted = _wanted(arguments)
    for name in ("max_hours", "max_wait_hours"):
        if not 0 < getattr(arguments, name) <= 24 * 365:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is {getattr(arguments, name)}; expected hours above 0.")
    file = None if arguments.dry_run else guard.state_directory() / f"{wanted.target.name}.log"
    say = Output(file)
    return Keeper(_api(arguments, say), wanted, arguments.pace, say), say


def _set_guard(arguments: argparse.Namespace, keeper: Keeper, deadline: float) -> None:
    if not arguments.dry_run:
        guard.set_guard(keeper.target, deadline, arguments.api_endpoint, arguments.pace.poll)


def _job(arguments: argparse.Namespace, wanted: Wanted, tpu_slice: Slice) -> Job:
    local = arguments.via.startswith("local:")
    workdir = arguments.workdir if local else checked("workdir", arguments.workdir)
    config, _, argument = arguments.config.partition(":")
    config_file = None
    if Path(config).parts[:1] != ("tpu_configs",):
        config_file = Path(config)
        if not config_file.is_file():
            raise ValueError(
                f"--config is {config!r}; expected tpu_configs/NAME.py or a file that is here."
            )
        config = config_file.name
    spelled = f"{config}:{argument}" if argument else config
    return Job(
        wanted=wanted,
        slice=tpu_slice,
        command=lifecycle.training_command(workdir, spelled, arguments.changes),
        config_file=config_file,
        workdir=workdir,
        max_hours=arguments.max_hours,
        max_wait_hours=arguments.max_wait_hours,
        endpoint=arguments.api_endpoint,
        token_url=f"{arguments.api_endpoint}/token" if arguments.api_endpoint else None,
        offline=local,
        dry_run=arguments.dry_run,
    )


def _remote(arguments: argparse.Namespace, node: Node, say: Output) -> Remote:
    target = _target(arguments)
    if arguments.via.startswith("local:"):
        from pods.rehearsal.local_remote import LocalRemote

        return LocalRemote(Path(arguments.via[6:]) / node.uid, len(node.workers))
    user = checked("user", arguments.user) if arguments.user else None
    if arguments.via == "ssh":
        addresses = [
            worker.internal_ip if arguments.internal_ip else worker.external_ip
            for worker in node.workers
        ]
        keys = guard.state_directory() / f"{target.name}.{node.uid}.known_hosts"
        remote = SshRemote(addresses, user or getpass.getuser(), keys, arguments.identity)
    elif arguments.via == "gcloud":
        workers = len(node.workers)
        remote = GcloudRemote(target, workers, user=user, internal_ip=arguments.internal_ip)
    else:
        raise ValueError(f"--via is {arguments.via!r}; expected gcloud or ssh.")
    return PrintingRemote(remote, say) if arguments.dry_run else remote


def _existing(arguments: argparse.Namespace) -> tuple[Node, Remote, Output]:
    say = Output()
    target = _target(arguments)
    node = _api(arguments, say).get(target)
    if node is None:
        raise PodError(f"There is no slice {target}.")
    return node, _remote(arguments, node, say), say


def _say_already_ending(number, frame):
    # Not by Python's streams, which raise when a signal comes in the middle of another message.
    with contextlib.suppress(OSError):  # a terminal that is gone
        os.write(2, b"Already ending; the slice is being deleted.\n")


def _outlive_the_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def interrupt(number, frame):
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, _say_already_ending)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)


# -- The command line ------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tpu.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def pretended(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--slice", help="what --dry-run takes it to be; default: v5e-8")

    def command(name: str, function, *groups) -> argparse.ArgumentParser:
        summary = function.__doc__
        sub = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        for option in ("project", "zone", "name"):
            default = {"project": os.environ.get("GOOGLE_CLOUD_PROJECT")}.get(option)
            sub.add_argument(f"--{option}", required=default is None, default=default)
        sub.add_argument("--api-endpoint", help="a TPU API on this machine, for rehearsals")
        sub.add_argument("--dry-run", action="store_true", help="print calls and commands only")
        for field in dataclasses.fields(Pace):
            option = f"--{field.name.replace('_', '-')}-seconds"
            shown = option if name == "guard" else argparse.SUPPRESS
            sub.add_argument(option, type=float, default=field.default, help=shown)
        for group in groups:
            group(sub)
        sub.set_defaults(run=function)
        return sub

    command("create", create, _slice_options, _reach_options)
    command("setup", setup, _reach_options, pretended)
    command("run", run, _reach_options, _training_options, _limit_options, pretended)
    through = command("status", status, pretended)
    through.add_argument(
        "--through",
        choices=("auto", "v2", "v1"),
        default="auto",
        help="v2: google-cloud-tpu; v1: cloud-tpu-client, which runtime images have; auto: what "
        "is installed",
    )
    follow = command("logs", logs, _reach_options, pretended)
    follow.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    node = command("stop", stop, _reach_options, pretended)
    node.add_argument("--node", action="store_true", help="turn the machines off, too")
    command("delete", delete, pretended)
    command("train", train, _slice_options, _reach_options, _training_options)
    command("guard", keep_guard).add_argument("--token", required=True)
    return _WithPace(parser)


class _WithPace:
    """A parser whose results have `pace`."""

    def __init__(self, parser: argparse.ArgumentParser):
        self._parser = parser
        self.error = parser.error

    def parse_known_args(self, argv: list[str] | None):
        """Like argparse's."""
        arguments, rest = self._parser.parse_known_args(argv)
        names = [field.name for field in dataclasses.fields(Pace)]
        arguments.pace = Pace(**{name: getattr(arguments, f"{name}_seconds") for name in names})
        return arguments, rest


def _slice_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--slice", required=True, help="such as v5e-8, v3-128, v4:2x2x2")
    parser.add_argument("--spot", action="store_true", help="cheaper, may be preempted")
    parser.add_argument("--queued", action="store_true", help="wait in Google's queue")
    parser.add_argument(
        "--tensorflow",
        metavar="X.Y.Z",
        help=f"the image's version; default: {POD_TENSORFLOW} on several hosts, and on one an "
        f"image without, and tensorflow-tpu {pins.SINGLE_HOST}",
    )
    parser.add_argument("--runtime", help="a runtime image by its full name")
    parser.add_argument("--service-account", help="whose rights programs on the slice have")
    parser.add_argument("--network")
    parser.add_argument("--subnetwork")
    _limit_options(parser)


def _limit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-hours", type=float, required=True, help="delete the slice after so many hours"
    )
    parser.add_argument(
        "--max-wait-hours", type=float, default=24, help="give up waiting for it; default: 24"
    )


def _reach_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--via", default="gcloud", help="gcloud (default) or ssh")
    parser.add_argument("--user", help="login name on the workers")
    parser.add_argument("--identity", metavar="FILE", help="your private key, for --via=ssh")
    parser.add_argument("--internal-ip", action="store_true", help="workers have no public address")


def _training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", required=True, help="gs://BUCKET/DIRECTORY")
    parser.add_argument(
        "--config", required=True, metavar="FILE[:ARGS]", help="--config.KEY=VALUE changes a key"
    )


if __name__ == "__main__":
    sys.exit(main())
