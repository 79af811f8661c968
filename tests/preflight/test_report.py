"""What a report makes of the compiler's figures."""

import re

from vit_keras.preflight.compiling import Compiled
from vit_keras.preflight.report import format_report, make_report
from vit_keras.preflight.workload import Workload
from vit_keras.slices import get_slice
from vit_keras.training import config_defaults

V5E_8 = get_slice("v5e-8")


def _report(step_seconds, **changes):
    config = config_defaults.get_config()
    with config.ignore_type():
        config.update({"batch": 512, "accum_steps": 1, **changes})
    cycles = round(step_seconds * V5E_8.generation.clock)
    compiled = Compiled(fits=True, cycles=cycles, peak=2**30, flops=1e12)
    return make_report(config, V5E_8, Workload(10, 100, 10, 1, None), compiled, None, {})


def test_a_call_takes_its_steps():
    report = _report(0.2, steps_per_loop=None, progress_every=50)
    assert report.step["steps_per_call"] == 50
    # Plus 50 times the microseconds of an all-reduce of nothing.
    assert 10 < report.step["call_seconds"] == 50 * report.step["seconds"] < 10.001
    assert re.search(r"compiled call +50 steps, 10.0 s$", format_report(report), re.MULTILINE)


def test_metrics_in_between_end_a_call():
    assert _report(0.2, steps_per_loop=100, progress_every=20).step["steps_per_call"] == 20
    assert _report(0.2, steps_per_loop=5, progress_every=20).step["steps_per_call"] == 5
    assert _report(0.2, steps_per_loop=None, progress_every=0).step["steps_per_call"] == 10


def test_a_call_longer_than_the_notice_of_a_preemption():
    text = format_report(_report(1.0, progress_every=50))
    advised = int(re.search(r"better --config.steps_per_loop=(\d+)", text)[1])
    assert _report(1.0, progress_every=50, steps_per_loop=advised).step["call_seconds"] < 30


def test_a_call_too_short_to_be_worth_it():
    text = format_report(_report(0.01, progress_every=10))
    advised = int(re.search(r"short; --config.progress_every=(\d+)", text)[1])
    assert 1 < _report(0.01, progress_every=advised).step["call_seconds"] < 30
