"""Every TPU slice that can be rented: the one table that everything about slices derives from.

Sources. Peak, matrix units, memory and its rate, shapes: Google's pages of the generations
(cloud.google.com/tpu/docs/v3, v4, v5e, v5p, v6e). Where editions of a page differ, the comment at
the figure says so. Links, v4 and later, one direction: the JAX authors' "How to Scale Your Model"
(jax-ml.github.io/scaling-book/tpus); Google's pages give a tenth more (the bandwidth of a chip over
its ports: 50e9 for v5e, 100e9 for v5p and v6e). From papers that could not be consulted again, and
so unconfirmed: all of v2 but its shapes, and the links of v3 (Jouppi et al. 2020, "A
domain-specific supercomputer for training deep neural networks"; Norrie et al. 2021).

Hosts are virtual machines: a slice of more than 8 chips of v5e or v6e has 4 chips in each (v6e's
page; ct5lp-hightpu-4t), although its racks put 8 chips into a machine, which v5e's page counts.

Runtime images: cloud.google.com/tpu/docs/runtimes gives the form of the names,
docs/supported-tpu-versions those up to 2.16.1, Google's samples 2.17.0; the endings of 2.18.0 come
from users' scripts. v6e: the one report found says that TensorFlow 2.16.1 to 2.19 failed there.

The clock follows from the peak: peak / (matrix units * 2 * side²).
"""

from __future__ import annotations

import dataclasses
import math
import re

from vit_keras.names import unknown_name

# TensorFlow versions of which a runtime image was seen in use; the API lists those of a zone.
RUNTIME_TENSORFLOW = ("2.15.0", "2.15.1", "2.16.1", "2.17.0", "2.18.0")


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
      base_image: runtime image without any TensorFlow.
      image_family: what images' names end in from TensorFlow 2.18 on, which has two builds.
      libtpu_init_args: compiler options of a run; they become LIBTPU_INIT_ARGS on its hosts.
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
    base_image: str
    image_family: str
    compiler_options: tuple[tuple[str, str], ...] = ()
    libtpu_init_args: tuple[str, ...] = ()

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

_OLDER, _NEWER = "-v5p-and-below", "-v5e-and-v6"

GENERATIONS = {
    generation.name: generation
    for generation in (
        Generation(
            name="v2",
            prefix="v2",
            counts="cores",
            cores_per_chip=2,
            replicas_per_chip=2,
            memory=16 * _GIB,
            peak=46e12,
            matrix_units=2,
            matrix_unit_side=128,
            memory_rate=700e9,
            link_rate=62e9,  # 496 Gbit/s
            chips_per_host=4,
            largest_host=4,
            wraps_at=4,
            shapes=_V2_V3,
            base_image="tpu-ubuntu2204-base",
            image_family=_OLDER,
        ),
        Generation(
            name="v3",
            prefix="v3",
            counts="cores",
            cores_per_chip=2,
            replicas_per_chip=2,
            memory=32 * _GIB,
            peak=123e12,
            matrix_units=4,
            matrix_unit_side=128,
            memory_rate=900e9,
            link_rate=82e9,  # 656 Gbit/s
            chips_per_host=4,
            largest_host=4,
            wraps_at=4,
            shapes=(*_V2_V3, (16, 32), (32, 32)),
            base_image="tpu-ubuntu2204-base",
            image_family=_OLDER,
        ),
        Generation(
            name="v4",
            prefix="v4",
            counts="cores",
            cores_per_chip=2,
            replicas_per_chip=1,
            memory=32 * _GIB,
            peak=275e12,
            matrix_units=8,
            matrix_unit_side=128,
            memory_rate=1200e9,
            link_rate=45e9,
            chips_per_host=4,
            largest_host=4,
            wraps_at=4,
            shapes=_CUBES,
            base_image="tpu-ubuntu2204-base",
            image_family=_OLDER,
            compiler_options=(("chip_config_name", "megacore"),),
        ),
        Generation(
            name="v5e",
            prefix="v5litepod",
            counts="chips",
            cores_per_chip=1,
            replicas_per_chip=1,
            memory=16 * _GIB,
            peak=197e12,
            matrix_units=4,
            matrix_unit_side=128,
            memory_rate=819e9,
            link_rate=45e9,
            chips_per_host=4,
            largest_host=8,
            wraps_at=16,
            shapes=((1, 1), (2, 2), (2, 4), *_PLANE[1:]),
            base_image="v2-alpha-tpuv5-lite",
            image_family=_NEWER,
        ),
        Generation(
            name="v5p",
            prefix="v5p",
            counts="cores",
            cores_per_chip=2,
            replicas_per_chip=1,
            memory=95 * _GIB,
            peak=459e12,
            matrix_units=8,
            matrix_unit_side=128,
            memory_rate=2765e9,
            link_rate=90e9,
            chips_per_host=4,
            largest_host=4,
            wraps_at=4,
            shapes=(*_CUBES, (16, 16, 16), (16, 16, 24)),
            base_image="v2-alpha-tpuv5",
            image_family=_OLDER,
        ),
        Generation(
            name="v6e",
            prefix="v6e",
            counts="chips",
            cores_per_chip=1,
            replicas_per_chip=1,
            memory=32 * _GIB,
            peak=918e12,
            # The page once said 4 and now says 2; 2 would mean a clock of 3.5 GHz.
            matrix_units=4,
            matrix_unit_side=256,
            memory_rate=1600e9,  # earlier editions: 1640e9
            link_rate=90e9,
            chips_per_host=4,
            largest_host=8,
            wraps_at=16,
            shapes=((1, 1), (2, 2), (2, 4), *_PLANE[1:]),
            base_image="v2-alpha-tpuv6e",
            image_family=_NEWER,
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
        """The runtime image for a TensorFlow version of `RUNTIME_TENSORFLOW` (PJRT build)."""
        if tensorflow not in RUNTIME_TENSORFLOW:
            raise unknown_name("tensorflow", tensorflow, RUNTIME_TENSORFLOW)
        pod = "-pod" if self.hosts > 1 else ""
        family = self.generation.image_family if tensorflow == "2.18.0" else ""
        return f"tpu-vm-tf-{tensorflow}{pod}-pjrt{family}"

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
