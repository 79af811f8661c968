"""Compile a config's training step for a TPU slice, without a TPU: does it fit, how fast is it?

  vit-keras preflight --config=tpu_configs/vit.py:b16,cifar10 --slice=v5e-8 \\
      [--config.batch=4096] [--suggest] [--json]

Compiles with the real TPU compiler (libtpu, from PyPI) in a process of its own: the training step
for one replica of the slice and the evaluation step. Slices: accelerator types (v3-8, v6e-8,
v5litepod-256), short forms (v5e-256) and topologies (v5e:2x4). Needs no data and no checkpoint; of
data sets that it doesn't know, it must be told --classes and, for durations in epochs,
--num_examples.

Figures are a compiler's estimates, never yet checked on hardware by us.

Needs jax and libtpu: pip install 'vit-keras-tpu[preflight]'.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading

import tqdm

TAKES_CONFIG = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's own arguments."""
    parser.add_argument(
        "--config", metavar="FILE[:ARGS]", help="config file; --config.KEY=VALUE changes a key"
    )
    parser.add_argument("--slice", required=True, help="such as v5e-8, v3-128 or v5e:2x4")
    parser.add_argument("--classes", type=int, help="of the data set, where it isn't known")
    parser.add_argument("--num_examples", type=int, help="of the training split, likewise")
    parser.add_argument(
        "--suggest", action="store_true", help="search for the fastest setting that fits"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--no_cache", action="store_true", help="compile again")
    parser.add_argument("--cache_dir", help="default: $VIT_KERAS_CACHE/preflight")
    parser.add_argument("--compiler_python", help="a Python with jax and libtpu (default: this)")


def run(arguments: argparse.Namespace) -> int:
    """Prints the report; the exit code is 1 where the step doesn't fit."""
    from vit_keras import preflight
    from vit_keras.commands.config_argument import read_config

    preflight.get_slice(arguments.slice)  # says at once that there is none
    config = read_config(arguments.config, arguments.config_changes)
    options = {
        "classes": arguments.classes,
        "num_examples": arguments.num_examples,
        "python": arguments.compiler_python,
        "cache": preflight.Cache(arguments.cache_dir, enabled=not arguments.no_cache),
    }
    with _Progress() as progress:
        if arguments.suggest:
            suggestions = preflight.suggest(config, arguments.slice, progress=progress, **options)
        else:
            report = preflight.preflight(config, arguments.slice, progress=progress, **options)
    if not arguments.suggest:
        text = json.dumps(report.to_dict(), indent=2)
        print(text if arguments.json else preflight.format_report(report))
        return 0 if report.fits else 1
    if arguments.json:
        print(
            json.dumps(
                [{"changes": s.changes, "report": s.report.to_dict()} for s in suggestions],
                indent=2,
            )
        )
        return 0
    for suggestion in suggestions:
        changes = " ".join(f"--config.{k}={v}" for k, v in suggestion.changes.items())
        speed = suggestion.report.step["images_per_s"]
        peak = suggestion.report.memory["peak"] / 1024**3
        print(f"{speed:8.0f} images/s  {peak:6.2f} GiB  {changes or 'as it is'}")
    print(f"\n{preflight.format_report(suggestions[0].report)}")
    return 0


class _Progress:
    """A line with the stage and the time since it began."""

    def __enter__(self):
        self.bar = tqdm.tqdm(bar_format="{desc} ({elapsed})", file=sys.stderr, leave=False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._thread.start()
        return self

    def __call__(self, stage: str) -> None:
        self.bar.set_description_str(stage)

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()
        self.bar.close()

    def _tick(self) -> None:
        while not self._stop.wait(1.0):
            self.bar.refresh()
