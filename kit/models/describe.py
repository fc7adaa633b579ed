"""What `kit models` shows: the table of models, and every setting of one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from kit.models import registry

SIZE, CHANNELS, CLASSES = 64, 3, 120
"""Parameters are counted for the pictures and classes of the dog competition."""


def model_rows() -> list[dict[str, Any]]:
    """One row for each model; parameters in millions, counted at 64×64 RGB."""
    return [_facts(row) for row in registry.MODELS.values()]


def model(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A model's facts, and its settings with default, unit and range or choices.

    Raises:
        KitError: no such model.
    """
    row = registry.get(name)
    ladder = ", ".join(f"{rung.width} from {rung.pictures:,} pictures" for rung in row.ladder)
    return _facts(row) | {"note": row.note, **({"width by budget": ladder} if ladder else {})}, [
        {
            "setting": key,
            "default": getattr(row.recipe, key),
            "unit": field.metadata["unit"],
            "range": _range(field.metadata),
            "about": field.metadata["about"],
        }
        for key, field in row.settings().items()
    ]


def _facts(row: registry.ModelEntry) -> dict[str, Any]:
    with torch.device("meta"):  # counts need shapes, not memory
        generator, discriminator = registry.build(row.recipe, size=SIZE, channels=CHANNELS, classes=CLASSES)
    return {
        "name": row.name,
        "about": row.about,
        "conditional": bool(generator.classes),
        "loss": row.recipe.loss,
        "penalty": row.recipe.penalty,
        "architecture": row.recipe.architecture,
        "G": f"{_millions(generator)} M",
        "D": f"{_millions(discriminator)} M",
        "paper": row.paper,
    }


def _millions(network: nn.Module) -> str:
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f}"


def _range(meta: Mapping[str, Any]) -> str:
    if "choices" in meta:
        return f"{'any' if meta['several'] else 'one'} of {', '.join(meta['choices'])}"
    return "yes or no" if meta["switch"] else f"{meta['low']:,.10g} to {meta['high']:,.10g}"
