"""Every TPU slice that can be rented: the one table that everything about slices derives from.

Peak, memory and links are meant to be Google's published figures
(cloud.google.com/tpu/docs/system-architecture and the pages of the generations; v2 and v3 links:
Norrie et al. 2021, "The design process for Google's training chips"). Only v5p's were compared with
their page; the others were written from memory and are to be checked, as are the hosts of v5e and
v6e slices of more than 8 chips. The clock follows from the peak: peak / (matrix units * 2 * side²).
"""

from __future__ import annotations

import dataclasses
import math
import re

from vit_keras.names import unknown_name

# TensorFlow versions for which Google publishes runtime images.
RUNTIME_TENSORFLOW = ("2.15.0", "2.15.1", "2.16.1", "2.17.0", "2.17.1", "2.18.0")


@dataclasses.dataclass(frozen=True)
class Generation:
    """What holds for every slice of a generation.

    Attributes:
      name: as in topology names, such as "v5e".
      prefix: of accelerator types, such as "v5litepod".
      counts: "cores" or "chips": what the number in an accelerator type counts.
      cores_per_chip: TensorCores.
      replicas_per_chip: 2 where each core runs a replica of its own; 1 where one program has the
        whole chip.
      memory: bytes of HBM a chip.
      peak: bfloat16 FLOP/s of a chip.
      matrix_units: of a chip, all cores.
      matrix_unit_side: rows (and columns) of a unit.
      memory_rate: bytes/s of a chip's HBM.
      link_rate: bytes/s of one link in one direction.
      chips_per_host: in slices of several hosts.
      largest_host: most chips in a slice of one host.
      wraps_at: chips along an axis from which on its ends are linked (a torus).
      shapes: chips along each axis, of the slices there are.
      compiler_options: for libtpu's topology description.
      image_api: ending of the runtime images' names.
    """

    name: str
    prefix: str
    counts: str
    cores_per_chip: int
    replicas_per_chip: int
    memory: int
    peak: float
    matrix_units: int
    matrix_unit_side: int
    memory_rate: float
    link_rate: float
    chips_per_host: int
    largest_host: int
    wraps_at: int
    shapes: tuple[tuple[int, ...], ...]
    compiler_options: tuple[tuple[str, str], ...] = ()
    image_api: str = ""

    @property
    def clock(self) -> float:
        """Cycles/s."""
        return self.peak / (self.matrix_units * 2 * self.matrix_unit_side**2)


