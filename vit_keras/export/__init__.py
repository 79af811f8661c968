"""Trained models in the forms that others load."""

from vit_keras.export.artifacts import write_artifacts
from vit_keras.export.saved_model import export_saved_model

__all__ = ["export_saved_model", "write_artifacts"]
