"""Starts trainings in processes of their own, for test_killed.py.

TensorFlow takes seconds to import, so this process imports it once, never uses it, and forks: each
line on stdin is a config (JSON) and a work directory, each answer the number of the process that
trains. When that process ends, its exit status is the next line.
"""

import json
import os
import sys

import ml_collections
import tensorflow as tf

import vit_keras.training
from vit_keras.training import train


def main():
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            os.dup2(os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            code = 1
            try:
                # Nothing here needs AutoGraph, which would take half of the start-up.
                quick = tf.autograph.experimental.do_not_convert(train)
                quick(ml_collections.ConfigDict(request["config"]), request["workdir"])
                code = 0
            except vit_keras.training.Preempted as stopped:
                code = stopped.code
            except BaseException:
                import traceback

                traceback.print_exc()
            os._exit(code)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
