"""From what the compiler found to what a user wants to know."""

from __future__ import annotations

import dataclasses
from typing import Any

from vit_keras.preflight.compiling import Compiled
from vit_keras.preflight.workload import Workload
from vit_keras.slices import Slice

CAVEAT = (
    "A compiler's estimate, never yet checked on hardware by us. It prices each chip's own "
    "program: no waiting for input or other chips; the all-reduce is modelled beside it, not "
    "overlapped."
)

# Seconds that Google gives a spot or preemptible machine between SIGTERM and its end.
PREEMPTION_NOTICE = 30
# Seconds of a compiled call from which on what the host does between calls hardly counts.
SHORT_CALL = 1


@dataclasses.dataclass(frozen=True)
class Report:
    """The outcome of a preflight; times in seconds, memory in bytes.

    Attributes:
      slice: accelerator type.
      topology: as the compiler knows it.
      chips: of the slice.
      hosts: of the slice.
      replicas: programs that share a batch.
      global_batch: images an update.
      batch_per_replica: images of it that each replica gets.
      accum_steps: micro-batches of that.
      fits: whether training and evaluation fit.
      memory: a replica's (that of a chip, or on v2 and v3 of a core): available, arguments,
        temporaries, peak and spare of the training step, `eval_peak`. What doesn't fit has
        `needed` instead of peak and parts.
      step: None where it doesn't fit; otherwise flops and bytes a replica, cycles, compute_seconds,
        all_reduce_bytes, all_reduce_seconds, seconds, images_per_s_per_chip, images_per_s,
        matrix_unit_share, weak_scaling_efficiency, host_images_per_s; steps_per_call and
        call_seconds of one compiled call, which a SIGTERM waits for.
      run: total_steps, hours, chip_hours, eval_hours of the whole config; None as above.
      operations: (layer and operation, cycles, share), the ten costliest of the training step.
      versions: of what compiled it.
      caveat: what all of this is.
    """

    slice: str
    topology: str
    chips: int
    hosts: int
    replicas: int
    global_batch: int
    batch_per_replica: int
    accum_steps: int
    fits: bool
    memory: dict[str, int]
    step: dict[str, float] | None
    run: dict[str, float] | None
    operations: list[tuple[str, int, float]]
    versions: dict[str, str]
    caveat: str = CAVEAT

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def make_report(
    config: Any,
    target: Slice,
    workload: Workload,
    train: Compiled,
    evaluate: Compiled | None,
    versions: dict[str, str],
) -> Report:
    """Puts the figures together; `config` is complete."""
    fits = train.fits and (evaluate is None or evaluate.fits)
    step = _step(config, target, train) if train.fits else None
    run = None
    if step is not None and evaluate is not None and evaluate.fits:
        run = _run(config, target, workload, step["seconds"], evaluate)
    cycles = train.cycles or 1
    return Report(
        slice=target.name,
        topology=target.topology,
        chips=target.chips,
        hosts=target.hosts,
        replicas=target.replicas,
        global_batch=config.batch,
        batch_per_replica=config.batch // target.replicas,
        accum_steps=config.accum_steps,
        fits=fits,
        memory=_memory(target, train, evaluate),
        step=step,
        run=run,
        operations=[(name, cost, cost / cycles) for name, cost in train.operations[:10]],
        versions=versions,
    )


def _memory(target: Slice, train: Compiled, evaluate: Compiled | None) -> dict[str, int]:
    available = train.memory_limit or target.memory_per_replica
    if not train.fits:
        return {
            "available": available,
            "needed": train.memory_needed,
            "missing": train.memory_needed - available,
        }
    memory = {
        "available": available,
        "arguments": train.arguments,
        "temporaries": train.temporaries,
        "peak": train.peak,
        "spare": available - train.peak,
    }
    if evaluate is not None:
        memory["eval_peak"] = evaluate.peak if evaluate.fits else evaluate.memory_needed
    return memory


def _step(config: Any, target: Slice, train: Compiled) -> dict[str, float]:
    compute = train.cycles / target.generation.clock
    all_reduce = target.all_reduce_seconds(train.all_reduce_bytes)
    seconds = compute + all_reduce
    steps_per_call = min(filter(None, (config.steps_per_loop, config.progress_every)), default=10)
    return {
        "flops": train.flops,
        "bytes_accessed": train.bytes_accessed,
        "cycles": train.cycles,
        "compute_seconds": compute,
        "all_reduce_bytes": train.all_reduce_bytes,
        "all_reduce_seconds": all_reduce,
        "seconds": seconds,
        "images_per_s": config.batch / seconds,
        "images_per_s_per_chip": config.batch / seconds / target.chips,
        "matrix_unit_share": train.flops / seconds / target.peak_per_replica,
        "weak_scaling_efficiency": compute / seconds,
        "host_images_per_s": config.batch / seconds / target.hosts,
        "steps_per_call": steps_per_call,
        "call_seconds": steps_per_call * seconds,
    }


