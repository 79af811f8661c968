"""Costs that the TPU compiler wrote into its optimised program."""

from __future__ import annotations

import collections
import dataclasses
import math
import re

_BYTES = {"f64": 8, "s64": 8, "u64": 8, "f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2}
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) (?:\([^{]*\) -> .*)?\{$")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_BODY = re.compile(r"\bwhile\(.*?body=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(r"(?:to_apply|true_computation|false_computation|calls)=%?([\w.\-]+)")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_ALL_REDUCE = re.compile(r"= (.*?) all-reduce(?:-start)?\(")
_ARRAY = re.compile(r"\b(f64|s64|u64|f32|s32|u32|bf16|f16)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class HloCosts:
    """What one execution of a program costs.

    Attributes:
      cycles: the compiler's estimates of all operations, added.
      all_reduce_bytes: of the tensors that are summed over replicas.
      operations: (name in the model's terms, cycles), the costliest first.
    """

    cycles: int
    all_reduce_bytes: int
    operations: list[tuple[str, int]]


def read_costs(text: str, loop_trips: int = 1) -> HloCosts:
    """Reads optimised HLO as the TPU compiler prints it; loops count as often as they run.

    Args:
      text: the program.
      loop_trips: how often a loop runs where the compiler doesn't say: it drops the count when it
        rewrites the loop over micro-batches.
    """
    computations = _computations(text)
    times = _times(computations, loop_trips)
    cycles, all_reduce_bytes = 0, 0
    by_name: collections.Counter[str] = collections.Counter()
    for name, lines in computations.items():
        for line in lines:
            if found := _CYCLES.search(line):
                cost = int(found[1]) * times[name]
                cycles += cost
                by_name[_layer_name(line)] += cost
            if found := _ALL_REDUCE.search(line):
                all_reduce_bytes += times[name] * _size(found[1])
    return HloCosts(cycles, all_reduce_bytes, by_name.most_common())


def _computations(text: str) -> dict[str, list[str]]:
    computations: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith(" ") and "=" not in line.split("(")[0]:
            found = re.match(r"(?:ENTRY )?%?([\w.\-]+)", line.strip())
            lines = computations.setdefault(found[1], []) if found else None
        elif line.startswith("}"):
            lines = None
        elif lines is not None:
            lines.append(line)
    return computations


def _times(computations: dict[str, list[str]], loop_trips: int) -> collections.Counter[str]:
    """How often each computation runs: bodies of loops as often as the loop does."""
    inside: dict[str, tuple[str, int]] = {}
    for name, lines in computations.items():
        for line in lines:
            if body := _BODY.search(line):
                trips = _TRIPS.search(line)
                inside[body[1]] = (name, int(trips[1]) if trips else loop_trips)
            for called in _CALLED.findall(line):
                inside.setdefault(called, (name, 1))
    times: collections.Counter[str] = collections.Counter()
    for name in computations:
        count, outer, seen = 1, name, set()
        while outer in inside and outer not in seen:
            seen.add(outer)
            outer, trips = inside[outer]
            count *= trips
        times[name] = count
    return times


def _layer_name(line: str) -> str:
    found = _OP_NAME.search(line)
    if not found:
        return "without a name (copies and the like)"
    name = found[1]
    backward = "gradient_tape/" in name
    parts = [part for part in name.replace("gradient_tape/", "").split("/") if part]
    parts = [_plain(part) for part in parts]
    return "/".join(parts[-4:]) + (" (backward)" if backward else "")


def _plain(scope: str) -> str:
    """A scope's name without the number that Keras 3 adds: attention_1, encoderblock_3_1."""
    if scope.startswith("einsum"):  # there the number says which product it is
        return scope
    block = re.fullmatch(r"(\w*block_\d+)(?:_\d+)?", scope, re.IGNORECASE)
    return block[1] if block else re.sub(r"_\d+$", "", scope)


def _size(shapes: str) -> int:
    return sum(
        _BYTES[dtype] * math.prod(int(n) for n in dims.split(",") if n)
        for dtype, dims in _ARRAY.findall(shapes)
    )
