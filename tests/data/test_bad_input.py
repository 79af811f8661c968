"""Bad input stops with file and reason, or is skipped, counted and listed."""

import data_helpers
import numpy as np
import pytest
import tensorflow as tf

from vit_keras import data

PIPELINE = "decode|resize(8)"
GOOD = data_helpers.encode(data_helpers.photo(), "JPEG")

BAD_FILES = {
    "truncated.jpg": (GOOD[: len(GOOD) // 2], "truncated JPEG"),
    "empty.jpg": (b"", "zero bytes"),
    "text.jpg": (b"This is a letter, not a picture.", "not a JPEG, PNG, GIF or BMP"),
    "page.png": (b"<html><body>404</body></html>", "<html><body>"),
    "garbled.jpg": (GOOD[:20] + b"\x00" * 300 + b"\xff\xd9", "corrupt image"),
    "garbled.png": (
        data_helpers.encode(data_helpers.photo(), "PNG")[:60] + b"\x00" * 100,
        "corrupt image",
    ),
}


def make_folder(tmp_path, name=None):
    folder = data_helpers.make_folder(tmp_path / "images", train=24, test=10)
    if name:
        for split in ("train", "test"):
            (tmp_path / "images" / split / "class1" / name).write_bytes(BAD_FILES[name][0])
    return folder


def evaluate(source, batch_size=4):
    return list(data.eval_dataset(source, "test", PIPELINE, batch_size))


@pytest.mark.parametrize("name", BAD_FILES)
def test_evaluation_stops_with_file_and_reason(tmp_path, name):
    source = data.get_source(make_folder(tmp_path, name))
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        evaluate(source)
    assert name in str(error.value)
    assert BAD_FILES[name][1] in str(error.value)


def test_training_stops_with_file_and_reason(tmp_path):
    source = data.get_source(make_folder(tmp_path, "truncated.jpg"))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"truncated\.jpg: truncated JPEG"):
        list(data.train_dataset(source, "train", PIPELINE, 5).take(6))


def test_skipped_are_counted_and_listed(tmp_path, caplog):
    for name in BAD_FILES:
        folder = make_folder(tmp_path, name)
    source = data.get_source(folder, on_bad_image="skip")
    batches = evaluate(source)
    masks = np.concatenate([batch["mask"] for batch in batches])
    ids = np.concatenate([batch["id"] for batch in batches])
    assert masks.sum() == 10
    assert sorted(ids[ids >= 0]) == list(range(16))  # Bad ones keep their place, masked out.
    reasons = {file.split("/")[-1]: reason for file, reason in source.bad_images.list()}
    assert reasons.keys() == BAD_FILES.keys()
    for name, reason in reasons.items():
        assert BAD_FILES[name][1] in reason
    assert len(source.bad_images) == len(BAD_FILES)
    source.bad_images.report()
    assert "6 bad images were skipped" in caplog.text
    assert "truncated.jpg: truncated JPEG" in caplog.text


@pytest.mark.parametrize("cache_raw", [False, True])
def test_training_goes_on_in_the_same_order(tmp_path, cache_raw):
    """Another example of the batch stands in; all others keep their places."""
    folder = make_folder(tmp_path, "truncated.jpg")
    source = data.get_source(folder, on_bad_image="skip")
    kwargs = {"seed": 2, "cache_raw": cache_raw}
    batches = list(data.train_dataset(source, "train", PIPELINE, 5, **kwargs).take(5))
    values = [data_helpers.values_of(batch) for batch in batches]
    assert {value for row in values for value in row} == {2 * i for i in range(24)}
    assert [len(row) for row in values] == [5] * 5
    assert len(set(map(tuple, values))) == 5
    assert [file.split("/")[-1] for file, _ in source.bad_images.list()] == ["truncated.jpg"]


def test_nothing_but_bad_images(tmp_path):
    folder = tmp_path / "images" / "train" / "a"
    folder.mkdir(parents=True)
    for index in range(4):
        (folder / f"{index}.jpg").write_bytes(b"")
    source = data.get_source(str(tmp_path / "images"), on_bad_image="skip")
    with pytest.raises(tf.errors.InvalidArgumentError, match="Every image of a batch is bad"):
        list(data.train_dataset(source, "train", PIPELINE, 2).take(1))


def test_file_that_vanished(tmp_path):
    folder = make_folder(tmp_path)
    source = data.get_source(folder)
    (tmp_path / "images" / "test" / "class0" / "000.jpg").unlink()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"000\.jpg: cannot be read"):
        evaluate(source)


