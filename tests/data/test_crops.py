import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dog_files import photo, psnr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kit.core.errors import KitError
from kit.data import crops
from kit.data.crops import (
    CROPS,
    FILTER,
    Box,
    CropSettings,
    cut,
    import_albumentations,
    plan,
    resize_to_square,
    to_canvas,
)
from kit.data.decoding import open_picture
from kit.data.tree import open_tree

BOXED = [name for name, policy in CROPS.items() if policy.region]
SIDES = st.integers(1, 300)
NUMBERS = st.floats(-400, 700) | st.integers(-400, 700) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0])
BOXES = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=5)
SETTINGS = st.builds(
    CropSettings,
    margin_percent=st.sampled_from([0.0, 12.5]),
    margin_px=st.sampled_from([0, 10]),
    min_side=st.sampled_from([0, 40]),
    max_aspect=st.sampled_from([None, 2.0]),
)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.asarray(open_picture(photo(300, 200)).decode(3, least=1, size=64)[0])


@pytest.mark.parametrize("policy", CROPS)
@settings(max_examples=50, deadline=None)
@given(boxes=BOXES, width=SIDES, height=SIDES, chosen=SETTINGS)
def test_whatever_the_boxes_every_crop_lies_in_the_picture_and_the_counts_add_up(
    policy: str, boxes: list[tuple[float, ...]], width: int, height: int, chosen: CropSettings
) -> None:
    result = plan(boxes, width, height, policy, chosen)
    for crop in result.crops:
        if crop.box is not None:
            xmin, ymin, xmax, ymax = crop.box
            assert 0 <= xmin < xmax <= width
            assert 0 <= ymin < ymax <= height
            assert all(isinstance(side, int) for side in crop.box)
    kept = sum(crop.box is not None for crop in result.crops)
    assert result.listed == kept + result.dropped.total() + result.filtered.total()
    assert result.listed == (len(boxes) if policy in BOXED and result.listed else 0)
    assert bool(result.crops) == (result.left_out is None)
    whole = [crop for crop in result.crops if crop.box is None]
    assert len(whole) <= 1
    assert not (whole and kept)
    if policy in BOXED and whole:
        assert "the whole picture taken" in str(whole[0].repair)


@settings(max_examples=50, deadline=None)
@given(box=st.tuples(*[st.floats(-50, 250, width=16)] * 4), width=SIDES, height=SIDES)
def test_clamping_is_that_of_albumentations(box: tuple[float, float, float, float], width: int, height: int) -> None:
    import_albumentations()
    import albumentations as A

    xmin, xmax = sorted((box[0], box[2]))
    ymin, ymax = sorted((box[1], box[3]))
    result = plan([(xmin, ymin, xmax, ymax)], width, height, "box", CropSettings())
    clip = A.Compose([A.NoOp()], A.BboxParams("pascal_voc", clip=True, filter_invalid_bboxes=True))
    expected = clip(image=np.zeros((height, width, 3), np.uint8), bboxes=[(xmin, ymin, xmax, ymax)])["bboxes"]
    if not len(expected):
        assert result.crops[0].box is None
        return
    (found,) = result.crops
    # Whole pixels, so up to one further out on each side; albumentations computes in shares of float32.
    assert found.box is not None
    for side, (got, want) in enumerate(zip(found.box, expected[0], strict=True)):
        outwards = want - got if side < 2 else got - want
        assert -0.01 <= outwards <= 1.01


@settings(deadline=None)
@given(data=st.data(), width=SIDES, height=SIDES)
def test_a_square_holds_its_box_and_is_square_as_far_as_the_picture_allows(
    data: st.DataObject, width: int, height: int
) -> None:
    xs = sorted(data.draw(st.lists(st.integers(0, width), min_size=2, max_size=2, unique=True)))
    ys = sorted(data.draw(st.lists(st.integers(0, height), min_size=2, max_size=2, unique=True)))
    box: Box = (xs[0], ys[0], xs[1], ys[1])
    xmin, ymin, xmax, ymax = crops.squared(box, width, height)
    assert xmin <= box[0]
    assert ymin <= box[1]
    assert xmax >= box[2]
    assert ymax >= box[3]
    side = max(box[2] - box[0], box[3] - box[1])
    assert (xmax - xmin, ymax - ymin) == (min(side, width), min(side, height))
    # About the box's centre wherever the picture's edge does not push it.
    for low, high, old_low, old_high, limit in ((xmin, xmax, *box[::2], width), (ymin, ymax, *box[1::2], height)):
        if low > 0 and high < limit:
            assert abs((low + high) - (old_low + old_high)) <= 1


BAD_BOXES = {
    (50, 10, 20, 30): "inverted",
    (10, 30, 20, 10): "inverted",
    (10, 10, 10, 30): "empty",
    (10, 10, 20, 10): "empty",
    (100, 10, 120, 30): "outside",
    (10, -30, 20, 0): "outside",
    (math.nan, 10, 20, 30): "not a number",
    (10, 10, math.inf, 30): "not a number",
}


@pytest.mark.parametrize("box", BAD_BOXES)
def test_a_bad_box_alone_gives_the_whole_picture_once(box: tuple[float, float, float, float]) -> None:
    result = plan([box, box], 100, 80, "box", CropSettings())
    assert result.crops == (
        crops.Crop(None, f"box 1 is {BAD_BOXES[box]}; box 2 is {BAD_BOXES[box]}: the whole picture taken"),
    )
    assert result.dropped == {BAD_BOXES[box]: 2}


