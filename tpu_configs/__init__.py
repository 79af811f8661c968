"""Experiments; each module has `get_config`, and opens with its command and expected result."""
