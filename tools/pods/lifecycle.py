"""A slice's life: asked for, waited for, returned; and a whole training on one after the other."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pods import guard, session
from pods.api import GONE, Node, TpuApi, Wanted
from pods.environment import variables
from pods.errors import ExistsError, NoCapacityError, PodError, RemoteError, SliceLostError
from pods.naming import Target
from pods.output import Meter, Output
from pods.prepare import DIRECTORY, Prepared, prepare
from pods.remote import Remote
from vit_keras.slices import Slice

SAVED = 75
"""Exit code of a training that was stopped and has saved."""

HUNG = 77
"""Exit code of a training that had stopped making progress (config.hang_seconds)."""

# What a training that is well writes when another worker or the network went away under it.
_PASSING = re.compile(
    r"UnavailableError|AbortedError|Socket closed|failed to connect to all addresses"
    r"|Connection reset by peer|DeadlineExceededError|workers of the TPU didn't answer within",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Pace:
    """How patient we are, in seconds.

    Attributes:
      poll: between two looks.
      backoff: before the second attempt; doubled each time up to
      longest_backoff.
      health: how long a slice may be unhealthy or unreachable before it is replaced.
      silence: how long training may write nothing before it is restarted.
      save: how long training may take to save when told to stop.
      steady: a training that ran this long makes the backoff start anew.
      report: between two lines about cost.
      gone: how long deleting may take.
    """

    poll: float = 15
    backoff: float = 30
    longest_backoff: float = 900
    health: float = 900
    silence: float = 1800
    save: float = 300
    steady: float = 1800
    report: float = 600
    gone: float = 900


@dataclasses.dataclass(frozen=True)
class Job:
    """A training to bring to its end.

    Attributes:
      wanted: the slice to ask for.
      slice: its facts.
      command: arguments of `vit-keras train`.
      config_file: a config of the user's own, which is copied to worker 0; None: the package's.
      workdir: of the run; outlives slices.
      max_hours: from the first slice on; then everything is deleted.
      max_wait_hours: for a slice to come.
      endpoint: of the API, for the guards; None: Google's.
      token_url: where the slice's watchdog gets its token; None: Google's metadata server.
      offline: workers may install only what their image has.
      dry_run: nothing is really there, so nothing is guarded.
    """

    wanted: Wanted
    slice: Slice
    command: tuple[str, ...]
    config_file: Path | None
    workdir: str
    max_hours: float
    max_wait_hours: float
    endpoint: str | None = None
    token_url: str | None = None
    offline: bool = False
    dry_run: bool = False


class Backoff:
    """Waits longer each time."""

    def __init__(self, pace: Pace, sleep: Callable[[float], None]):
        self._pace, self._sleep = pace, sleep
        self.reset()

    def reset(self) -> None:
        """Begins with short waits again."""
        self._next = self._pace.backoff

    def wait(self, say: Callable[[str], None]) -> None:
        """Waits, and says so."""
        seconds, self._next = self._next, min(2 * self._next, self._pace.longest_backoff)
        say(f"Trying again in {seconds:.0f} s.")
        self._sleep(seconds)


class Keeper:
    """Gets a slice, keeps an eye on it, and gives it back.

    Args:
      api: the TPU API.
      wanted: the slice.
      pace: patience.
      say: where messages go.
      sleep: waits.
    """

    def __init__(
        self,
        api: TpuApi,
        wanted: Wanted,
        pace: Pace,
        say: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.api, self.wanted, self.pace, self.say, self.sleep = api, wanted, pace, say, sleep

    @property
    def target(self) -> Target:
        """Which slice."""
        return self.wanted.target

    def check_runtime(self) -> None:
        """Raises ValueError if the zone has no such runtime image."""
        from vit_keras.names import unknown_name

        found = self.api.runtimes(self.target)
        if found and self.wanted.runtime not in found:
            raise unknown_name("--runtime", self.wanted.runtime, found)

    def acquire(self, deadline: float) -> Node:
        """Waits for the slice, which may be there already.

        Args:
          deadline: seconds since 1970.

        Raises:
          PodError: if none came in time, or the API refuses for another reason than capacity.
        """
        backoff = Backoff(self.pace, self.sleep)
        operation, asked, before, unhealthy = None, False, None, None
        if self.api.get(self.target) is not None or self.api.queue_state(self.target) is not None:
            self.say(f"{self.target} exists already; it is used.")
            asked = True
        while True:
            if time.time() > deadline:
                raise PodError(f"No slice came in time (--max-wait-hours): {self.target}.")
            try:
                if not asked:
                    self.say(f"Asking for {self.wanted.accelerator_type}: {self.target}.")
                    operation, asked = self._ask(), True
                self.api.check(operation, self.target)
                node, queue = self._look()
            except NoCapacityError as error:
                self.say(str(error))
                self.discard()
                operation, asked, before = None, False, None
                backoff.wait(self.say)
                continue
            now = (queue, node and node.state, node and node.health)
            if now != before:
                self.say(_words(queue, node))
                before = now
            if node is not None and node.ready:
                return node
            if node is not None and node.state == "READY":
                unhealthy = unhealthy or time.time()
                if time.time() - unhealthy > self.pace.health:
                    self.say(f"{self.target} doesn't get healthy: it is replaced.")
                    self.discard()
                    operation, asked, before, unhealthy = None, False, None, None
                    continue
            self.sleep(self.pace.poll)

    def _ask(self) -> str | None:
        try:
            return self.api.create(self.wanted)
        except ExistsError:
            return None  # an earlier attempt's answer was lost on the way

    def _look(self) -> tuple[Node | None, str | None]:
        node = self.api.get(self.target)
        queue = self.api.queue_state(self.target) if self.wanted.queued else None
        if queue == "FAILED":
            raise NoCapacityError(f"{self.target}: the request in the queue failed or ran out.")
        if queue in ("SUSPENDING", "SUSPENDED") or (node is not None and node.state in GONE):
            raise NoCapacityError(f"{self.target} was taken away before it could be used.")
        return node, queue

    def discard(self) -> None:
        """Deletes the slice and waits until it is gone.

        Raises:
          PodError: if it still exists after `pace.gone`.
        """
        deadline = time.time() + self.pace.gone
        if self.api.get(self.target) is None and self.api.queue_state(self.target) is None:
            return
        self.api.delete(self.target)
        while self.api.get(self.target) is not None or self.api.queue_state(self.target):
            if time.time() > deadline:
                raise PodError(
                    f"{self.target} STILL EXISTS AND COSTS: deleting it was asked for, but it is "
                    "there after "
                    f"{self.pace.gone:.0f} s. Look at https://console.cloud.google.com/compute/tpus"
                    f"?project={self.target.project}"
                )
            self.sleep(self.pace.poll)
            self.api.delete(self.target)


def _words(queue: str | None, node: Node | None) -> str:
    parts = [f"queue: {queue}"] if queue else []
    if node is not None:
        parts.append(f"slice: {node.state}, {node.health} {node.health_description}".rstrip())
    return "; ".join(parts) or "The slice doesn't exist yet."


class Training:
    """A training, through as many slices as it takes.

    Args:
      job: what to do.
      keeper: of the slices.
      make_remote: from a ready node to its workers.
      say: where messages go.
      install: what makes workers ready.
    """

    def __init__(
        self,
        job: Job,
        keeper: Keeper,
        make_remote: Callable[[Node], Remote],
        say: Output,
        install: Callable[..., Prepared] = prepare,
    ):
        self.job, self.keeper, self.make_remote, self.say = job, keeper, make_remote, say
        self.install = install
        self.pace, self.sleep = keeper.pace, keeper.sleep
        self.meter = Meter(job.slice.chips)
        self._remote: Remote | None = None
        self._deadline: float | None = None
        self._reported = time.time()

    def run(self) -> None:
        """Trains to the end, and deletes the slice whatever happens.

        Raises:
          PodError: if training failed, or the time is up.
        """
        self.keeper.check_runtime()
        backoff = Backoff(self.pace, self.sleep)
        try:
            while True:
                began = time.time()
                try:
                    if self._on_a_slice():
                        return
                    self.say("Training stopped and has saved; it goes on.")
                except SliceLostError as error:
                    self.say(f"{error} Training will go on from its last checkpoint.")
                    self._give_back()
                    self._stop_if_late()
                if time.time() - began > self.pace.steady:
                    backoff.reset()
                backoff.wait(self.say)
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            if interrupted:
                self.say("Interrupted: training is told to save, then the slice is deleted.")
                self._save()
            raise
        finally:
            self._give_back()
            self.say(f"{self.meter.chip_hours:.2f} chip-hours in all. No slice is left.")

    def _on_a_slice(self) -> bool:
        """Trains on one slice; True when the run is finished, False when it has saved."""
        waiting = time.time() + 3600 * self.job.max_wait_hours
        self._guard(waiting + 3600 * self.job.max_hours)
        if self._deadline is not None:
            waiting = min(waiting, self._deadline)
        node = self.keeper.acquire(waiting)
        self.meter.start()
        if self._deadline is None:
            self._deadline = time.time() + 3600 * self.job.max_hours
        self._guard(self._deadline)
        try:
            self._remote = self.make_remote(node)
            self._remote.wait_until_reachable(self.pace.health, self.sleep)
            if session_state(self._remote) != "running":
                self._start(node)
            else:
                self.say("A training is running there already; it is followed.")
            code, tail = self._follow()
        except RemoteError as error:
            self._raise_if_lost(error)
            raise
        if code == 0:
            self.say(f"Training is finished; everything is in {self.job.workdir}.")
            return True
        self._stop_if_late(margin=self.pace.save)  # then the slice's watchdog has stopped it
        if code == SAVED:
            return False
        self.say(f"Training ended with exit code {code}.")
        self._raise_if_lost(None)
        if code == HUNG:
            raise SliceLostError("Training had stopped making progress; a worker may hang.")
        if _PASSING.search(tail):
            raise SliceLostError("A worker or the network went away under the training.")
        raise PodError(f"Training failed with exit code {code}:\n{tail[-3000:]}")

    def _start(self, node: Node) -> None:
        prepared = self.install(self._remote, node.runtime, self.say, offline=self.job.offline)
        environment = variables(self.job.slice, node.workers, prepared.libtpu)
        session.start_watchdog(self._remote, self._watch_spec())
        if self.job.config_file is not None:
            self._remote.copy(0, [self.job.config_file], DIRECTORY)
        argv = [prepared.interpreter, "-m", "vit_keras.main", "train", *self.job.command]
        session.start(self._remote, argv, environment)
        self.say("Training started on worker 0.")

    def _watch_spec(self) -> dict:
        return watch_spec(
            self.keeper.target, self._deadline, self.pace, self.job.endpoint, self.job.token_url
        )

    def _guard(self, deadline: float) -> None:
        if self._deadline is not None:
            deadline = min(deadline, self._deadline)
        if self.job.dry_run:
            self.say(f"[dry run] a process of its own deletes the slice at {_at(deadline)}")
        else:
            guard.set_guard(self.keeper.target, deadline, self.job.endpoint, self.pace.poll)

    def _follow(self) -> tuple[int, str]:
        """Shows the log until the session ends; returns its exit code and the end of its log."""
        offset, tail, line, trouble, told = 0, "", "", None, False
        while True:
            status = None
            try:
                status = session.look(self._remote, offset)
            except RemoteError as error:
                problem = f"Worker 0 can't be reached: {error.output or error}"
            if status is not None:
                offset, tail = status.offset, (tail + status.log)[-8000:]
                line = self._show(line + status.log)
                told = told or self._tell_of_watchdog(status)
                if status.state == "ended" and not status.log:
                    return status.code, tail
                if status.state in ("vanished", "none"):
                    raise SliceLostError("Worker 0 was restarted.")
                if status.quiet > self.pace.silence and status.state == "running":
                    session.stop(self._remote)
                    raise SliceLostError(
                        f"Training has written nothing for {status.quiet / 60:.0f} min; a worker "
                        "may hang, so the slice is replaced."
                    )
            node = self.keeper.api.get(self.keeper.target)
            if node is None or node.state in GONE:
                raise SliceLostError(_lost(node))
            if status is None or not node.ready:
                if node.state != "READY" or node.health != "HEALTHY":
                    problem = _words(None, node)
                if trouble is None:
                    trouble = time.time()
                    self.say(problem)
                elif time.time() - trouble > self.pace.health:
                    raise SliceLostError(f"Too long: {problem}.")
            else:
                trouble = None
            self._stop_if_late()
            if status is None or not status.log:
                self.sleep(self.pace.poll)

    def _show(self, text: str) -> str:
        """Prints whole lines; returns what isn't one yet. Of a progress bar, the last state."""
        *lines, rest = text.split("\n")
        for line in lines:
            self.say.write(f"[worker 0] {line.rstrip(chr(13)).rsplit(chr(13), 1)[-1]}")
        if time.time() - self._reported > self.pace.report:
            self._reported = time.time()
            self.say(f"{self.meter}. {rest.rsplit(chr(13), 1)[-1].strip()}".rstrip())
        return rest

    def _tell_of_watchdog(self, status: session.Status) -> bool:
        if status.watchdog is None:
            return False
        if status.watchdog["problem"]:
            self.say(
                "The slice can't delete itself at its limit, only this machine can: "
                f"{status.watchdog['problem']}. (Its service account needs roles/tpu.admin.)"
            )
        return True

    def _stop_if_late(self, margin: float = 0.0) -> None:
        if self._deadline is not None and time.time() > self._deadline - margin:
            self._save()
            raise PodError(
                f"The time limit of {self.job.max_hours:g} hours (--max-hours) is reached. Run the "
                "same command again to go on from the last checkpoint."
            )

    def _save(self) -> None:
        """Tells training to save and waits for it; what can't be reached can't be told."""
        if self._remote is None:
            return
        try:
            session.stop(self._remote)
            deadline = time.time() + self.pace.save
            while session_state(self._remote) == "running" and time.time() < deadline:
                self.sleep(min(1.0, self.pace.poll))
        except RemoteError as error:
            self.say(f"It couldn't be told: {error}")

    def _raise_if_lost(self, error: RemoteError | None) -> None:
        """Raises SliceLostError if the API says so; it may say it a little late."""
        for _ in range(4):
            node = self.keeper.api.get(self.keeper.target)
            if node is None or not node.ready:
                raise SliceLostError(_lost(node)) from error
            self.sleep(self.pace.poll)

    def _give_back(self) -> None:
        self._remote = None
        self.keeper.discard()
        self.meter.stop()
        guard.lift_guard(self.keeper.target)


def _at(deadline: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(deadline))


def _lost(node: Node | None) -> str:
    if node is None:
        return "The slice is gone."
    return f"The slice is lost ({_words(None, node)})."


def session_state(remote: Remote) -> str:
    """State of the session on worker 0; "none" where nothing of ours was installed."""
    try:
        return session.look(remote, -1).state
    except RemoteError as error:
        if error.code in (1, 2, 127):  # no such file
            return "none"
        raise


def watch_spec(
    target: Target, deadline: float, pace: Pace, endpoint: str | None, token_url: str | None
) -> dict:
    """What the watchdog on the slice is told."""
    base = f"{endpoint or 'https://tpu.googleapis.com'}/v2"
    node, queued = f"{base}/{target.node}", f"{base}/{target.queued_resource}"
    metadata = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts"
    return {
        "deadline": deadline,
        "warning_seconds": pace.save,
        "idle_seconds": pace.silence,
        "poll_seconds": pace.poll,
        "urls": [f"{queued}?force=true", node],
        "check": [node],
        "token_url": token_url or f"{metadata}/default/token",
    }


def training_command(
    workdir: str, config: str, changes: Sequence[str], strategy: str = "tpu"
) -> tuple[str, ...]:
    """Arguments of `vit-keras train`. The user's changes come last, so they count."""
    return (
        "--verbose",
        f"--workdir={workdir}",
        f"--config={config}",
        f"--config.strategy={strategy}",
        *changes,
    )
