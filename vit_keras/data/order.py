"""Which example comes when: a pure function of the seed, so that every host can compute its part.

Training never ends: example number q of the run (0-based, over all hosts) belongs to global batch
q // batch_size. Input pipeline i of n takes the i-th of n equal parts of each global batch. Nothing
here depends on n but that slicing, so batch k holds the same examples on any number of hosts.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from vit_keras.data.sources import Records

# A lane is a reader of its own; a pod has at most this many hosts that read disjoint files.
_MAX_LANES = 128


@dataclasses.dataclass(frozen=True)
class Slice:
    """The part of every global batch that one input pipeline makes."""

    batch_size: int
    num_pipelines: int
    pipeline: int
    replica_batch_size: int

    @property
    def size(self) -> int:
        """Examples of a global batch that this pipeline makes, for all its replicas."""
        return self.batch_size // self.num_pipelines

    @property
    def replicas(self) -> int:
        """Replicas that this pipeline feeds."""
        return self.size // self.replica_batch_size

    def position(self, local: tf.Tensor) -> tf.Tensor:
        """Number in the run of this pipeline's `local`-th example."""
        return local // self.size * self.batch_size + self.pipeline * self.size + local % self.size


def slice_of(batch_size: int, input_context: tf.distribute.InputContext | None) -> Slice:
    """The slice that `input_context` asks for; everything, as one batch, if it is None.

    Raises:
        ValueError: if the global batch cannot be divided evenly.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}.")
    if input_context is None:
        return Slice(batch_size, 1, 0, batch_size)
    replicas = input_context.num_replicas_in_sync
    pipelines = input_context.num_input_pipelines
    if batch_size % replicas or replicas % pipelines:
        raise ValueError(
            f"batch_size {batch_size} must be a multiple of the {replicas} replicas, and these of "
            f"the {pipelines} input pipelines."
        )
    return Slice(batch_size, pipelines, input_context.input_pipeline_id, batch_size // replicas)


def shuffled_index(
    position: tf.Tensor, seed: int | tf.Tensor, epoch: tf.Tensor, size: int | tf.Tensor
) -> tf.Tensor:
    """Entry `position` of a permutation of range(size) that belongs to (seed, epoch).

    Costs neither memory nor time that grows with `size`. All are int64 scalars.
    """
    seeds = tf.stack([tf.cast(seed, tf.int64), tf.cast(epoch, tf.int64)])
    last = tf.cast(size, tf.int64) - 1
    return tf.random.experimental.index_shuffle(tf.cast(position, tf.int64), seeds, last)


@dataclasses.dataclass(frozen=True)
class Lanes:
    """Fixed equal shares of a split that are read, shuffled and repeated each on its own.

    Files can be read fast only from front to back. So the split is cut into `count` runs of
    examples; every global batch takes `chunk` consecutive examples from each lane; and a host needs
    to read only the lanes whose chunks fall into its slice. `count` depends on the data and the
    batch size alone, never on the hosts.
    """

    count: int
    num_examples: int
    batch_size: int

    @property
    def chunk(self) -> int:
        """Examples of each lane in a global batch."""
        return self.batch_size // self.count

    @property
    def bounds(self) -> np.ndarray:
        """int64 `(count + 1,)`: lane l holds examples bounds[l] to bounds[l + 1]."""
        return np.arange(self.count + 1, dtype=np.int64) * self.num_examples // self.count

    def of(self, part: Slice) -> range | None:
        """The lanes that make up exactly this slice; None if slices cut through lanes."""
        if self.count % part.num_pipelines:
            return None
        share = self.count // part.num_pipelines
        return range(part.pipeline * share, (part.pipeline + 1) * share)


def lanes_for(records: Records, batch_size: int, max_lanes: int = _MAX_LANES) -> Lanes:
    """As many lanes as files and batch size allow, a power of two."""
    limit = max(1, min(max_lanes, records.num_files, records.num_examples))
    count = math.gcd(batch_size, 1 << (limit.bit_length() - 1))
    return Lanes(count, records.num_examples, batch_size)
