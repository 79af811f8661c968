"""One process of test_multi_worker_failure.py: trains as the config in a JSON file says."""

import json
import os
import pathlib
import sys

import ml_collections
import tensorflow as tf

from vit_keras.training import Preempted, train


def main(path):
    request = json.loads(pathlib.Path(path).read_text())
    # Nothing here needs AutoGraph, which would take half of the start-up.
    quick = tf.autograph.experimental.do_not_convert(train)
    try:
        quick(ml_collections.ConfigDict(request["config"]), request["workdir"])
    except Preempted as stopped:
        print(stopped, flush=True)
        os._exit(stopped.code)


if __name__ == "__main__":
    main(sys.argv[1])
