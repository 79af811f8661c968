"""Losses against numpy, and contrastive ones against one device holding the whole batch."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_expit, log_softmax, softmax
from tiny_training import make_batches, make_step, run_steps, tiny_model

import vit_keras
from vit_keras.training import contrastive, get_strategy, losses, replica, tasks

RNG = np.random.default_rng(0)
LOGITS, TEACHER = RNG.normal(size=(2, 6, 4)).astype(np.float32) * 3
LABELS = RNG.dirichlet(np.ones(4), 6).astype(np.float32)


def test_cross_entropies():
    found = losses.softmax_cross_entropy(LOGITS, LABELS)
    np.testing.assert_allclose(found, -(LABELS * log_softmax(LOGITS, -1)).sum(-1), rtol=1e-5)
    found = losses.sigmoid_cross_entropy(LOGITS, LABELS)
    expected = -(LABELS * log_expit(LOGITS) + (1 - LABELS) * log_expit(-LOGITS)).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="Did you mean 'sigmoid'"):
        losses.get_loss("sigmoi")


def test_label_smoothing():
    found = losses.soft_labels(tf.constant([2, 0]), 4, 0.1)
    expected = 0.9 * np.eye(4)[[2, 0]] + 0.1 / 4
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_is_the_divergence(temperature):
    found = losses.distillation(LOGITS, TEACHER, temperature)
    p, q = softmax(TEACHER / temperature, -1), softmax(LOGITS / temperature, -1)
    np.testing.assert_allclose(found, (p * np.log(p / q)).sum(-1), rtol=2e-4, atol=1e-6)


def test_distillation_step_follows_the_teacher():
    """The loss is 0 for a student that equals its teacher, and the teacher never moves."""
    teacher, student = tiny_model(seed=2), tiny_model(seed=3)
    before = [w.numpy() for w in teacher.weights]
    task = tasks.classification(losses.softmax_cross_entropy, teacher=teacher)
    step = make_step(student, task=task)
    history = run_steps(get_strategy("one_device"), step, *make_batches(10))
    assert history[-1, 0] < 0.5 * history[0, 0]
    same = make_step(tiny_model(seed=2), task=task)
    assert abs(run_steps(get_strategy("one_device"), same, *make_batches(1))[0, 0]) < 1e-6
    for weight, value in zip(teacher.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def embeddings():
    z = RNG.normal(size=(2, 8, 5)).astype(np.float32)
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def on_replicas(strategy, loss, zimg, ztxt):
    """Mean loss over all replicas and its gradients with respect to all embeddings."""
    replicas = strategy.num_replicas_in_sync
    size = len(zimg) // replicas

    @tf.function
    def run():
        def replica():
            number = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)
            own = [tf.constant(z)[number * size : (number + 1) * size] for z in (zimg, ztxt)]
            with tf.GradientTape() as tape:
                tape.watch(own)
                mean = tf.reduce_sum(loss(*own)) / len(zimg)
            return mean, tape.gradient(mean, own)

        return strategy.run(replica)

    mean, gradients = run()
    local = strategy.experimental_local_results
    return (
        sum(value.numpy() for value in local(mean)),
        [np.concatenate([g.numpy() for g in local(gradient)]) for gradient in gradients],
    )


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_contrastive_loss_sees_the_whole_batch(any_strategy, kind):
    zimg, ztxt = embeddings()

    def loss(images, texts):
        if kind == "softmax":
            return contrastive.softmax_contrastive(images, texts, tf.constant(7.0))
        return contrastive.sigmoid_contrastive(images, texts, tf.constant(7.0), tf.constant(-3.0))

    similarities = 7.0 * zimg.astype(np.float64) @ ztxt.T.astype(np.float64)
    if kind == "softmax":
        rows = np.diag(log_softmax(similarities, 1)) + np.diag(log_softmax(similarities, 0))
        expected = -0.5 * rows.mean()
    else:
        signs = 2 * np.eye(8) - 1
        expected = -log_expit(signs * (similarities - 3.0)).sum(1).mean()
    found, gradients = on_replicas(any_strategy, loss, zimg, ztxt)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    _, whole = on_replicas(get_strategy("one_device"), loss, zimg, ztxt)
    for gradient, reference in zip(gradients, whole, strict=True):
        np.testing.assert_allclose(gradient, reference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_two_tower_task_is_the_loss_of_the_model_s_similarities(goldens, kind):
    case = goldens / "siglip_two_towers_map_last"
    model = vit_keras.from_npz(case / "checkpoint.npz")
    with np.load(case / "expected.npz") as expected:
        similarity = expected["similarity_logits"][:3, :3].astype(np.float64)
        batch = {
            "image": tf.constant(expected["images_uint8"][:3]),
            "text": tf.constant(expected["tokens"][:3]),
        }
    with tf.GradientTape() as tape:
        got = tasks.two_towers(kind)(model, batch, True)
    if kind == "sigmoid":
        sign = 2 * np.eye(3) - 1
        wanted = np.log1p(np.exp(-sign * similarity)).sum(axis=1)
    else:
        rows = np.log(np.exp(similarity).sum(axis=1)) - np.diag(similarity)
        columns = np.log(np.exp(similarity).sum(axis=0)) - np.diag(similarity)
        wanted = (rows + columns) / 2
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
    gradients = tape.gradient(got, model.trainable_variables)
    # A bias shifts all similarities alike, which softmax doesn't see.
    assert sum(gradient is None for gradient in gradients) == (kind == "softmax")


@pytest.mark.parametrize("number", [0, 2])
def test_gathering_in_a_program_that_is_only_compiled(number, monkeypatch):
    """Each replica puts its rows in its own place and leaves the other places to the others."""
    # XLA's number of a replica has no kernel on CPUs.
    monkeypatch.setattr(replica, "replica_id", lambda: tf.constant(number))
    rows = tf.constant(RNG.normal(size=(2, 5)).astype(np.float32))
    upstream = RNG.normal(size=(6, 5)).astype(np.float32)
    with replica.compiled_for(3, lambda tensors: tensors), tf.GradientTape() as tape:
        tape.watch(rows)
        gathered = replica.gather_over_replicas(rows)
        gradient = tape.gradient(tf.reduce_sum(gathered * upstream), rows)
    place = slice(2 * number, 2 * number + 2)
    np.testing.assert_array_equal(gathered[place], rows)
    assert np.count_nonzero(gathered) == np.count_nonzero(rows)
    np.testing.assert_allclose(gradient, upstream[place])
