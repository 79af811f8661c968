"""Compiles a config's steps with the TPU compiler, before any slice is rented."""

from vit_keras.preflight.check import preflight
from vit_keras.preflight.compiling import Cache, CompilerError
from vit_keras.preflight.report import CAVEAT, Report, format_report
from vit_keras.preflight.suggest import Suggestion, suggest
from vit_keras.slices import GENERATIONS, SLICES, Slice, get_slice

__all__ = [
    "CAVEAT",
    "GENERATIONS",
    "SLICES",
    "Cache",
    "CompilerError",
    "Report",
    "Slice",
    "Suggestion",
    "format_report",
    "get_slice",
    "preflight",
    "suggest",
]
