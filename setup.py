"""Metadata of the kit: `pip install -e .[dev]`, or `make venv` for the pinned set in requirements.lock."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

RUNTIME = [  # what kit/ imports
    "torch>=2.10,<3",  # Kaggle's image has 2.10 to 2.11
    "torchvision>=0.25,<1",
    "timm>=1.0.27,<2",
    "albumentations>=2.0.8,<2.1",
    "scipy>=1.13,<2",
    "numpy>=2.0,<3",
    "pillow>=11",
    "jinja2>=3.1,<4",
    "rich>=13",
    "typer>=0.15,<1",
    "requests>=2",
    "safetensors>=0.4",
    "huggingface_hub>=0.30",
    "filelock>=3",  # two commands must not download into one folder at once
    "kaggle>=2.2.4,<3,!=2.2.5",  # 2.2.5 asks for a certifi that does not exist
    "six>=1.16",  # the kaggle client imports it and forgets to declare it
]

DEV = [
    "pytest>=8",
    "pytest-xdist>=3.7",
    "hypothesis>=6",
    "ruff>=0.11",
    "mypy>=1.15",
    "scipy-stubs",
    "selenium>=4.25",  # drives the Chromium that `make browser` installs
    "nbclient>=0.10",  # runs a kernel's notebook
    "nbformat>=5",
    "ipykernel>=6",
    "packaging>=24",
    "axe-core-python>=0.1",  # brings axe.min.js, the accessibility check
    "matplotlib>=3.9,<4",  # draws the curves of bench/ and docs/
    "pre-commit>=4",
]

# Independent scorers that tests/scoring/test_peers.py compares with; skipped where they are missing.
PEERS = ["torchmetrics>=1.6", "torch-fidelity>=0.3", "pytorch-fid>=0.3", "clean-fid>=0.1.35"]

VIDEO = ["av>=14"]  # film.mp4; without it a run has film.gif alone
TENSORBOARD = ["tensorboard>=2.16"]  # kit train --tensorboard

VERSION = re.findall(r'^__version__ = "(.+)"$', (HERE / "kit" / "__init__.py").read_text(encoding="utf-8"), re.M)[0]

setup(
    name="kit",
    version=VERSION,
    description="Reproducible Kaggle submissions for Generative Dog Images and competitions like it",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["kit", "kit.*"]),
    package_data={"kit": ["py.typed"], "kit.report": ["templates/*"]},
    install_requires=RUNTIME,
    extras_require={
        "dev": [*DEV, *VIDEO, *TENSORBOARD],
        "video": VIDEO,
        "tensorboard": TENSORBOARD,
        "peers": PEERS,
    },
    entry_points={"console_scripts": ["kit = kit.cli:main"]},
)
