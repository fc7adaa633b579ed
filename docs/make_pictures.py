"""Makes the pictures of docs/data.md: 12 samples of the embedded set under each crop policy.

python docs/make_pictures.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from kit.competition import COMPETITIONS
from kit.data import synthetic
from kit.data.contact import mosaic
from kit.data.crops import CROPS, CropSettings
from kit.data.packed import Batches
from kit.data.prepare import prepare

IMAGES = Path(__file__).parent / "images"
COUNT, COLUMNS = 12, 6


def main() -> None:
    """Draws a small embedded set and crops it by each policy."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = synthetic.draw(folder / "demo", seed=0, pictures=240)
        for policy in CROPS:
            prepared = prepare(
                source,
                competition=COMPETITIONS["generative-dog-images"],
                out=folder / policy,
                crop=CropSettings(policy=policy),
                max_rejected=0.2,
            )
            batches = Batches(prepared, seed=3, device=torch.device("cpu"), flip=False)
            pictures = batches.draw(0, COUNT)[0].permute(0, 2, 3, 1).numpy()
            tiles = ((pictures + 1) * 127.5).round().astype(np.uint8)
            mosaic(tiles, columns=COLUMNS).save(IMAGES / f"crop-{policy}.png", optimize=True)


if __name__ == "__main__":
    main()
