"""A process of test_tpu_resolver.py: each argument is a TPU; prints what came of it, one a line.

`server` stands for a TensorFlow server that this process starts itself, which has no TPU.
"""

import json
import os
import sys
import urllib.request

import tensorflow as tf

from vit_keras.training import get_strategy
from vit_keras.training.tpu import resolve, wait_until_reachable


def credentials():
    """A token, where the package that looks names up is installed."""
    try:
        from oauth2client.client import AccessTokenCredentials
    except ImportError:
        return "default"
    return AccessTokenCredentials("a-token", "tests")


def outcome(tpu):
    if tpu == "server":
        server = tf.distribute.Server({"worker": ["127.0.0.1:0"]}, "worker", 0)
        tpu = server.target
        wait_until_reachable([tpu.removeprefix("grpc://")])
    elif tpu != "local":
        return resolve(tpu, credentials()).cluster_spec().as_dict()
    return type(get_strategy("tpu", tpu=tpu)).__name__


def main():
    # The metadata server's address is fixed. The other library that speaks HTTP here would want a
    # package of its own for a proxy, so it isn't said in the environment.
    proxy = urllib.request.ProxyHandler({"http": os.environ["METADATA_PROXY"]})
    urllib.request.install_opener(urllib.request.build_opener(proxy))
    for tpu in sys.argv[1:]:
        try:
            result = outcome(tpu)
        except ValueError as error:
            result = {"error": str(error)}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
