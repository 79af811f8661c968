"""SAM (arXiv 2010.01412) and GSAM (arXiv 2203.08065): gradients at perturbed weights."""

from __future__ import annotations

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class SharpnessAware:
    """How far to perturb, and what to make of the two gradients.

    Both gradients are those of the global batch, so that the result doesn't depend on the number
    of replicas (the papers' JAX code perturbs by each accelerator's own gradient).

    Attributes:
      rho: radius of the perturbation at the peak learning rate.
      rho_min: radius at learning rate 0; None for a constant radius, SAM's. GSAM's radius follows
        the schedule between the two (equation 6).
      alpha: weight of the surrogate gap; 0 is SAM.
    """

    rho: float = 0.05
    rho_min: float | None = None
    alpha: float = 0.0

    def radius(self, relative_lr: tf.Tensor) -> tf.Tensor | float:
        """The radius where the schedule stands at `relative_lr` of its peak."""
        if self.rho_min is None:
            return self.rho
        return self.rho_min + (self.rho - self.rho_min) * relative_lr

    def combine(
        self, gradients: list[tf.Tensor], perturbed_gradients: list[tf.Tensor]
    ) -> list[tf.Tensor]:
        """What to descend: `g_p - alpha * (g - its part along g_p)` (GSAM, algorithm 1)."""
        if not self.alpha:
            return perturbed_gradients
        dot = tf.add_n(
            [tf.reduce_sum(g * p) for g, p in zip(gradients, perturbed_gradients, strict=True)]
        )
        square = tf.add_n([tf.reduce_sum(tf.square(p)) for p in perturbed_gradients])
        along = dot / (square + 1e-12)
        return [
            p - self.alpha * (g - along * p)
            for g, p in zip(gradients, perturbed_gradients, strict=True)
        ]
