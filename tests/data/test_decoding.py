import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from dog_files import photo, psnr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageOps

import kit
from kit.core.errors import KitError
from kit.data import decoding
from kit.data.archives import BadFile
from kit.data.crops import FILTER, resize_to_square
from kit.data.decoding import KEEP, MAX_DECODED, MAX_PIXELS, open_image, open_picture
from kit.data.tree import open_tree
from kit.generation.pictures import read_pictures

BLUE, SEE_THROUGH_RED = (0, 0, 255), (255, 0, 0, 0)


def save(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decode(data: bytes, channels: int = 3) -> tuple[np.ndarray, list[str]]:
    picture = open_picture(data)
    image, reduced = picture.decode(channels, least=1, size=64)
    assert reduced == 1
    assert image.size == (picture.width, picture.height)
    return np.asarray(image), picture.repairs


def grey16() -> Image.Image:
    return Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))


def animated() -> bytes:
    frames = [Image.new("P", (5, 4), n) for n in range(3)]
    for frame in frames:
        frame.putpalette([0, 0, 255, 9, 9, 9, 8, 8, 8])
    return save(frames[0], "GIF", save_all=True, append_images=frames[1:])


def transparent_palette() -> bytes:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.putpixel((1, 0), 1)
    return save(image, "PNG", transparency=1)


