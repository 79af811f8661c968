"""Write a model in another form.

  vit-keras export MODEL TARGET

MODEL is a .keras file, an .npz checkpoint, or the workdir of a finished training. TARGET decides
the form: FILE.keras (Keras model), FILE.weights.h5 (weights that both Keras generations read),
FILE.npz (JAX checkpoint), anything else a directory for a SavedModel, which loads without
vit_keras. A TARGET that exists is only replaced with --overwrite.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's own arguments."""
    from vit_keras.checkpoints.naming import NAMINGS
    from vit_keras.commands.model_argument import add_model_arguments

    add_model_arguments(parser)
    parser.add_argument("target", metavar="TARGET", help="what to write; its ending says what")
    parser.add_argument(
        "--naming", choices=NAMINGS, help="of an .npz (default: an .npz MODEL's own, else legacy)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace TARGET if it exists")


def run(arguments: argparse.Namespace) -> None:
    """Loads and writes."""
    from vit_keras.checkpoints.save import save_npz
    from vit_keras.commands.model_argument import load_model
    from vit_keras.export import export_saved_model
    from vit_keras.files import replace_when_done

    target = Path(arguments.target)
    if target.exists() and not arguments.overwrite:
        raise ValueError(f"TARGET {arguments.target!r} exists; --overwrite replaces it.")
    if not target.parent.is_dir():
        raise ValueError(f"TARGET is {arguments.target!r}, but there is no {str(target.parent)!r}.")
    model = load_model(arguments.model, arguments.image_size)
    if target.suffix == ".npz":
        save_npz(model, target, naming=arguments.naming)
    elif target.suffix == ".keras":
        with replace_when_done(target) as temporary:
            model.save(temporary)
    elif target.name.endswith(".weights.h5"):
        with replace_when_done(target) as temporary:
            model.save_weights(temporary)
    else:
        export_saved_model(model, target, overwrite=arguments.overwrite)
    print(f"Wrote {target}")
