"""Run folders as training leaves them, and a browser to look at their pages with."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_tools import result_record, run_record

from kit.data.grid import make_grid
from kit.models.registry import MODELS
from kit.scoring.score_record import FeaturesRecord, ReferenceRecord, Score
from kit.training.run_record import DataRecord, PartRecord, PlanRecord, SecondsRecord

NOW = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)
"""The time at which the tests' pages are written."""


def write_run(
    path: Path,
    *,
    ticks: int = 12,
    name: str | None = None,
    model: str = "dcgan",
    seed: int = 0,
    state: str = "finished",
    why: str = "the time to train was used",
    age_s: float = 60.0,
    budget_s: float | None = 100.0,
    size: int = 8,
    changes: dict[str, Any] | None = None,
    recipe: dict[str, Any] | None = None,
) -> Path:
    """A run folder with a tick every 5 s from second 15 on and 100 pictures each, as `kit train` writes it.

    `age_s` is how long before NOW it was last written to; `changes` replaces entries of run.json.
    """
    samples = path / "samples"
    samples.mkdir(parents=True)
    for tick in range(ticks + 1):
        rng = np.random.default_rng([seed, tick])
        tiles = rng.integers(0, 256, (16, size, size, 3), dtype=np.uint8)
        make_grid(tiles, columns=4).save(samples / f"{100 * tick:010d}.png")
    lines = [
        {
            "pictures": 100 * tick,
            "loss_d": 1.5 / tick,
            "loss_g": 0.5 + 0.25 * tick,
            "d_real": 1 - 0.5 / tick,
            "d_fake": 0.5 / tick,
            "seconds": 10.0 + 5.0 * tick,
            "pictures_per_s": 20.0,
        }
        for tick in range(1, ticks + 1)
    ]
    (path / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ended = 10.0 + 5.0 * ticks
    plan = PlanRecord(at=0, budget_s=budget_s or 0.0, started_s=10.0, reserve_s=12.0, total_images=1500)
    fields: dict[str, Any] = {
        "state": state,
        "why": why,
        "recipe": dataclasses.replace(MODELS[model].recipe, **(recipe or {})),
        "seed": seed,
        "images": None if budget_s else 100 * ticks,
        "count": 256,
        "budget_s": budget_s,
        "data": DataRecord(name="demo", digest="d" * 64, size=size, channels=3, path="data/demo"),
        "versions": {"python": "3.12.1", "torch": "2.14.1"},
        "commit": "c" * 40,
        "dirty": False,
        "tree": "e" * 64,
        "plans": [plan] if budget_s else [],
        "pictures": 100 * ticks,
        "parts": [PartRecord(start=0, stop=100 * ticks, seconds=ended)],
    }
    if state == "finished":
        fields["seconds"] = SecondsRecord(finishing=4.0, generating=3.0, in_all=ended + 4.0)
        fields["result"] = result_record(100 * ticks)
    run_record(path.name if name is None else name, **fields).save(path / "run.json")
    if changes:
        written = json.loads((path / "run.json").read_text())
        (path / "run.json").write_text(json.dumps({**written, **changes}))
    written = NOW.timestamp() - age_s
    for file in path.rglob("*"):
        os.utime(file, (written, written))
    return path


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """A function that writes a run folder: `make_run(tmp_path / "run", ticks=3)`, see `write_run`."""
    return write_run


def network_record(name: str, *, weights: str = "9" * 64) -> FeaturesRecord:
    """A feature network as a score records it."""
    half = (0.5, 0.5, 0.5)
    return FeaturesRecord(
        name=name, weights=weights, input_size=64, resize="pillow-bicubic", mean=half, std=half, dtype="float32"
    )


def write_score(run: Path, *, fid: float = 50.0, **changes: Any) -> Score:
    """A score.json in a run's folder."""
    against = ReferenceRecord(name="demo", digest="d" * 64, kind="whole", split="all", count=1200)
    network = network_record("resnet18")
    fields: dict[str, Any] = {
        "fid": fid,
        "distance": 0.3,
        "mifid": fid,
        "epsilon": 0.1,
        "epsilon_origin": "half the distance of held-out crops",
        "features": network,
        "reference": against,
        "count": 256,
        "size": 64,
        "flags": (),
        "seconds": 3.0,
        "archive": "a" * 64,
    }
    score = Score(**{**fields, **changes})
    score.save(run / "score.json")
    return score


@pytest.fixture(scope="session")
def make_score() -> Callable[..., Score]:
    """A function that writes a score into a run's folder, see `write_score`."""
    return write_score


CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "chrome")

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # in a container, as root, there is no other way
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def _without(reason: str) -> None:
    """Skips in the open, or fails where a browser is required (`KIT_BROWSER=required`)."""
    if os.environ.get("KIT_BROWSER") == "required":
        pytest.fail(f"{reason}, and KIT_BROWSER=required", pytrace=False)
    pytest.skip(f"{reason}: run `make browser`")


@pytest.fixture(scope="session")
def _chromium() -> Iterator[Any]:
    binary = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        _without("no Chromium with its chromedriver on the path")
        return
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        _without("selenium is not installed")
        return
    with tempfile.TemporaryDirectory(prefix="kit-chromium-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        browser = webdriver.Chrome(options=options, service=Service(driver))
        browser.set_script_timeout(300)  # axe on a busy machine: slowness is no barrier
        try:
            yield Browser(browser)
        finally:
            browser.quit()


@pytest.fixture(scope="session")
def axe() -> str:
    """The accessibility check, as a script to be run in a page."""
    found = importlib.util.find_spec("axe_core_python")
    if found is None or found.origin is None:
        _without("axe-core-python is not installed")
        return ""
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


class Browser:
    """A headless Chromium with what these tests ask of it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, *, scheme: str = "light", width: int = 1100, media: str = "screen") -> None:
        """Opens a page in a colour scheme and a width."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)  # forgets what pages before left
        self.driver.get(page.resolve().as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function body of JavaScript returns."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        """The first element that matches."""
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        """The first match's text, shown or not."""
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector)).strip()

    def complaints(self) -> list[str]:
        """What stands on the console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Every address that was asked for since the page was opened, but pictures inside it."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]


@pytest.fixture
def browser(_chromium: Any) -> Any:
    """A headless Chromium, one for all tests; skips, in the open, where there is none."""
    return _chromium
