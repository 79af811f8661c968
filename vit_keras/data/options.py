"""tf.data's options, the same for training and evaluation."""

import os

import tensorflow as tf


def pipeline_options(num_threads: int | None) -> tf.data.Options:
    """A private thread pool, fixed order, and no sharding but our own."""
    options = tf.data.Options()
    options.deterministic = True
    # Shared with nothing else, so that input and the host's own computation don't starve each
    # other; each thread works on one chunk of examples.
    options.threading.private_threadpool_size = num_threads or os.cpu_count() or 1
    options.threading.max_intra_op_parallelism = 1
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
