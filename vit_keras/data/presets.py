"""Pipeline strings of the original vision_transformer's fine-tuning recipe.

The values reach the model as (x - 127.5) / 127.5. With `transport="uint8"` the resized image is
rounded to whole pixel values, travels as bytes and is normalised on the device
(`normalize.normalize_image`); "float32" keeps the original's exact arithmetic and travels at four
times the size, "bfloat16" at twice.
"""

from vit_keras.data.suggestions import unknown_name

Size = int | tuple[int, int]

_NORMALIZE = {
    "uint8": "",
    "bfloat16": '|value_range(-1, 1)|cast("bfloat16")',
    "float32": "|value_range(-1, 1)",
}


def _endings(transport: str) -> tuple[str, str]:
    if transport not in _NORMALIZE:
        raise ValueError(unknown_name("transport", transport, _NORMALIZE))
    dtype = "" if transport == "uint8" else ', dtype="float32"'
    return dtype, _NORMALIZE[transport]


def finetune_train(size: Size, *, flip: bool = True, transport: str = "uint8") -> str:
    """Inception crop of 5-100 % of the area, bilinear resize to `size`, random mirror image.

    Args:
        size: side of the square, or (height, width), in pixels.
        flip: False where left and right matter, as for digits or text.
        transport: "uint8", "bfloat16" or "float32": the type in which images leave the pipeline.
    """
    dtype, ending = _endings(transport)
    mirror = "|flip_lr" if flip else ""
    return f"decode_jpeg_and_inception_crop({size}{dtype}){mirror}{ending}"


def finetune_eval(size: Size, *, transport: str = "uint8") -> str:
    """Bilinear resize of the whole image to `size`, no crop. Arguments as `finetune_train`."""
    dtype, ending = _endings(transport)
    return f"decode|resize({size}{dtype}){ending}"
