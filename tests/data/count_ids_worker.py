"""Run by test_evaluation in processes of its own: which ids does evaluation see here?"""

import json
import os
import sys

import tensorflow as tf


def main(folder: str, output: str, replicas: int) -> None:
    if "TF_CONFIG" in os.environ:
        strategies = {replicas: tf.distribute.MultiWorkerMirroredStrategy()}
    else:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * replicas
        )
        counts = [n for n in (1, 2, 4) if n <= replicas]
        strategies = {
            n: tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(n)]) for n in counts
        }
    # Only now: a multi-worker strategy must come before anything that touches TensorFlow's runtime.
    from vit_keras import data

    source = data.get_source(folder)
    result = {}
    for count, strategy in strategies.items():
        dataset = strategy.distribute_datasets_from_function(
            lambda context: data.eval_dataset(
                source, "test", "decode|resize(8)", 8, input_context=context
            )
        )
        ids, steps, seen_by = [], 0, set()
        for batch in dataset:
            steps += 1
            parts = zip(
                strategy.experimental_local_results(batch["id"]),
                strategy.experimental_local_results(batch["mask"]),
                strict=True,
            )
            for replica, (part, mask) in enumerate(parts):
                kept = tf.boolean_mask(part, mask > 0).numpy().tolist()
                ids += kept
                if kept:
                    seen_by.add(replica)
        result[count] = {"ids": ids, "steps": steps, "replicas_with_data": len(seen_by)}
    with open(output, "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
