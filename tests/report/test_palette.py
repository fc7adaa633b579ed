"""The page's colours: told apart by everyone, and seen on the page's ground, in both schemes."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import kit.report

CSS = (Path(kit.report.__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
SCHEMES = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
LIGHT, DARK = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", scheme)) for scheme in SCHEMES)
LINES = [f"c{i}" for i in range(6)]

# Machado, Oliveira & Fernandes 2009, severity 1.0, on linear RGB.
SIGHT = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no long": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no medium": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no short": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}

APART = 15.0
"""In CIELAB (1976). 2.3 is just noticed between two fields side by side; thin lines need several times as much."""


def linear(colour):
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one, other):
    light, dark = sorted((linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_are_told_apart_by_everyone(scheme, sight):
    seen = {name: lab(np.array(SIGHT[sight]) @ linear(scheme[name])) for name in LINES}
    near = {
        pair: distance
        for pair in itertools.combinations(LINES, 2)
        if (distance := float(np.linalg.norm(seen[pair[0]] - seen[pair[1]]))) < APART
    }
    assert near == {}


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_stand_out_and_words_are_read(scheme):
    """WCAG 2.2: 3 for drawings, 4.5 for words."""
    assert min(contrast(scheme[name], scheme["paper"]) for name in LINES) >= 3
    words = [("ink", "paper"), ("soft", "paper"), ("accent", "paper"), ("flag-ink", "flag")]
    assert min(contrast(scheme[one], scheme[other]) for one, other in words) >= 4.5