def test_text_file_among_images(tmp_path):
    folder = make_folder(tmp_path)
    (tmp_path / "images" / "train" / "class0" / "notes.txt").write_text("hello")
    (tmp_path / "images" / "train" / "class0" / ".DS_Store").write_text("hidden is ignored")
    with pytest.raises(ValueError, match=r"notes\.txt: not an image by its extension"):
        data.get_source(folder)
    source = data.get_source(folder, on_bad_image="skip")
    assert source.num_examples("train") == 24
    assert source.bad_images.list()[0][0].endswith("notes.txt")


def test_wrong_extension_is_no_matter(tmp_path):
    """The content counts: a PNG called .jpg is an image."""
    folder = make_folder(tmp_path)
    png = data_helpers.encode(np.full((9, 9, 3), 200, np.uint8), "PNG")
    (tmp_path / "images" / "test" / "class0" / "000.jpg").write_bytes(png)
    values = [value for batch in evaluate(data.get_source(folder)) for value in
              data_helpers.values_of(batch)]  # fmt: skip
    assert 200 in values


def test_missing_class_folder(tmp_path):
    folder = make_folder(tmp_path)
    (tmp_path / "images" / "test" / "class1").rename(tmp_path / "images" / "test" / "other")
    with pytest.raises(ValueError, match=r"missing \['class1'\], unknown \['other'\]"):
        data.get_source(folder)
    source = data.get_source(folder, on_bad_image="skip")
    assert source.class_names == ["class0", "class1", "class2"]
    assert source.num_examples("test") == 7
    assert len(source.bad_images) == 2


def test_empty_class_folder(tmp_path):
    folder = make_folder(tmp_path)
    for split in ("train", "test"):
        (tmp_path / "images" / split / "nothing").mkdir()
    with pytest.raises(ValueError, match="nothing: the class folder holds no image"):
        data.get_source(folder)


def test_folder_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="No such folder"):
        data.get_source(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no split folder"):
        data.get_source(str(tmp_path / "empty"))


def test_empty_split(tmp_path):
    source = data.get_source(make_folder(tmp_path))
    with pytest.raises(ValueError, match="is empty"):
        source.num_examples("test[:0]")


def test_labels_out_of_range():
    dataset = tf.data.Dataset.from_tensor_slices((np.zeros([6, 8, 8, 3], np.uint8), np.arange(6)))
    source = data.get_source({"train": dataset, "test": dataset}, class_names=list("abcd"))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="element 4: the label 4 is out of range, there are 4"
    ):
        evaluate(source)
    source = data.get_source(
        {"train": dataset, "test": dataset}, class_names=list("abcd"), on_bad_image="skip"
    )
    assert sum(float(batch["mask"].numpy().sum()) for batch in evaluate(source)) == 4
    assert len(source.bad_images) == 2


def test_operation_that_fails_at_run_time(tmp_path):
    """It is not mistaken for a bad file without a hint at the pipeline."""
    source = data.get_source(make_folder(tmp_path))
    with pytest.raises(tf.errors.InvalidArgumentError, match="an operation of the pipeline failed"):
        list(data.eval_dataset(source, "test", "decode|random_crop(64)|resize(8)", 4))


def test_unknown_on_bad_image(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'skip'"):
        data.get_source(make_folder(tmp_path), on_bad_image="skpi")