def test_good_boxes_survive_bad_ones_and_repairs_are_noted() -> None:
    result = plan([(1, 2, 3, 4), (9, 9, 5, 5), (90, 70, 130, 90)], 100, 80, "box", CropSettings())
    assert result.crops == (
        crops.Crop((1, 2, 3, 4), "box 2 is inverted, left out"),
        crops.Crop((90, 70, 100, 80), "box clamped to the picture"),
    )
    assert result.clamped == 1
    assert plan([], 100, 80, "box", CropSettings()).crops == (crops.Crop(None, "no box: the whole picture taken"),)
    assert plan(None, 100, 80, "box", CropSettings()).crops == (crops.Crop(None),)


@pytest.mark.parametrize("policy", BOXED)
def test_margins_widen_the_box_inside_the_picture(policy: str) -> None:
    wider = CropSettings(margin_percent=10, margin_px=3)
    (found,) = plan([(20, 30, 60, 50)], 200, 150, policy, wider).crops
    grown = (20 - 7, 30 - 5, 60 + 7, 50 + 5)  # 10 % of 40 and of 20, and 3 px
    region = CROPS[policy].region
    assert region is not None
    assert found.box == region(grown, 200, 150)
    (edge,) = plan([(2, 2, 198, 148)], 200, 150, policy, wider).crops
    assert edge.box == (0, 0, 200, 150)


def test_filters_leave_out_boxes_and_pictures_but_never_fall_back_on_the_whole() -> None:
    small = CropSettings(min_side=20)
    result = plan([(0, 0, 19, 90), (0, 0, 20, 90)], 100, 100, "box", small)
    assert [crop.box for crop in result.crops] == [(0, 0, 20, 90)]
    assert result.filtered == {"a side under 20 px": 1}
    alone = plan([(0, 0, 19, 90)], 100, 100, "box", small)
    assert alone.crops == ()
    assert alone.left_out == "no box left: a side under 20 px"
    long = CropSettings(max_aspect=3)
    assert len(plan([(0, 0, 10, 30), (0, 0, 10, 31)], 100, 100, "square", long).crops) == 1
    assert plan(None, 100, 301, "whole", long).left_out == "over 3 times as long as broad"
    assert plan([(9, 9, 1, 1)], 100, 301, "box", long).left_out == "over 3 times as long as broad"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CropSettings(policy="sqare"), "did you mean 'square'"),
        (lambda: CropSettings(margin_percent=-1), "margin_percent"),
        (lambda: CropSettings(margin_percent=math.nan), "margin_percent"),
        (lambda: CropSettings(min_side=-1), "min_side"),
        (lambda: CropSettings(max_aspect=0.5), "max_aspect"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], CropSettings], words: str) -> None:
    with pytest.raises(KitError, match=words):
        make()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_crop_is_cut_and_resized_as_pillow_alone_would(pixels: np.ndarray, channels: int) -> None:
    source = pixels if channels == 3 else pixels[:, :, 0]
    box = (30, 20, 130, 150)  # under 2.5 times the target, so nothing is averaged first
    plain = Image.fromarray(source).crop(box).resize((64, 64), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(cut(source, box, 64), np.asarray(plain).reshape(64, 64, channels))


def test_a_crop_of_a_reduced_picture_is_where_it_belongs(pixels: np.ndarray) -> None:
    smooth = np.asarray(Image.fromarray(pixels).resize((600, 400), Image.Resampling.BICUBIC))
    half = np.asarray(Image.fromarray(smooth).reduce(2))
    box = (101, 51, 335, 287)
    assert psnr(cut(half, box, 64, reduced=2), cut(smooth, box, 64)) > 50
    assert psnr(cut(half, (95, 51, 329, 287), 64, reduced=2), cut(smooth, box, 64)) < 42  # six pixels beside


@settings(deadline=None)
@given(width=st.integers(1, 400), height=st.integers(1, 400), size=st.sampled_from([16, 28]))
def test_a_canvas_keeps_the_shape_and_holds_a_window(width: int, height: int, size: int) -> None:
    canvas = to_canvas(Image.new("RGB", (width, height), (1, 2, 3)), (width, height), size)
    h, w, channels = canvas.shape
    assert min(h, w) == size
    assert max(h, w) <= crops.MAX_CANVAS_ASPECT * size
    assert channels == 3
    aspect = min(max(width, height) / min(width, height), crops.MAX_CANVAS_ASPECT)
    assert abs(max(h, w) - aspect * size) <= 0.5
    assert (w >= h) == (width >= height) or w == h
    assert (canvas == (1, 2, 3)).all()


def test_a_long_picture_loses_its_ends_and_not_its_middle() -> None:
    strip = np.zeros((20, 200), np.uint8)
    strip[:, 70:130] = 200  # the middle three twentieths by three
    np.testing.assert_array_equal(to_canvas(Image.fromarray(strip), (200, 20), 20)[:, 2:-2], 200)


def test_shrinking_first_keeps_48_db_on_photographs(shared: Path, tmp_path: Path) -> None:
    tree = open_tree(shared / "dogs-originals" / "all-dogs.zip", spool=tmp_path)
    ratios = []
    with tree.reader() as reader:
        for entry in tree.entries[::11]:
            picture = open_picture(reader.read(entry))
            image, _ = picture.decode(3, least=1, size=64)
            fast = resize_to_square(image, image.size, 64)
            ratios.append(psnr(fast, np.asarray(image.resize((64, 64), FILTER))))
    assert len(ratios) > 30
    assert np.mean(ratios) >= 48


def test_albumentations_comes_without_torch_and_without_a_call_home() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise SystemExit('network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from kit.data.crops import import_albumentations\n"
        "import_albumentations()\n"
        "assert 'albumentations' in sys.modules and 'torch' not in sys.modules\n"
        "import importlib.util\n"
        "print(importlib.util.find_spec('torch') is not None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr
