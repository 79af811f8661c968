"""AugReg's index of more than 50,000 checkpoints, as a table.

"How to train your ViT? Data, Augmentation, and Regularization in Vision Transformers"
(arXiv 2106.10270) published 759 pre-trained checkpoints, most of them fine-tuned many times; the
bucket's index.csv has a row for each fine-tuning.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import os
import re

from vit_keras.checkpoints.download import local_path
from vit_keras.checkpoints.table import Table

DIRECTORY = "gs://vit_models/augreg"

# <model>-<data set>-<epochs>ep-lr_..-aug_..-wd_..-do_..-sd_.., and for a fine-tuned one
# --<data set>-steps_..-lr_..-res_..
_STEM = re.compile(
    r"(?P<model>[A-Za-z0-9_]+)-(?P<ds>[^-]+)-\d+ep-lr_[^-]+-aug_[^-]+-wd_[^-]+-do_[^-]+-sd_[^-]+"
    r"(?P<adapted>--[^-].*-steps_[^-]+-lr_[^-]+-res_\d+)?"
)


@dataclasses.dataclass(frozen=True, slots=True)
class AugRegRow:
    """A fine-tuning, and the pre-training that it started from.

    Attributes:
      name: of the model, such as "B/16" or "R26+S/32".
      ds: what it was pre-trained on: "i1k" or "i21k" (300 epochs) or "i21k_30" (30 epochs).
      lr, aug, wd, do, sd: learning rate, augmentation, weight decay, dropout and stochastic depth
        of the pre-training.
      best_val, final_val, final_test: accuracies of the pre-training: the best and the last on
        held-out data, the last on the test set (for ImageNet-1k its validation set).
      adapt_ds, adapt_lr, adapt_steps, adapt_resolution: what it was fine-tuned on, and how; batch
        512.
      adapt_final_val, adapt_final_test: accuracies after fine-tuning.
      params: number of parameters.
      infer_samples_per_sec: images a second on a V100.
      filename, adapt_filename: the files of the two, without .npz.
    """

    name: str
    ds: str
    lr: float | None
    aug: str
    wd: float | None
    do: float | None
    sd: float | None
    best_val: float | None
    final_val: float | None
    final_test: float | None
    adapt_ds: str | None
    adapt_lr: float | None
    adapt_steps: int | None
    adapt_resolution: int | None
    adapt_final_val: float | None
    adapt_final_test: float | None
    params: int | None
    infer_samples_per_sec: float | None
    filename: str
    adapt_filename: str | None

    @property
    def url(self) -> str:
        """Of the pre-trained checkpoint."""
        return f"{DIRECTORY}/{self.filename}.npz"

    @property
    def adapt_url(self) -> str | None:
        """Of the fine-tuned checkpoint."""
        return self.adapt_filename and f"{DIRECTORY}/{self.adapt_filename}.npz"


class AugRegTable(Table[AugRegRow]):
    """The index, with the paper's rule for choosing."""

    def recommended(self, name: str) -> AugRegRow:
        """The pre-training of model `name` (such as "B/16") with the highest final_val on i21k.

        That is section 4.5 of the paper. The row returned is one of its fine-tunings.

        Raises:
          ValueError: when there is no such model, with the nearest name.
        """
        rows = self.filter(name=name, ds="i21k").sort("final_val", descending=True)
        if not rows or rows[0].final_val is None:
            raise ValueError(f"name is {name!r}; the index has no i21k pre-training of it.")
        return rows[0]


def augreg(
    index: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
    progress: bool = True,
    **filters,
) -> AugRegTable:
    """AugReg's index, or the rows of it that `filters` leave.

    Example:
      >>> rows = augreg(name="S/16", ds="i21k", adapt_ds="imagenet2012", adapt_resolution=224)
      >>> rows.sort("adapt_final_test", descending=True)[0].adapt_url

    Args:
      index: a path or URL of the index; None for the published one, downloaded once.
      cache_dir: where downloads are kept (see `download`).
      progress: whether to show a bar when it is downloaded.
      **filters: as of `Table.filter`: column=value, column=collection or column=callable.

    Raises:
      ValueError: for an unknown column, a text that occurs nowhere, or another file.
      DownloadError: when the index isn't in the cache and can't be downloaded.
    """
    path = local_path(index or f"{DIRECTORY}/index.csv", cache_dir, progress=progress)
    table = _read(path, os.stat(path).st_mtime_ns)
    return table.filter(**filters)


@functools.lru_cache(maxsize=2)
def _read(path: str, _modified: int) -> AugRegTable:
    """Reads the index; 50,000 rows take half a second, hence the cache."""
    kinds = {field.name: str(field.type) for field in dataclasses.fields(AugRegRow)}
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        missing = [name for name in kinds if name not in header]
        if missing:
            raise ValueError(f"{path} isn't AugReg's index: it has no column {', '.join(missing)}.")
        places = {name: header.index(name) for name in kinds}
        rows = []
        for cells in reader:
            try:
                rows.append(
                    AugRegRow(*(_value(kinds[name], cells[at]) for name, at in places.items()))
                )
            except (ValueError, IndexError) as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}.") from error
    return AugRegTable(AugRegRow, rows)


def _value(kind: str, cell: str) -> str | int | float | None:
    if "str" in kind:
        return cell or None
    if cell in ("", "nan"):
        return None
    return int(float(cell)) if "int" in kind else float(cell)


def parse_stem(stem: str) -> tuple[str, bool] | None:
    """The model of an AugReg file name such as "B_16-i21k-300ep-...", and whether fine-tuned.

    Returns:
      (the model as the files write it, such as "R50_L_32"; whether the name is of a fine-tuned
      checkpoint), or None when `stem` isn't such a name.
    """
    match = _STEM.fullmatch(stem)
    return match and (match["model"], match["adapted"] is not None)