WHITE = (255, 255, 255)
KINDS = {
    "RGB PNG": (save(Image.new("RGB", (2, 1), BLUE), "PNG"), [BLUE, BLUE], None),
    "grey": (save(Image.new("L", (2, 1), 9), "PNG"), [(9, 9, 9)] * 2, None),
    "black and white": (save(Image.new("1", (2, 1), 1), "PNG"), [WHITE, WHITE], None),
    "palette": (save(Image.new("RGB", (2, 1), BLUE).quantize(4), "PNG"), [BLUE, BLUE], None),
    "RGBA": (save(Image.new("RGBA", (2, 1), SEE_THROUGH_RED), "PNG"), [WHITE, WHITE], "laid on white"),
    "half transparent": (save(Image.new("RGBA", (2, 1), (0, 0, 0, 51)), "PNG"), [(204,) * 3] * 2, "laid on white"),
    "grey with alpha": (save(Image.new("LA", (2, 1), (7, 255)), "PNG"), [(7, 7, 7)] * 2, "laid on white"),
    "palette with alpha": (transparent_palette(), [BLUE, WHITE], "laid on white"),
    "16 bits": (save(grey16(), "PNG"), [(0,) * 3, (1,) * 3, (128,) * 3, (255,) * 3], "16 bits brought to 8"),
    "CMYK": (save(Image.new("CMYK", (16, 16), (255, 255, 0, 0)), "JPEG"), [(0, 0, 255)] * 256, "CMYK brought to RGB"),
    "animated": (animated(), [BLUE] * 20, "first frame taken"),
    "BMP": (save(Image.new("RGB", (2, 1), BLUE), "BMP"), [BLUE, BLUE], None),
    "WebP": (save(Image.new("RGB", (2, 1), BLUE), "WEBP", lossless=True), [BLUE, BLUE], None),
    "TIFF": (save(Image.new("RGB", (2, 1), BLUE), "TIFF"), [BLUE, BLUE], None),
    "PGM": (b"P5 2 1 255\n\x05\x06", [(5, 5, 5), (6, 6, 6)], None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_becomes_eight_bits(kind: str) -> None:
    data, expected, repair = KINDS[kind]
    pixels, repairs = decode(data)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels.reshape(-1, 3), expected, atol=3 if kind == "CMYK" else 0)
    assert repairs == ([repair] if repair else [])
    grey, _ = decode(data, channels=1)
    weights = np.array([0.299, 0.587, 0.114])  # ITU-R 601, which Pillow's "L" is defined by
    np.testing.assert_allclose(grey.reshape(-1), np.array(expected) @ weights, atol=3 if kind == "CMYK" else 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_turned_picture_is_set_upright_and_its_boxes_with_it(kind: str, orientation: int) -> None:
    stored = Image.new("L", (48, 32), 20)
    stored.paste(240, (8, 4, 24, 12))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = save(stored, kind, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))

    picture = open_picture(data)
    image, _ = picture.decode(1, least=1, size=64)
    np.testing.assert_array_equal(np.asarray(image), upright)
    assert (picture.width, picture.height) == image.size
    if kind == "TIFF":
        return  # Pillow turns it before the kit sees it
    assert picture.repairs == (["turned upright"] if orientation != 1 else [])
    xmin, ymin, xmax, ymax = picture.exif_transpose((8, 4, 24, 12), stated=(48, 32))
    bright = np.zeros_like(upright, bool)
    bright[int(ymin) : int(ymax), int(xmin) : int(xmax)] = True
    np.testing.assert_array_equal(bright, upright > 128)


def test_boxes_stay_where_the_annotation_speaks_of_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = open_picture(save(Image.new("L", (48, 32)), "JPEG", exif=exif))
    assert picture.exif_transpose((1, 2, 3, 4), stated=(32, 48)) == (1, 2, 3, 4)
    assert picture.exif_transpose((1, 2, 3, 4), stated=None) == (28, 1, 30, 3)
    assert picture.exif_transpose((3, 4, 1, 2), stated=None) == (30, 3, 28, 1)  # inverted stays inverted


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, bits: int, colour: int, rows: bytes, before: bytes = b"") -> bytes:
    """A PNG of any depth and colour type; `before` are chunks that stand before its pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + (chunk(b"IHDR", header) + before)
        + (chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    )


def huge_png(width: int, height: int) -> bytes:
    return png(width, height, bits=8, colour=0, rows=b"\0")


GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6  # PNG's colour types


def deep_png(bits: int, colour: int, *, keyed: bool = False) -> bytes:
    """Noise; `keyed` calls the first pixel's value transparent."""
    channels = {GREY: 1, RGB: 3, GREY_ALPHA: 2, RGBA: 4}[colour]
    width, height = 16, 8
    values = np.random.default_rng(bits).integers(0, 2**bits, (height, width * channels), dtype=np.int64)
    if bits == 16:
        packed = values.astype(">u2").tobytes()
    else:
        flags = (values[:, :, None] >> np.arange(bits)[::-1]) & 1
        packed = np.packbits(flags.reshape(height, -1), axis=1).tobytes()
    stride = len(packed) // height
    rows = b"".join(b"\0" + packed[k * stride : (k + 1) * stride] for k in range(height))
    key = chunk(b"tRNS", values[0, :channels].astype(">u2").tobytes()) if keyed else b""
    return png(width, height, bits=bits, colour=colour, rows=rows, before=key)


