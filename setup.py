"""Metadata of vit_keras; `pip install -e .` or `pip install .[EXTRA]`."""

from pathlib import Path

from setuptools import find_packages, setup

TEXT = ["tokenizers>=0.15", "sentencepiece>=0.2"]
TORCH = ["safetensors>=0.4.3"]
# 1.25 is what the classic stack gets. On the modern one it can't stand beside cloud-tpu-client,
# whose google-api-core wants a protobuf that is too old for TensorFlow.
PODS = ["google-cloud-tpu>=1.25,<2"]
TESTS = [*TEXT, *TORCH, *PODS, "pytest>=8", "pytest-xdist>=3", "scikit-learn>=1.3", "pillow>=10"]

setup(
    name="vit-keras-tpu",
    version="0.1.0",
    description="Vision Transformers in TensorFlow/Keras for TPU pods, reading JAX checkpoints",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["vit_keras", "vit_keras.*", "tpu_configs", "tpu_configs.*"]),
    package_data={
        "vit_keras": ["data/*.txt", "data/*.gz"],
        "tpu_configs": ["checkpoints/*.npz", "vocabularies/*.txt"],
    },
    install_requires=[
        "keras>=2.15",
        "tensorflow-datasets>=4.9.4",
        "tensorboard>=2.15",
        "ml_collections>=1.0",
        # tensorflow-datasets 4.9.10 needs it to prepare any data set, but does not say so.
        "importlib_resources>=6",
        "absl-py>=1.4",
        "numpy>=1.24",
        "pillow>=10",
        "requests>=2.31",
        "filelock>=3.12",
        "tqdm>=4.66",
    ],
    # TensorFlow comes in several builds under several names, which overwrite each other when two
    # are installed: so it is left to one of these four extras.
    extras_require={
        # What pip gives: laptops and CPUs; Keras 3.
        "modern": ["tensorflow>=2.16,<2.22"],
        # The stack of pod images: Keras 2, tensorflow-addons, TPU API client. Python 3.10, 3.11.
        "classic": [
            "tensorflow==2.15.1",
            "keras==2.15.0",
            "tensorflow-addons==0.23.0",
            "cloud-tpu-client==0.10",
        ],
        # A single TPU host (v2 to v6e); Python 3.10 to 3.12.
        "tpu": ["tensorflow-tpu==2.19.1", "cloud-tpu-client==0.10"],
        "gpu": ["tensorflow[and-cuda]>=2.16,<2.22"],
        "demo": ["scikit-learn>=1.3"],
        # Tokenizers of the text towers.
        "text": TEXT,
        # Hugging Face folders and timm state dicts; torch itself only for .pth files.
        "torch": TORCH,
        # tools/tpu.py, on your own machine: the TPU API.
        "pods": PODS,
        # The TPU compiler, which needs no TPU; Python 3.11 or newer.
        "preflight": ["jax==0.10.2", "libtpu==0.0.42.1"],
        "test": TESTS,
        "dev": [*TESTS, "ruff==0.17.6"],
    },
    entry_points={"console_scripts": ["vit-keras=vit_keras.main:run"]},
)
