"""What tools/tpu.py is made of: renting, preparing, running, watching and returning TPU slices."""
