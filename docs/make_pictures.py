"""Makes pictures of the documents.

python docs/make_pictures.py                                crops of docs/data.md: 12 samples under each crop policy
python docs/make_pictures.py --readme runs/dcgan-demo-1     the README's two, of what `make demo` has made: its dogs
                                                            with those it drew; its report in a headless Chromium
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import kit.demo
from kit.competition import COMPETITIONS
from kit.data import prepared_set
from kit.data.batches import Batches
from kit.data.crops import CROPS, CropSettings
from kit.data.grid import make_grid
from kit.data.prepare import prepare
from kit.generation.pictures import read_pictures, resize
from kit.training.run_folder import IMAGES as ZIP
from kit.training.run_folder import read_run

IMAGES = Path(__file__).parent / "images"
COUNT, COLUMNS = 12, 6


SHOWN, ACROSS, BETWEEN = 24, 8, 10
"""Pictures of the set and as many of the run, how many in a row, and pixels between the two."""

SCREEN = 1100, 1010
"""Width and height of the screenshot, pixels."""


def demo(run: Path) -> None:
    """Pictures from all over a run's set above the first of its zip."""
    prepared = prepared_set.load(Path(read_run(run).data.path))
    rows = np.linspace(0, len(prepared.images) - 1, SHOWN).astype(int)
    drawn = [pixels for _, pixels in read_pictures(run / ZIP, limit=SHOWN)]
    real = resize(prepared.images[rows], len(drawn[0]))
    above, below = (make_grid(tiles, columns=ACROSS) for tiles in (real, np.stack(drawn)))
    sheet = Image.new("RGB", (above.width, above.height + BETWEEN + below.height), "white")
    sheet.paste(above, (0, 0))
    sheet.paste(below, (0, above.height + BETWEEN))
    # In few colours, which takes a third of the bytes.
    few = sheet.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(IMAGES / "demo.png", optimize=True)


def report(run: Path) -> None:
    """The head of a run's report."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={SCREEN[0]},{SCREEN[1]}"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        size = {"width": SCREEN[0], "height": SCREEN[1], "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get((run / "report.html").resolve().as_uri())
        screen = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    finally:
        browser.quit()
    screen.save(IMAGES / "report.webp", quality=85, method=6)


def crops() -> None:
    """Draws a small embedded set and crops it by each policy."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = kit.demo.draw(folder / "demo", seed=0, pictures=240)
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
            make_grid(tiles, columns=COLUMNS).save(IMAGES / f"crop-{policy}.png", optimize=True)


def main() -> None:
    """Makes what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", type=Path, metavar="RUN", help="the README's pictures, of this run")
    run = parser.parse_args().readme
    if run is None:
        crops()
    else:
        demo(run)
        report(run)


if __name__ == "__main__":
    main()