def _run(
    config: Any, target: Slice, workload: Workload, step_seconds: float, evaluate: Compiled
) -> dict[str, float]:
    eval_seconds = 0.0
    if workload.eval_examples:
        batches = -(-workload.eval_examples // config.batch_eval)
        batch_seconds = evaluate.cycles / target.generation.clock
        eval_seconds = workload.evaluations * batches * batch_seconds
    hours = (workload.total_steps * step_seconds + eval_seconds) / 3600
    return {
        "total_steps": workload.total_steps,
        "hours": hours,
        "eval_hours": eval_seconds / 3600,
        "chip_hours": hours * target.chips,
    }


def format_report(report: Report) -> str:
    """The report as text for a terminal."""
    memory, step, run = report.memory, report.step, report.run
    unit = "core" if report.replicas > report.chips else "chip"
    lines = [
        f"{report.slice} ({report.topology}): {_count(report.chips, 'chip')}, "
        f"{_count(report.hosts, 'host')}, {_count(report.replicas, 'replica')}",
        f"batch {report.global_batch}: {report.batch_per_replica} a {unit}"
        + (f" in {report.accum_steps} micro-batches" if report.accum_steps > 1 else ""),
        "",
    ]
    if step is None:
        lines += [
            f"DOES NOT FIT: the training step needs {_gib(memory['needed'])} a {unit}; "
            f"{_gib(memory['available'])} are available, {_gib(memory['missing'])} too few.",
            "--suggest searches accumulation, rematerialisation, momentum dtype and batch size for "
            "the fastest setting that fits.",
        ]
        return "\n".join([*lines, "", report.caveat])
    verdict = "FITS" if report.fits else "TRAINING FITS, EVALUATION DOES NOT (config.batch_eval)"
    lines += [
        f"{verdict}: peak {_gib(memory['peak'])} of {_gib(memory['available'])} a {unit} "
        f"(arguments {_gib(memory['arguments'])}, temporaries {_gib(memory['temporaries'])}; "
        f"evaluation {_gib(memory.get('eval_peak', 0))})",
        "",
        f"step              {step['seconds'] * 1e3:.1f} ms = compute "
        f"{step['compute_seconds'] * 1e3:.1f} ms ({step['cycles'] / 1e6:.1f} million cycles) + "
        f"all-reduce {step['all_reduce_seconds'] * 1e3:.2f} ms "
        f"({step['all_reduce_bytes'] / 1e6:.0f} MB, modelled)",
        f"images/s          {step['images_per_s']:.0f}; a chip "
        f"{step['images_per_s_per_chip']:.0f}; a host must deliver "
        f"{step['host_images_per_s']:.0f}",
        f"matrix units      {100 * step['matrix_unit_share']:.1f} % of their peak "
        f"({step['flops']:.3g} FLOP, {step['bytes_accessed']:.3g} bytes a {unit})",
        f"weak scaling      {100 * step['weak_scaling_efficiency']:.1f} %",
        f"compiled call     {step['steps_per_call']} steps, {step['call_seconds']:.1f} s"
        + _call_advice(step["seconds"], step["call_seconds"]),
    ]
    if run is not None:
        lines.append(
            f"whole run         {run['hours']:.3g} h, {run['chip_hours']:.3g} chip-hours for "
            f"{run['total_steps']} steps (of it evaluation {run['eval_hours']:.2g} h)"
        )
    lines += ["", "costliest operations (million cycles, share):"]
    lines += [
        f"  {cycles / 1e6:8.3f}  {100 * share:4.1f} %  {name}"
        for name, cycles, share in report.operations
    ]
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return "\n".join([*lines, "", f"Compiled with {versions}.", report.caveat])


def _call_advice(step_seconds: float, call_seconds: float) -> str:
    """What to set `steps_per_loop` to, where a call is too long or too short."""
    if call_seconds > PREEMPTION_NOTICE:
        fitting = max(1, int(PREEMPTION_NOTICE / 2 / step_seconds))
        return (
            f": longer than the {PREEMPTION_NOTICE} s between a preemption's notice and its end; "
            f"better --config.steps_per_loop={fitting}"
        )
    if call_seconds < SHORT_CALL:
        fitting = int(SHORT_CALL * 2 / step_seconds)
        return f": short; --config.progress_every={fitting} would interrupt the chips less often"
    return ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _gib(size: float) -> str:
    return f"{size / 1024**3:.2f} GiB"
