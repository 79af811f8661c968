"""Real contenders, each in its own process, at the smallest size."""

import dataclasses
import re
import sys

import bench_cpu
import pytest

SMALL = bench_cpu.Workload("train", "Ti/16", 1, "float32", 1.1)


@pytest.mark.slow
def test_contenders_take_turns():
    contenders = dict.fromkeys(("vit_keras", "vit_keras_engine"), sys.executable)
    measured = bench_cpu.measure(SMALL, contenders, rounds=2)
    assert [contender.name for contender in measured] == list(contenders)
    assert measured[0].parameters == measured[1].parameters > 5_000_000
    for contender in measured:
        assert len(contender.times) == 2
        assert all(wall > 0 and cpu > 0 for wall, cpu in contender.times)
    lines = bench_cpu.format_table(SMALL, measured).splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"\| train, .* \| \*\*vit_keras.*\*\* \| [\d.]+ .*", x) for x in lines)


@pytest.mark.slow
def test_a_contender_that_fails_says_why():
    workload = dataclasses.replace(SMALL, task="inference")
    with pytest.raises(ValueError, match=r"(?s)vit_keras_engine failed.*expected 'train'"):
        bench_cpu.Contender("vit_keras_engine", workload, sys.executable)


@pytest.mark.parametrize(
    "arguments", [["--peers", "keras_hubb"], ["--peer_python", "hub=python"], ["--rounds", "1"]]
)
def test_wrong_arguments_are_refused(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_cpu.py", *arguments])
    with pytest.raises(SystemExit):
        bench_cpu.main()
    assert re.search("expected (some of keras_hub|at least 2)", capsys.readouterr().err)


def test_ratios_are_of_the_same_round():
    ours, peer = (object.__new__(bench_cpu.Contender) for _ in range(2))
    for contender, name, times in (
        (ours, "vit_keras", [(1.0, 2.0), (2.0, 4.0), (4.0, 8.0)]),
        (peer, "keras_hub", [(2.0, 2.0), (4.0, 4.0), (8.0, 8.0)]),
    ):
        contender.name, contender.version, contender.times = name, "1", times
    line = bench_cpu.format_table(SMALL, [ours, peer]).splitlines()[1]
    assert "| 2.000 (2.00 to 2.00) | 1.000 (1.00 to 1.00) | 1.1 |" in line
