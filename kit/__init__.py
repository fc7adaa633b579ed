"""A reproducible submission kit for Kaggle's Generative Dog Images and competitions like it."""

__version__ = "0.1.0"
