"""Class names: the shipped lists, and TFDS'."""

import pytest

from vit_keras.data.class_names import class_names, synsets


def tfds_imagenet_labels():
    """The order of ImageNet-1k's classes as TFDS ships it, an independent source."""
    import tensorflow_datasets as tfds

    return tfds.builder("imagenet_v2").info.features["label"].names


def test_imagenet2012():
    names = class_names("imagenet2012")
    assert len(names) == 1000
    assert names[0] == "tench, Tinca tinca"
    assert names[207] == "golden retriever"
    assert names[999].startswith("toilet tissue")
    assert synsets("imagenet2012") == tfds_imagenet_labels()


def test_imagenet21k():
    names, ids = class_names("imagenet21k"), synsets("imagenet21k")
    assert len(names) == len(ids) == len(set(ids)) == 21843
    assert ids == sorted(ids)  # the order of the published heads
    by_id = dict(zip(ids, names, strict=True))
    assert by_id["n02099601"] == "golden retriever"
    # ImageNet-1k's classes are classes of 21k, but for the teddy bear that was taken out.
    one_k = dict(zip(synsets("imagenet2012"), class_names("imagenet2012"), strict=True))
    assert one_k.keys() - by_id.keys() == {"n04399382"}
    assert all(by_id[id_] == name for id_, name in one_k.items() if id_ in by_id)


def test_answers_are_the_callers_own():
    class_names("imagenet2012").clear()
    assert len(class_names("imagenet2012")) == 1000


def test_tfds_names():
    assert class_names("oxford_iiit_pet")[:2] == ["Abyssinian", "american_bulldog"]
    assert class_names("cats_vs_dogs") == ["cat", "dog"]


def test_tfds_names_that_are_wordnet_ids():
    assert class_names("imagenet_v2") == class_names("imagenet2012")
    assert class_names("imagenet_resized/8x8")[0] == "kit fox, Vulpes macrotis"
    assert "English springer, English springer spaniel" in class_names("imagenette")


def test_names_unknown_to_the_builder():
    with pytest.raises(ValueError, match="there are 10 classes, but not what they are called"):
        class_names("cifar10")


def test_no_class_label():
    with pytest.raises(ValueError, match="no class label: its features are image"):
        class_names("coco_captions")


def test_unknown_data_set():
    with pytest.raises(ValueError, match=r"'imagnet2012'.*Near it: imagenet2012"):
        class_names("imagnet2012")
    with pytest.raises(ValueError, match=r"Near it: .*cifar10"):
        class_names("cifar-10")
    with pytest.raises(ValueError, match="imagenet2012, imagenet21k"):
        synsets("cifar10")
