"""A rehearsal on one machine: a TPU API on loopback, and workers that are directories."""
