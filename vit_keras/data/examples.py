"""From raw examples to batches: preprocessing in parallel, with bad images named or skipped."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from vit_keras.data.bad_images import BadImages

Example = dict[str, tf.Tensor]

# Examples handed to one thread at a time. Larger chunks cost less to hand over and to guard, but
# make the last ones of a batch wait longer for each other.
_MAX_CHUNK = 128
# Stands for the bytes of an image that the source hands on as an array.
_DECODED = "decoded"


def chunk_size(batch_size: int) -> int:
    """The largest divisor of the batch size that is at most 128."""
    return max(size for size in range(1, _MAX_CHUNK + 1) if batch_size % size == 0)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Turns chunks of items into chunks of finished examples, and survives bad ones.

    An item is a dictionary with at least "position": int64, negative for padding, whose result is
    zeros and isn't real.

    Args:
        load: item -> raw example (see `sources.base.Records`); may fail.
        describe: item -> name of its file, without reading it.
        preprocess: (raw example, seed) -> example, a built pipeline.
        seed: of the run; an example's own seed is (seed, position).
        num_classes: labels must be below it.
        on_bad_image: "error" stops with a message that names file and reason; "skip" puts zeros in
            the bad one's place, marks it as not real and enters it into `bad_images`.
        padded: whether items may be padding.
        text: (raw example, seed) -> its text, where there is one (see `captions`).
    """

    load: Callable[[Example], Example]
    describe: Callable[[Example], tf.Tensor]
    preprocess: Callable[[Example, tf.Tensor], Example]
    seed: int
    num_classes: int
    on_bad_image: str
    bad_images: BadImages
    padded: bool
    text: Callable[[Example, tf.Tensor], tf.Tensor] | None = None

    def element_spec(self, items: tf.data.Dataset) -> dict[str, tf.TensorSpec]:
        """What one finished example looks like; shapes must be known.

        Raises:
            ValueError: if the pipeline leaves a shape open, or an image that isn't one.
        """
        process = tf.autograph.experimental.do_not_convert(self._process)
        spec = items.map(process).element_spec
        for key, tensor in spec.items():
            if not tensor.shape.is_fully_defined():
                raise ValueError(
                    f"The pipeline leaves {key!r} with the shape {tensor.shape}, so that it cannot "
                    "be batched. End with an operation that fixes the size, such as resize(224)."
                )
        if spec["image"].shape.rank != 3:
            raise ValueError(
                f"The pipeline must leave an image (height, width, channels), got {spec['image']}. "
                "Begin with decode or decode_jpeg_and_inception_crop."
            )
        return spec

    def batches(
        self, items: tf.data.Dataset, batch_size: int, parallel: int | None = None
    ) -> tf.data.Dataset:
        """Dictionaries of `batch_size` rows: "image", "label", "text", "position", "real"."""
        spec = self.element_spec(items)
        chunk = chunk_size(batch_size)
        if not all(t.shape.is_fully_defined() for t in items.element_spec.values()):
            chunk = 1
        finished = items.batch(chunk, drop_remainder=True).map(
            # Tracing takes much longer with AutoGraph, which nothing here needs.
            tf.autograph.experimental.do_not_convert(
                lambda chunk_items: self._process_chunk(chunk_items, chunk, spec)
            ),
            num_parallel_calls=parallel or tf.data.AUTOTUNE,
            deterministic=True,
        )
        if chunk == batch_size:
            return finished

        def merge(chunks):
            return {k: tf.reshape(v, [batch_size, *v.shape[2:]]) for k, v in chunks.items()}

        return finished.batch(batch_size // chunk, drop_remainder=True).map(merge)

    def _process(self, item: Example) -> Example:
        raw = self.load(item)
        # The label is checked where a failure is caught with the example at hand.
        in_range = tf.debugging.Assert(self._label_in_range(raw["label"]), [raw["label"]])
        with tf.control_dependencies([in_range]):
            checked = {"image": raw["image"], "label": tf.identity(raw["label"])}
        seed = tf.stack([tf.constant(self.seed, tf.int64), item["position"]])
        example = self.preprocess(checked, seed)
        # big_vision's configs call the result "labels".
        label = example.get("label", example.get("labels"))
        if "image" not in example or label is None:
            raise ValueError(
                f"The pipeline must leave 'image' and 'label', it leaves {sorted(example)}."
            )
        finished = {"image": example["image"], "label": label}
        return finished if self.text is None else {**finished, "text": self.text(raw, seed)}

    def _label_in_range(self, label: tf.Tensor) -> tf.Tensor:
        return (label >= 0) & (label < self.num_classes)

    def _process_chunk(self, items: Example, size: int, spec: dict) -> Example:
        # A dataset inside the function is the only place in a TensorFlow graph that can catch an
        # error. Guarding a whole chunk costs next to nothing; only if one of it fails is each of
        # them guarded by itself.
        empty = {k: tf.zeros([0, *t.shape], t.dtype) for k, t in spec.items()}
        guarded = tf.data.Dataset.from_tensor_slices(items)
        if self.padded:
            guarded = guarded.filter(lambda item: item["position"] >= 0)
        good = (
            guarded.map(self._process)
            .ignore_errors()
            .batch(size)
            .concatenate(tf.data.Dataset.from_tensors(empty))
            .take(1)
            .get_single_element()
        )
        examples, real = tf.cond(
            tf.equal(tf.shape(good["image"])[0], size),
            lambda: (good, tf.ones([size], tf.bool)),
            lambda: self._process_one_by_one(items, spec),
        )
        examples = {k: tf.ensure_shape(v, [size, *spec[k].shape]) for k, v in examples.items()}
        return {
            **examples,
            "position": items["position"],
            "real": tf.ensure_shape(real, [size]),
        }

    def _process_one_by_one(self, items: Example, spec: dict) -> tuple[Example, tf.Tensor]:
        return tf.map_fn(
            lambda item: self._process_guarded(item, spec),
            items,
            fn_output_signature=(spec, tf.TensorSpec([], tf.bool)),
            parallel_iterations=1,
        )

    def _process_guarded(self, item: Example, spec: dict) -> tuple[Example, tf.Tensor]:
        def guarded(function, default):
            default = tf.nest.map_structure(tf.convert_to_tensor, default)
            result = tf.data.Dataset.from_tensors(item).map(
                lambda item: (function(item), tf.constant(True))
            )
            return (
                result.ignore_errors(log_warning=True)
                .concatenate(tf.data.Dataset.from_tensors((default, tf.constant(False))))
                .take(1)
                .get_single_element()
            )

        zeros = {k: tf.zeros(t.shape, t.dtype) for k, t in spec.items()}

        def process():
            example, good = guarded(self._process, zeros)
            return tf.cond(good, lambda: (example, good), lambda: (example, bad()))

        def bad():
            unread = {"image": "", "label": tf.constant(-1, tf.int64)}

            def load(item):
                raw = self.load(item)
                image = raw["image"] if raw["image"].dtype == tf.string else _DECODED
                return {"image": image, "label": raw["label"]}

            raw, _ = guarded(load, unread)
            reason = self._reason(raw["image"], raw["label"])
            return self._handle_bad(self.describe(item), reason)

        return tf.cond(item["position"] < 0, lambda: (zeros, tf.constant(False)), process)

    def _reason(self, image: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        """What is wrong, as far as the first and last bytes and the label tell."""

        def begins(*signatures):
            lengths = {len(signature) for signature in signatures}
            starts = {n: tf.strings.substr(image, 0, n) for n in lengths}
            return tf.reduce_any([tf.equal(starts[len(s)], s) for s in signatures])

        is_jpeg = begins(b"\xff\xd8\xff")
        is_known = is_jpeg | begins(b"\x89PNG\r\n", b"GIF8", b"BM", _DECODED)
        # Some writers fill up the file after its end.
        tail = tf.strings.bytes_split(
            tf.strings.substr(image, -tf.minimum(tf.strings.length(image), 64), 64)
        )
        has_end = tf.reduce_any(tf.equal(tail[:-1], b"\xff") & tf.equal(tail[1:], b"\xd9"))
        problems = [
            (
                tf.equal(image, "") & tf.equal(label, -1),
                "cannot be read (missing, or a broken TFRecord check sum)",
            ),
            (tf.equal(image, ""), "the file is empty (zero bytes)"),
            (
                ~self._label_in_range(label),
                tf.strings.format(
                    "the label {} is out of range, there are {} classes", (label, self.num_classes)
                ),
            ),
            (
                ~is_known,
                tf.strings.format(
                    "not a JPEG, PNG, GIF or BMP image: begins with {}",
                    tf.strings.substr(image, 0, 12),
                ),
            ),
            (is_jpeg & ~has_end, "truncated JPEG: its end is missing"),
        ]
        reason = tf.constant(
            "corrupt image, or an operation of the pipeline failed on it (see the log)"
        )
        for found, problem in problems[::-1]:
            reason = tf.where(found, problem, reason)
        return reason

    def _handle_bad(self, file: tf.Tensor, reason: tf.Tensor) -> tf.Tensor:
        """Stops, or makes a note; returns False, for "not real"."""
        if self.on_bad_image == "error":
            message = tf.strings.join([file, ": ", reason])
            handled = tf.debugging.Assert(False, [message])
        else:
            handled = self.bad_images.insert(file, reason)
        with tf.control_dependencies([handled]):
            return tf.constant(False)