_GIB = 1024**3
_PLANE = ((2, 2), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
_V2_V3 = ((2, 2), (4, 4), (8, 8), (8, 16), (16, 16))
_CUBES = (
    (2, 2, 1),
    (2, 2, 2),
    (2, 2, 4),
    (2, 4, 4),
    (4, 4, 4),
    (4, 4, 8),
    (4, 8, 8),
    (8, 8, 8),
    (8, 8, 16),
    (8, 16, 16),
)

GENERATIONS = {
    generation.name: generation
    for generation in (
        Generation(
            "v2", "v2", "cores", 2, 2, 16 * _GIB, 45e12, 2, 128, 700e9, 62e9, 4, 4, 4, _V2_V3
        ),
        Generation(
            "v3",
            "v3",
            "cores",
            2,
            2,
            32 * _GIB,
            123e12,
            4,
            128,
            900e9,
            82e9,
            4,
            4,
            4,
            (*_V2_V3, (16, 32), (32, 32)),
        ),
        Generation(
            "v4",
            "v4",
            "cores",
            2,
            1,
            32 * _GIB,
            275e12,
            8,
            128,
            1228e9,
            45e9,
            4,
            4,
            4,
            _CUBES,
            (("chip_config_name", "megacore"),),
        ),
        Generation(
            "v5e",
            "v5litepod",
            "chips",
            1,
            1,
            16 * _GIB,
            197e12,
            4,
            128,
            819e9,
            45e9,
            4,
            8,
            16,
            ((1, 1), (2, 2), (2, 4), *_PLANE[1:]),
            image_api="-pjrt",
        ),
        Generation(
            "v5p",
            "v5p",
            "cores",
            2,
            1,
            95 * _GIB,
            459e12,
            8,
            128,
            2765e9,
            90e9,
            4,
            4,
            4,
            (*_CUBES, (16, 16, 16), (16, 16, 24)),
            image_api="-pjrt",
        ),
        Generation(
            "v6e",
            "v6e",
            "chips",
            1,
            1,
            32 * _GIB,
            918e12,
            4,
            256,
            1640e9,
            90e9,
            4,
            8,
            16,
            ((1, 1), (2, 2), (2, 4), *_PLANE[1:]),
            image_api="-pjrt",
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """One slice.

    Attributes:
      name: the accelerator type, such as "v5litepod-8".
      generation: its facts.
      shape: chips along each axis.
    """

    name: str
    generation: Generation
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """How many chips."""
        return math.prod(self.shape)

    @property
    def cores(self) -> int:
        """How many TensorCores."""
        return self.chips * self.generation.cores_per_chip

    @property
    def replicas(self) -> int:
        """How many copies of the program run: the batch is divided by it."""
        return self.chips * self.generation.replicas_per_chip

    @property
    def hosts(self) -> int:
        """How many machines feed it."""
        if self.chips <= self.generation.largest_host:
            return 1
        return self.chips // self.generation.chips_per_host

    @property
    def topology(self) -> str:
        """The name that the compiler knows it by, such as "v5e:2x4"."""
        return f"{self.generation.name}:{'x'.join(map(str, self.shape))}"

    @property
    def topology_options(self) -> dict[str, object]:
        """What the compiler must know besides the name."""
        options: dict[str, object] = dict(self.generation.compiler_options)
        if self.chips == 1:
            options["chips_per_host_bounds"] = [1, 1, 1]
        return options

    @property
    def memory_per_replica(self) -> int:
        """Bytes of HBM."""
        return self.generation.memory // self.generation.replicas_per_chip

    @property
    def peak_per_replica(self) -> float:
        """bfloat16 FLOP/s."""
        return self.generation.peak / self.generation.replicas_per_chip

    def runtime_image(self, tensorflow: str) -> str:
        """The runtime image for a TensorFlow version of `RUNTIME_TENSORFLOW`."""
        if tensorflow not in RUNTIME_TENSORFLOW:
            raise unknown_name("tensorflow", tensorflow, RUNTIME_TENSORFLOW)
        pod = "-pod" if self.hosts > 1 else ""
        return f"tpu-vm-tf-{tensorflow}{pod}{self.generation.image_api}"

    def all_reduce_seconds(self, num_bytes: float) -> float:
        """Modelled time to sum `num_bytes` a chip over the slice.

        Reduce-scatter and all-gather in rings along all axes at once, each moving
        `(n - 1) / n` of the bytes. An axis whose ends are linked serves both directions; a line
        half of that. Plus a microsecond for each hop of the longest path, there and back. Neither
        overlap with computation nor waiting for stragglers is in it.
        """
        generation = self.generation
        directions = sum(
            2 if length >= generation.wraps_at else 1 for length in self.shape if length > 1
        )
        if not directions:
            return 0.0
        moved = 2 * num_bytes * (self.chips - 1) / self.chips
        hops = sum(
            length // 2 if length >= generation.wraps_at else length - 1 for length in self.shape
        )
        return moved / (directions * generation.link_rate) + 2 * hops * 1e-6


def _make(generation: Generation, shape: tuple[int, ...]) -> Slice:
    chips = math.prod(shape)
    number = chips * generation.cores_per_chip if generation.counts == "cores" else chips
    return Slice(f"{generation.prefix}-{number}", generation, shape)


SLICES = {
    found.name: found
    for generation in GENERATIONS.values()
    for found in (_make(generation, shape) for shape in generation.shapes)
}
_BY_TOPOLOGY = {found.topology: found for found in SLICES.values()}


def get_slice(name: str) -> Slice:
    """The slice called `name`.

    Args:
      name: an accelerator type ("v5litepod-8", "v3-128"), its short form ("v5e-8"), or a topology
        ("v5e:2x4", "v5e-2x4").

    Raises:
      ValueError: for any other name, with the nearest that exists.
    """
    name = str(name).strip().lower()
    if name in SLICES:
        return SLICES[name]
    match = re.fullmatch(r"(v\d\w*)[:\-_ ](\d+(?:x\d+)*)", name)
    if match:
        generation, rest = {"v5litepod": "v5e"}.get(match[1], match[1]), match[2]
        if f"{generation}:{rest}" in _BY_TOPOLOGY:
            return _BY_TOPOLOGY[f"{generation}:{rest}"]
        if generation in GENERATIONS:
            full = f"{GENERATIONS[generation].prefix}-{rest}"
            if full in SLICES:
                return SLICES[full]
            valid = [n for n, s in SLICES.items() if s.generation.name == generation]
            raise unknown_name("slice", name, valid)
    raise unknown_name("slice", name, SLICES)
