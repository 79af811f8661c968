"""Writes the weights file that the other stack's tests read: `python make_weights.py` on each."""

from pathlib import Path

import numpy as np

import vit_keras
from vit_keras import compat

HERE = Path(__file__).parent

model = vit_keras.from_npz(HERE.parent / "goldens" / "vit_token_legacy_prelogits/checkpoint.npz")
model.compile(optimizer="adam", loss="mse")
images = np.random.default_rng(0).uniform(-1, 1, size=(8, 32, 32, 3)).astype(np.float32)
model.fit(images, np.eye(8, 5), epochs=2, verbose=0)
stack = "modern" if compat.KERAS_3 else "classic"
model.save_weights(HERE / f"{stack}.weights.h5")
np.savez(HERE / f"{stack}.npz", images=images, logits=model.predict(images, verbose=0))
