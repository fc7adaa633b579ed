"""Drawn dogs in the competition's layout, so that everything runs without an account."""

from kit.demo.archive import draw

__all__ = ["draw"]