def by_opencv(data: bytes) -> np.ndarray:
    """The picture on white, RGB in 0 to 1, as another library decodes it."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    pixels = decoded / np.iinfo(decoded.dtype).max
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.shape[2] == 4:
        pixels = pixels[:, :, :3] * pixels[:, :, 3:] + 1 - pixels[:, :, 3:]
    return pixels[:, :, ::-1]


def tiff(dtype: type[np.generic], channels: int) -> bytes:
    shape = (6, 7) if channels == 1 else (6, 7, channels)
    values = np.random.default_rng(channels).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    return bytes(cv2.imencode(".tif", values)[1])


def netpbm(kind: str, most: int) -> bytes:
    channels = 3 if kind == "P6" else 1
    values = np.random.default_rng(most).integers(0, most + 1, 5 * 4 * channels)
    return f"{kind} 5 4 {most}\n".encode() + values.astype(np.uint8 if most < 256 else ">u2").tobytes()


DEPTHS = {
    **{f"PNG grey {bits} bits": deep_png(bits, GREY) for bits in (1, 2, 4, 8, 16)},
    **{
        f"PNG {name} {bits} bits": deep_png(bits, kind)
        for name, kind in (("RGB", RGB), ("RGBA", RGBA))
        for bits in (8, 16)
    },
    **{f"PNG grey and alpha {bits} bits": deep_png(bits, GREY_ALPHA) for bits in (8, 16)},
    **{f"PNG RGB {bits} bits, a transparent colour": deep_png(bits, RGB, keyed=True) for bits in (8, 16)},
    **{f"TIFF {dtype.__name__} {n}": tiff(dtype, n) for dtype in (np.uint8, np.uint16) for n in (1, 3, 4)},
    **{f"{kind} up to {most}": netpbm(kind, most) for kind in ("P5", "P6") for most in (255, 65535)},
}


@pytest.mark.abuse("F31")
@pytest.mark.parametrize("kind", DEPTHS)
def test_every_depth_is_what_another_library_makes_of_it(kind: str) -> None:
    pixels, _ = decode(DEPTHS[kind])
    np.testing.assert_allclose(pixels / 255, by_opencv(DEPTHS[kind]), atol=2 / 255)  # one for the colour, one for alpha


@pytest.mark.abuse("F31")
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey_is_white_at_every_depth(bits: int) -> None:
    """OpenCV ignores it: compared with the same picture without."""
    plain, _ = decode(deep_png(bits, GREY))
    keyed, repairs = decode(deep_png(bits, GREY, keyed=True))
    transparent = (plain == plain[0, 0]).all(axis=2)
    assert "laid on white" in repairs
    assert (keyed[0, 0] == 255).all()
    np.testing.assert_array_equal(keyed[~transparent], plain[~transparent])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_in_which_white_is_zero_is_inverted(dtype: type[np.generic]) -> None:
    values = np.array([[0, np.iinfo(dtype).max]], dtype)
    data = bytearray(cv2.imencode(".tif", values, [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes())
    data[data.index(struct.pack("<HHI", 262, 3, 1)) + 8] = 0  # PhotometricInterpretation
    assert decode(bytes(data))[0][0, :, 0].tolist() == [255, 0]


JUNK = (
    b"junk",
    b"Exif\0\0junk",
    b"Exif\0\0II*\0\xff\xff\xff\xff",
    b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abcd",
)


@pytest.mark.abuse("F33")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("exif", JUNK)
def test_junk_in_exif_does_not_cost_the_picture(kind: str, exif: bytes) -> None:
    data = save(Image.new("RGB", (8, 8), BLUE), kind, exif=exif)
    assert decode(data)[0].shape == (8, 8, 3)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"


READERS: tuple[Callable[[Path], object], ...] = (
    lambda path: open_image(path.read_bytes()),
    lambda path: list(read_pictures(path.parent)),
)


@pytest.mark.abuse("A4")
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("read", READERS)
def test_no_path_lets_a_picture_start_ghostscript(
    suffix: str, read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*arguments: object, **options: object) -> None:
        pytest.fail("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    path = tmp_path / f"eps{suffix}"
    path.write_bytes(EPS)
    with pytest.raises((BadFile, KitError), match="no picture of a known format"):
        read(path)


@pytest.mark.abuse("A4")
def test_only_one_place_opens_pictures_that_the_kit_did_not_make() -> None:
    package = Path(kit.__file__).parent
    calling = {
        path.relative_to(package).as_posix() for path in package.rglob("*.py") if "Image.open(" in path.read_text()
    }
    assert calling == {"data/decoding.py", "demo/archive.py", "generation/pack.py"}  # the others open what they wrote


@pytest.mark.abuse("D18")
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc; getrusage counts the parent's memory, too")
@pytest.mark.parametrize("shape", [(5793, 5792, "RGBA"), (8192, 8192, "L")])
def test_a_process_that_reads_pictures_keeps_its_bound(shape: tuple[int, int, str], tmp_path: Path) -> None:
    width, height, mode = shape
    kind = "PNG" if mode == "RGBA" else "JPEG"
    Image.new(mode, (width, height), 200 if mode == "L" else (1, 2, 3, 100)).save(
        tmp_path / "big", kind, compress_level=1
    )
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from kit.data.decoding import open_picture\n"
        "picture = open_picture(Path(sys.argv[1]).read_bytes())\n"
        "image, _ = picture.decode(3, least=10, size=64)\n"
        "np.asarray(image).sum()\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "big"], capture_output=True, text=True, check=True)
    assert 1024 * int(done.stdout) < decoding.MAX_WORKER_BYTES


BAD = {
    "empty": (b"", "no picture"),
    "text": (b"<html></html>", "no picture"),
    "ends early": (photo(200, 200)[:2000], "damaged"),
    "PNG that ends early": (photo(200, 200, kind="PNG")[:2000], "damaged"),
    "100 megapixels": (huge_png(10_000, 10_000), "67 megapixels"),
    "a gigapixel": (huge_png(40_000, 40_000), "67 megapixels"),
    "just over": (huge_png(MAX_PIXELS // 1024 + 1, 1024), "65537×1024 pixels"),
    "a PNG over what is decoded": (huge_png(MAX_DECODED // 1024 + 1, 1024), "34 megapixels for a PNG"),
    "floating point": (save(Image.new("F", (2, 2), 0.5), "TIFF"), "floating-point"),
    "32 bits": (save(Image.fromarray(np.full((2, 2), 70_000, np.int32)), "TIFF"), "16 bits"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "no picture"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_a_sample_is_a_bad_file_with_the_reason(kind: str) -> None:
    data, words = BAD[kind]
    with pytest.raises(BadFile, match=words):
        decode(data)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_a_picture_or_a_bad_file(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"]))
    whole = bytearray(photo(20, 12, kind=kind))
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    mode = "RGB"
    try:
        picture = open_picture(bytes(whole))
        if picture.width * picture.height < 10**6:
            image, _ = picture.decode(3, least=1, size=16)
            mode = image.mode
            assert image.size == (picture.width, picture.height)
    except BadFile:
        pass
    assert mode == "RGB"


@pytest.mark.parametrize(("side", "reduced"), [(255, 1), (256, 2), (511, 2), (512, 4), (1024, 8), (2048, 8)])
def test_a_jpeg_is_reduced_while_twice_the_target_is_left(side: int, reduced: int) -> None:
    width, height = side + 3, side + 9
    picture = open_picture(photo(width, height))
    image, factor = picture.decode(3, least=side, size=64)
    assert factor == reduced
    assert image.size == (-(-width // reduced), -(-height // reduced))
    assert side / reduced >= KEEP * 64 or reduced == 1


@pytest.mark.parametrize("kind", ["PNG", "turned"])
def test_what_cannot_be_reduced_exactly_is_decoded_in_full(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    data = photo(600, 500, kind="PNG") if kind == "PNG" else photo(600, 500, exif=exif)
    image, factor = open_picture(data).decode(3, least=500, size=64)
    assert factor == 1
    assert image.size == (600, 500)


def test_reduced_decoding_keeps_48_db_on_photographs(shared: Path, tmp_path: Path) -> None:
    tree = open_tree(shared / "dogs-originals" / "all-dogs.zip", spool=tmp_path)
    ratios, reductions = [], []
    with tree.reader() as reader:
        for entry in tree.entries[::10]:
            data = reader.read(entry)
            picture = open_picture(data)
            image, reduced = picture.decode(3, least=min(picture.width, picture.height), size=64)
            if reduced == 1:
                continue
            fast = resize_to_square(image, (picture.width / reduced, picture.height / reduced), 64)
            plain = np.asarray(Image.open(io.BytesIO(data)).resize((64, 64), FILTER))
            ratios.append(psnr(fast, plain))
            reductions.append(reduced)
    assert len(ratios) > 25
    assert set(reductions) >= {2, 4}
    assert np.mean(ratios) >= 48
    assert np.percentile(ratios, 5) >= 44
