"""Makes pictures of the documents.

python docs/make_pictures.py                                crops of docs/data.md: 12 samples under each crop policy
python docs/make_pictures.py --report runs/dcgan-demo-1     the README's screenshot of a report, in a headless Chromium
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

from kit.competition import COMPETITIONS
from kit.data import synthetic
from kit.data.contact import mosaic
from kit.data.crops import CROPS, CropSettings
from kit.data.packed import Batches
from kit.data.prepare import prepare

IMAGES = Path(__file__).parent / "images"
COUNT, COLUMNS = 12, 6


SCREEN = 1100, 1010
"""Width and height of the screenshot, pixels."""


def report(run: Path) -> None:
    """The head of a run's report, in 64 colours: a quarter of the bytes."""
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
    few = screen.quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(IMAGES / "report.png", optimize=True)


def crops() -> None:
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


def main() -> None:
    """Makes what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, metavar="RUN", help="screenshot of this run's report.html")
    run = parser.parse_args().report
    report(run) if run else crops()


if __name__ == "__main__":
    main()
