from __future__ import annotations

import base64
import html
import io
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from kit.report import page_pictures
from kit.report.page import write_report
from kit.report.run_data import grids
from kit.scoring.score_record import Details, Interval

NOW = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)
VOID = {"meta", "link", "img", "input", "br", "path"}
HOSTILE = {
    "script": "<script>alert(1)</script>",
    "closing": "</script></title></style>--><img src=x onerror=alert(1)>",
    "quotes": '"\'`&quot; onmouseover="alert(1)',
    "right-to-left": "\u202eكلاب\u202c",
    "template": "{{ 7 * 7 }}{% raw %}",
    "half a character": "a\ud800b",
}


class Page(HTMLParser):
    """Collects what a page is made of, and whether every element is closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.texts, self.scripts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.scripts if self.open and self.open[-1] in ("script", "style") else self.texts).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join("".join(self.texts).split())


def parsed(path):
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    return page


def data(page, identity):
    index = [a.get("id") for a in page.all("script")].index(identity)
    blocks = re.findall(r"<script[^>]*>(.*?)</script>", page.source, re.S)
    return json.loads(blocks[index])


def read_page(path):
    page = parsed(path)
    page.source = path.read_text(encoding="utf-8")
    return page


def test_the_page_says_what_the_run_was(make_run, make_score, tmp_path):
    run = make_run(tmp_path / "run")
    make_score(run, fid=61.25)
    page = read_page(write_report(run, now=NOW))
    for fact in (
        "dcgan trained on demo",
        "The time to train was used.",
        "1,200",
        "61.25",
        "resnet18",
        "seed",
        "kit reproduce",
    ):
        assert fact in page.text
    assert "A budget of 1m40s, 1m14s of it used" in page.text


def test_the_page_asks_for_nothing(make_run, tmp_path):
    page = read_page(write_report(make_run(tmp_path / "run"), now=NOW))
    addresses = [a[key] for _, a in page.tags for key in ("src", "href", "srcset", "action", "poster") if key in a]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"https?://|url\(|@import", page.source)
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert "default-src 'none'" in policy


def test_every_picture_decodes_and_has_a_text(make_run, tmp_path):
    page = read_page(write_report(make_run(tmp_path / "run"), now=NOW))
    images = page.all("img")
    assert len(images) == 2
    assert images[1]["alt"] == "16 generated pictures in 4 columns, drawn after 1,200 real pictures had been seen"
    film = data(page, "film")
    assert film["pictures"] == [100 * k for k in range(13)]
    for uri in [image["src"] for image in images] + film["frames"]:
        Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).load()


def test_the_last_grid_is_there_to_the_pixel(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    page = read_page(write_report(run, now=NOW))
    shown = Image.open(io.BytesIO(base64.b64decode(page.all("img")[1]["src"].partition(",")[2])))
    with Image.open(grids(run)[-1].path) as grid:
        assert np.array_equal(np.asarray(shown), np.asarray(grid))


def test_a_large_run_stays_under_ten_megabytes(make_run, tmp_path):
    run = make_run(tmp_path / "run", ticks=130, size=4)
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    big = Image.fromarray(noise)
    for grid in grids(run)[-6:]:
        big.save(grid.path, compress_level=1)
    path = write_report(run, now=NOW)
    assert path.stat().st_size < 10_000_000
    assert data(read_page(path), "film")["pictures"][-1] == 13_000


@pytest.mark.parametrize("most", [2_000, 20_000])
def test_embedded_pictures_keep_to_their_limit(make_run, tmp_path, most):
    run = make_run(tmp_path / "run", ticks=40, size=32)
    assert len(page_pictures.picture(grids(run)[-1].path, most=most).uri) <= most * 4 / 3 + 40
    frames = page_pictures.frames(grids(run), most=most)
    assert frames[-1].pictures == 4_000
    assert sum(len(frame.uri) for frame in frames) <= most * 4 / 3 + 40 * len(frames) or len(frames) == 1


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_are_text(make_run, make_score, tmp_path, hostile):
    device = {"type": hostile, "name": hostile, "precision": hostile, "threads": 2}
    set_ = {"name": hostile, "digest": hostile, "size": 8, "channels": 3, "path": hostile}
    changes = {"why": hostile, "device": device, "data": set_, "competition": hostile, "versions": {hostile: hostile}}
    calm = read_page(write_report(make_run(tmp_path / "calm"), now=NOW))
    run = make_run(tmp_path / "run", name="calm")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "name": hostile, **changes}))
    page = read_page(write_report(run, now=NOW))
    shown = " ".join(hostile.encode("utf-8", "replace").decode().split())
    assert page.text.count(shown) >= 6  # to the letter: a template in it was not filled in

    def shape(of):
        skeleton = [(tag, sorted(attributes)) for tag, attributes in of.tags]
        return [entry for entry in skeleton if entry[0] not in ("bdi", "dd", "div", "dt")]

    assert shape(page) == shape(calm)
    assert "alert" not in "".join(page.scripts)


@pytest.mark.parametrize(
    ("state", "age_s", "said"),
    [
        ("running", 5, "The run goes on. Everything here is right up to its last tick, at 300 pictures."),
        ("running", 90_000, "Nothing has been written since 2030-01-01 11:00 UTC: the run was probably killed."),
        ("stopped", 5, "It was cut short at 300 pictures, and can go on with kit train … --resume."),
        ("failed", 5, "It failed at 300 pictures."),
    ],
)
def test_a_run_without_its_end_says_so(make_run, tmp_path, state, age_s, said):
    run = make_run(tmp_path / "run", ticks=3, state=state, age_s=age_s)
    page = read_page(write_report(run, now=NOW))
    assert said in page.text
    assert "No score has been taken." in page.text
    assert "kit reproduce" not in page.text


@pytest.mark.parametrize("ticks", [0, 1])
def test_a_run_of_no_tick_or_one(make_run, tmp_path, ticks):
    page = read_page(write_report(make_run(tmp_path / "run", ticks=ticks, state="running"), now=NOW))
    assert ("No tick has been written yet" in page.text) == (ticks == 0)
    assert len(page.all("figure")) == 2 + 3 * ticks


def test_a_score_of_another_zip_is_said(make_run, make_score, tmp_path):
    run = make_run(tmp_path / "run")
    make_score(run, archive="0" * 64, flags=("uncalibrated",))
    text = read_page(write_report(run, now=NOW)).text
    assert "This is the score of another images.zip" in text
    assert "Uncalibrated:" in text
    assert "No leaderboard number" in text


DETAILS = Details(
    fid_interval=Interval(low=48.5, high=52.25, level=0.95, method="jackknife"),
    mifid_interval=None,
    fid_infinity=49.5,
    kid=0.0125,
    kid_std=0.0005,
    kid_subset=100,
    precision=0.75,
    recall=0.5,
    density=1.125,
    coverage=0.625,
    prdc_count=5000,
)


def test_a_score_has_its_interval_and_all_that_stands_beside_it(make_run, make_score, tmp_path):
    run = make_run(tmp_path / "run")
    make_score(run, details=DETAILS)
    text = read_page(write_report(run, now=NOW)).text
    for said in (
        "FID, interval48.50 to 52.25for N → ∞, 95%, jackknife",
        "FID∞49.5000",
        "KID0.01250 ± 0.00050over subsets of 100 pictures",
        "Precision0.750",
        "Recall0.500",
        "Density1.125",
        "Coverage0.625",
        "at most 5,000 pictures a side",
    ):
        assert said in text
    assert "MiFID, interval" not in text  # the distance may lie on either side of the threshold


@pytest.mark.parametrize(
    ("distance", "said", "refused"),
    [(0.3, "200% above ε = 0.1", False), (0.11, "10% above ε = 0.1", True), (0.05, "50% below ε = 0.1", True)],
)
def test_the_memorization_margin_is_said_and_what_is_too_near(make_run, make_score, tmp_path, distance, said, refused):
    run = make_run(tmp_path / "run")
    make_score(run, distance=distance)
    text = read_page(write_report(run, now=NOW)).text
    assert said in text
    assert ("too near to the training set" in text) == refused


def test_scores_taken_on_the_way_are_curves_with_their_threshold(make_run, make_score, tmp_path):
    run = make_run(tmp_path / "run")
    score = make_score(run).to_json()
    moments = [{"pictures": 100 * k, "seconds": 10.0 + 5 * k, "score": {**score, "fid": 90.0 - k}} for k in (2, 4, 6)]
    record = json.loads((run / "run.json").read_text()) | {"candidates": moments}
    (run / "run.json").write_text(json.dumps(record))
    page = read_page(write_report(run, now=NOW))
    charts = data(page, "charts")
    assert [curve["y"] for curve in charts["score-pictures"]["curves"]] == [[50] * 3, [88, 86, 84]]
    assert {c["label"]: c["y"] for c in charts["distance-pictures"]["curves"]} == {
        "generated to nearest real": [0.3] * 3,
        "threshold ε": [0.1] * 3,
    }


def test_what_training_writes_is_what_the_page_reads(make_set, tmp_path):
    import kit.run
    from kit.core.clock import Stopwatch
    from kit.report.films import film

    class Silent:
        def on_plan(self, record): ...
        def on_tick(self, tick): ...
        def on_progress(self, stage, done, total): ...

    from kit.models import registry

    prepared = make_set(tmp_path / "set", n=16, size=16)
    small = registry.get("dcgan").override(["width=4", "batch=4"])
    job = kit.run.RunConfig(recipe=small, data=prepared.path, out=tmp_path / "run", images=16, count=4)
    run = kit.run.train(job, clock=Stopwatch(), callback=Silent()).path
    assert film(run).frames == len(grids(run)) >= 2
    page = read_page(write_report(run))
    assert "All pictures were seen. It ended after 16 pictures." in page.text
    assert len(page.all("figure")) == 8  # film, grid, and six charts: without a budget there is none of its use
    assert html.unescape("kit train --model dcgan --images 16") in page.text
