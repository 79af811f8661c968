"""Real files to read: folders of small JPEGs, each of which can be told apart by its grey value."""

import importlib.util
import io
import pathlib

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image


def jpeg(value: int, size: tuple[int, int] = (20, 16)) -> bytes:
    """A flat grey JPEG."""
    return encode(np.full((size[1], size[0], 3), value, np.uint8), "JPEG", quality=95)


def photo() -> np.ndarray:
    """A photograph of 120 x 80 pixels."""
    return np.asarray(Image.fromarray(load_sample_image("flower.jpg")).resize((120, 80)))


def encode(pixels: np.ndarray, file_format: str, **options) -> bytes:
    """Image file of some pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def make_folder(root: pathlib.Path, *, classes: int = 3, **counts: int) -> str:
    """Writes `counts[split]` images in all, of the values 0, 2, 4, ..."""
    for split, count in counts.items():
        for index in range(count):
            folder = root / split / f"class{index % classes}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index:03d}.jpg").write_bytes(jpeg(2 * index))
    return str(root)


def value_of(image) -> int:
    """The grey value that `make_folder` gave to the image, despite JPEG's rounding."""
    return 2 * round(float(np.mean(np.asarray(image, np.float32))) / 2)


def values_of(batch) -> list[int]:
    """`value_of` each image of a batch."""
    return [value_of(image) for image in batch["image"]]


def make_tfrecords(folder, output, **options):
    """Calls the tool in this process."""
    path = pathlib.Path(__file__).parents[2] / "tools" / "make_tfrecords.py"
    spec = importlib.util.spec_from_file_location("make_tfrecords", path)
    module = importlib.util.module_from_spec(spec)
    # Flags are defined once, however often the tests load the tool.
    if not _TOOL:
        spec.loader.exec_module(module)
        _TOOL.append(module)
    return _TOOL[0].make_tfrecords(str(folder), str(output), **options)


_TOOL = []
