"""The pages in a real browser."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pytest
from PIL import Image

from kit.report.comparison import write_comparison
from kit.report.page import write_report
from kit.report.page_pictures import Gallery, Nearest
from kit.scoring.score_record import FeaturesRecord

pytestmark = pytest.mark.browser

NOW = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)
HOSTILE = "</script><script>alert(1)</script>\"'\u202eكلاب" + "x" * 170
OTHER = FeaturesRecord(
    name="inception",
    weights="8" * 64,
    input_size=299,
    resize="pillow-bicubic",
    mean=(0, 0, 0),
    std=(1, 1, 1),
    dtype="float32",
)


@pytest.fixture(scope="module")
def pages(make_run, make_score, tmp_path_factory):
    """A page of each kind by its name."""
    folder = tmp_path_factory.mktemp("pages")
    full = make_run(folder / "full", ticks=40)
    make_score(full, flags=("uncalibrated",))
    hostile = {"name": HOSTILE, "digest": "d" * 64, "size": 8, "channels": 3, "path": HOSTILE}
    made = {
        "full": full,
        "going": make_run(folder / "going", ticks=1, state="running", age_s=1),
        "hostile": make_run(folder / "hostile", name=HOSTILE, changes={"data": hostile, "why": HOSTILE}),
    }
    alarms = [HOSTILE, "D tells every picture apart (its loss is 0.001): G learns little from it"]
    lines = (made["full"] / "progress.jsonl").read_text().splitlines()
    columns = {"grad_d": 2.0, "grad_g": 0.5, "lr_d": 2e-4, "lr_g": 1e-4, "diversity": 40.0, "alarms": alarms}
    rich = [json.dumps({**json.loads(line), **columns}) for line in lines]
    (made["full"] / "progress.jsonl").write_text("\n".join(rich))
    gallery = Gallery(
        interpolation=[Image.new("RGB", (40, 40), (4 * step, 80, 80)) for step in range(20)],
        classes={name: Image.new("RGB", (70, 16), "teal") for name in (HOSTILE, *map(str, range(29)))},
    )
    nearest = Nearest(
        sheet=Image.new("RGB", (94, 90), "olive"),
        rows=8,
        each=4,
        looked_at=512,
        features="random",
        distance=0.125,
        difference=9.75,
    )
    extras = {"full": {"gallery": gallery, "nearest": nearest}}
    reports = {name: write_report(run, now=NOW, **extras.get(name, {})) for name, run in made.items()}
    runs = [make_run(folder / f"r{i}", ticks=3 + 5 * i, recipe={"width": 16 * (1 + i % 2)}) for i in range(4)]
    for run, fid in zip(runs[:3], (70.0, 50.0, 60.0), strict=True):
        make_score(run, fid=fid)
    make_score(runs[3], fid=5.0, features=OTHER)
    return {**reports, "comparison": write_comparison([*runs, made["hostile"]], folder / "all.html", now=NOW)}


KINDS = ("full", "going", "hostile", "comparison")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_asked_for_nothing_complains_every_picture_decodes(browser, pages, kind):
    browser.open(pages[kind])
    broken = browser.run("return [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)")
    assert broken == []
    assert browser.run("return document.images.length") > 0
    assert browser.complaints() == []
    assert browser.requests() == [pages[kind].resolve().as_uri()]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wider_than_the_screen(browser, pages, kind):
    for width in (380, 760, 1400):
        browser.open(pages[kind], width=width)
        assert browser.run("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("kind", ["full", "comparison"])
@pytest.mark.parametrize(("scheme", "width"), [("light", 380), ("dark", 1100)])
def test_axe_finds_no_barrier(browser, axe, pages, kind, scheme, width):
    browser.open(pages[kind], scheme=scheme, width=width)
    browser.run(axe)
    result = browser.driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    assert len(result["passes"]) > 10
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in result["violations"]] == []


def test_the_schemes_differ_and_paper_is_light(browser, pages):
    def ground(**how):
        browser.open(pages["full"], **how)
        colour = browser.run("return getComputedStyle(document.body).getPropertyValue('--paper')").strip()
        return sum(int(colour[i : i + 2], 16) for i in (1, 3, 5)) / 3

    assert ground(scheme="light") > 200
    assert ground(scheme="dark") < 60
    assert ground(scheme="dark", media="print") > 200
    assert browser.run("return getComputedStyle(document.querySelector('.film-tools')).display") == "none"


def hover(browser, area, share):
    from selenium.webdriver import ActionChains

    browser.run("arguments[0].scrollIntoView({block: 'center'})", area)
    width = area.size["width"]
    ActionChains(browser.driver).move_to_element_with_offset(area, math.floor((share - 0.5) * width), 0).perform()


def test_curves_answer_the_mouse_and_the_keys(browser, pages):
    from selenium.webdriver.common.keys import Keys

    browser.open(pages["full"])
    at_rest = browser.text(".legend .where"), browser.text(".legend .value")
    area = browser.find(".chart .area")
    hover(browser, area, 0.5)  # 40 ticks of 100 pictures: the middle is tick 20
    assert browser.text(".legend .where") == "at 2,000 pictures"
    assert browser.text(".legend .value") == f"{1.5 / 20:.3f}"
    assert browser.find(".chart .cursor").is_displayed()
    hover(browser, browser.find("h1"), 0.5)
    assert (browser.text(".legend .where"), browser.text(".legend .value")) == at_rest
    assert at_rest == ("at the end", f"{1.5 / 40:.3f}")
    area.send_keys(Keys.HOME)
    assert browser.text(".legend .value") == "1.500"
    area.send_keys(Keys.ARROW_RIGHT)
    assert browser.text(".legend .where") == "at 200 pictures"
    assert area.get_attribute("aria-valuetext") == "at 200 pictures, D 0.750, G 1.000"


def test_a_line_stands_where_its_readout_says(browser, pages):
    browser.open(pages["full"])
    hover(browser, browser.find(".chart .area"), 0.25)
    distance = browser.run("""
        const area = document.querySelector(".chart .area"), dot = area.querySelector(".dot");
        const path = area.querySelector(".line"), box = area.getBoundingClientRect();
        const at = dot.getBoundingClientRect(), x = at.left + at.width / 2, y = at.top + at.height / 2;
        let best = 1e9;
        for (let s = 0; s <= path.getTotalLength(); s += 1) {
          const p = path.getPointAtLength(s);
          const px = box.left + p.x / 1000 * box.width, py = box.top + p.y / 1000 * box.height;
          best = Math.min(best, Math.hypot(px - x, py - y));
        }
        return best""")
    assert distance < 1.5


def test_the_film_plays_and_is_searched(browser, pages):
    from selenium.webdriver.common.keys import Keys

    browser.open(pages["full"])
    slider = browser.find(".film-tools input")
    slider.send_keys(Keys.HOME)
    first = browser.find(".film img").get_attribute("src")
    assert browser.text(".film-tools output") == "0 seen"
    slider.send_keys(Keys.END)
    last = browser.find(".film img").get_attribute("src")
    assert browser.text(".film-tools output") == "4,000 seen"
    assert first != last
    browser.find(".film-tools button").click()
    assert browser.text(".film-tools button") == "Pause"
    browser.driver.execute_async_script("setTimeout(arguments[arguments.length - 1], 700)")
    browser.find(".film-tools button").click()
    moved = int(browser.find(".film-tools input").get_property("value"))
    assert 0 < moved < 40
    assert browser.find(".film img").get_property("naturalWidth") > 0


def test_the_classes_grow_together_and_the_page_does_not(browser, pages):
    browser.open(pages["full"])
    strips = browser.driver.find_elements("css selector", ".classes img")
    assert len(strips) == 30
    before = strips[0].size["width"]
    block = browser.find("[data-enlarge]")
    larger, smaller = block.find_elements("css selector", "button")[::-1]
    for _ in range(6):
        larger.click()
    assert browser.text("[data-enlarge] output") == "4×"
    assert strips[0].size["width"] > 2 * before
    assert browser.run("return document.documentElement.scrollWidth") <= 1100
    for _ in range(6):
        smaller.click()
    assert strips[0].size["width"] == before


def test_the_grid_grows_without_the_page_growing(browser, pages):
    browser.open(pages["full"])
    image, view = browser.find(".zoom img"), browser.find(".zoom-view")
    width, height = image.size["width"], view.size["height"]
    browser.run("arguments[0].scrollIntoView({block: 'center'})", view)
    image.click()
    assert 2 * width - 40 < image.size["width"] <= 2 * width  # a scroll bar takes its share
    assert view.size["height"] == height
    view.send_keys("+")
    assert browser.text(".zoom-tools output") == "3×"
    for _ in range(4):
        browser.find(".zoom-tools button[data-by='-1']").click()
    assert image.size["width"] == width


def test_the_command_is_copied(browser, pages):
    browser.open(pages["full"])
    button = browser.find("#again ~ .copy:last-child button, section .copy:last-child button")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    browser.driver.execute_async_script("setTimeout(arguments[arguments.length - 1], 200)")
    assert button.text in ("Copied", "Selected")


def column(browser, index):
    return browser.run(
        f"return [...document.querySelectorAll('.sortable tbody tr')].map(r => r.cells[{index}].innerText.trim())"
    )


def test_the_table_sorts_numbers_as_numbers_and_says_which_way(browser, pages):
    browser.open(pages["comparison"])
    heads = browser.driver.find_elements("css selector", ".sortable th button")
    seen = [head.text for head in heads].index("pictures seen")
    heads[seen].click()
    ascending = [int(cell.replace(",", "")) for cell in column(browser, seen)]
    assert ascending == sorted(ascending) == [300, 800, 1200, 1300, 1800]
    heads[seen].click()
    assert [int(cell.replace(",", "")) for cell in column(browser, seen)] == ascending[::-1]
    assert browser.run("return document.querySelectorAll('[aria-sort]').length") == 1
    assert browser.find("[aria-sort]").get_attribute("aria-sort") == "descending"


def test_a_score_never_sorts_among_those_of_another_kind(browser, pages):
    browser.open(pages["comparison"])
    heads = browser.driver.find_elements("css selector", ".sortable th button")
    fid = [head.text for head in heads].index("FID")
    for expected in (["50.00", "60.00", "70.00"], ["70.00", "60.00", "50.00"]):
        heads[fid].click()
        assert column(browser, fid) == [*expected, "5.00", "–"]
    assert column(browser, fid + 2)[3] == "B 1"


def test_curves_are_laid_over_pictures_or_over_time(browser, pages):
    browser.open(pages["comparison"])

    def names():
        return browser.run(
            "return [...document.querySelectorAll('.x-name')].filter(e => e.offsetParent).map(e => e.innerText)"
        )

    assert set(names()) == {"pictures seen"}
    browser.find("input[value=seconds]").click()
    assert set(names()) == {"seconds since the start"}
    area = browser.find("[data-over=seconds] .area")
    hover(browser, area, 0.5)
    assert browser.text("[data-over=seconds] .legend .where").startswith("after ")


def test_hostile_names_stay_text(browser, pages):
    for kind in ("hostile", "comparison"):
        browser.open(pages[kind])
        assert browser.run("return document.scripts.length") == (3 if kind == "hostile" else 2)
        assert browser.complaints() == []
    browser.open(pages["hostile"])
    assert browser.text("h1 bdi") == HOSTILE
