"""Two towers as a SavedModel, for those who have no vit_keras."""

import numpy as np
import tensorflow as tf

import vit_keras
from vit_keras.export import export_saved_model


def test_embeddings_and_comparison(goldens, tmp_path):
    case = goldens / "siglip_two_towers_map_last"
    expected = dict(np.load(case / "expected.npz"))
    images = ((expected["images_uint8"].astype(np.float32) - 127.5) / 127.5).astype(np.float32)
    tokens = expected["tokens"].astype(np.int32)
    export_saved_model(vit_keras.from_npz(case / "checkpoint.npz"), tmp_path / "saved")
    signatures = tf.saved_model.load(str(tmp_path / "saved")).signatures
    zimg = signatures["image"](image=tf.constant(images))["zimg"]
    ztxt = signatures["text"](tokens=tf.constant(tokens))["ztxt"]
    np.testing.assert_allclose(zimg, expected["zimg"], atol=1e-5)
    np.testing.assert_allclose(ztxt, expected["ztxt"], atol=1e-5)
    both = signatures["serving_default"](image=tf.constant(images), tokens=tf.constant(tokens))
    np.testing.assert_allclose(both["zimg"], zimg, atol=1e-6)
    scale = np.abs(expected["similarity_logits"]).max()
    np.testing.assert_allclose(
        both["similarity_logits"], expected["similarity_logits"], atol=1e-5 * scale
    )
