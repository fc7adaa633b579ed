"""How fast is a score, against what one would use instead?

    python bench/score.py [--count 10000] [--real 20000] [--dim 2048] [--features 128] [--repeats 3] [--whole 300]

Three parts, each in turns with its other way:

- statistics to number, on features drawn at random: `--count` generated ones against a reference of `--real` whose mean
  and covariance are cached, `--dim` dimensions. Fréchet against `scipy.linalg.sqrtm`; the memorization distance in
  chunks against the whole matrix at once;
- features of `--features` 64×64 pictures: the kit's Inception (batch norms fused, channels last) against plain timm in
  eager mode at its own precision, from resized tensors on;
- a whole score of `--whole` pictures against torchmetrics' `MemorizationInformedFrechetInceptionDistance` with the same
  network, the reference's features computed by both as they do: cached by the kit, anew by torchmetrics.

A CPU takes half an hour for 10,000 pictures through Inception: what `--features` and `--whole` pictures take is shown
for one, and 10,000 take 10,000 times that. Other ways whose package is missing are left out, and said. A number of 0
leaves its part out. What a score holds in memory is bench/memory.py's question.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import scipy.linalg
import timm
import torch
from numpy.typing import NDArray
from torch import nn
from versus import Line, compare, show

from kit.competition import COMPETITIONS
from kit.generation.pack import encode
from kit.scoring.extract import FeatureSet, pillow_bicubic
from kit.scoring.features import build
from kit.scoring.frechet import Gaussian, frechet_distance, gaussian
from kit.scoring.memorization import memorization_distance
from kit.scoring.mifid import mifid

Features = NDArray[np.float32]


def drawn(count: int, dim: int, seed: int) -> Features:
    """Features that are correlated and positive, as pooled activations are, float32 (count, dim)."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((count, dim // 4), dtype=np.float32)
    mix = np.random.default_rng(0).standard_normal((dim // 4, dim), dtype=np.float32) / np.sqrt(dim)
    return np.abs(hidden @ mix + rng.standard_normal((count, dim), dtype=np.float32) * 0.3)


def by_sqrtm(one: Gaussian, other: Gaussian) -> float:
    """The usual way: a general matrix root."""
    root = scipy.linalg.sqrtm(one.covariance @ other.covariance).real
    apart = one.mean - other.mean
    return float(apart @ apart + np.trace(one.covariance + other.covariance - 2 * root))


def by_eigen(one: Gaussian, other: Gaussian) -> float:
    """The kit's way."""
    return frechet_distance(one.mean, one.covariance, other.mean, other.covariance)


def at_once(generated: Features, real: Features) -> float:
    """The memorization distance as the formula stands."""
    unit = [
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (generated.astype(float), real.astype(float))
    ]
    return float((1 - np.abs(unit[0] @ unit[1].T)).min(axis=1).mean())


def number_lines(*, count: int, real: int, dim: int, repeats: int) -> Iterator[Line]:
    """From statistics to the number."""
    generated, reference = drawn(count, dim, 1), drawn(real, dim, 2)
    fitted, cached = gaussian(generated), gaussian(reference)
    found: list[float] = []
    yield compare(
        f"Fréchet distance at {dim} dimensions, against `scipy.linalg.sqrtm`",
        lambda: found.append(by_eigen(fitted, cached)),
        lambda: found.append(by_sqrtm(fitted, cached)),
        repeats=repeats,
        pictures=1,
        warm_up=False,
    )
    assert max(found) / min(found) - 1 < 1e-6, found
    yield compare(
        f"memorization distance of {count:,} to {real:,}, in chunks against all at once",
        partial(memorization_distance, generated, reference),
        partial(at_once, generated, reference),
        repeats=repeats,
        pictures=count,
        warm_up=False,
    )


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Blobs, uint8 (count, 64, 64, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3))
    return np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.uint8)


def network(folder: Path, dtype: str) -> FeatureSet:
    """The kit's default feature set with weights of no meaning: their values change no speed."""
    path = folder / "inception.pt"
    if not path.exists():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            torch.save(timm.create_model("inception_v3").state_dict(), path)
    return build("timm:inception_v3", weights=path, dtype=dtype, device=torch.device("cpu"))


class Plain(nn.Module):
    """What one would write: timm's network as it comes, in eager mode."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.body = timm.create_model("inception_v3", num_classes=0).eval()
        state = torch.load(folder / "inception.pt", weights_only=True)
        self.body.load_state_dict({name: value for name, value in state.items() if not name.startswith("fc.")})

    @torch.inference_mode()
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features (B, 2048) of uint8 (B, 3, 299, 299)."""
        return self.body((pixels.float() - 127.5) / 127.5)


def feature_lines(*, count: int, repeats: int) -> Iterator[Line]:
    """From resized pictures to features."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = {dtype: network(folder, dtype) for dtype in ("bfloat16", "float32")}
        plain = Plain(folder)
        sized = np.stack([pillow_bicubic(picture, 299) for picture in pictures(count)])
        stacks = torch.from_numpy(sized).permute(0, 3, 1, 2).contiguous().split(32)

        def eager() -> list[torch.Tensor]:
            return [plain(stack) for stack in stacks]

        for dtype, features in sets.items():
            yield compare(
                f"Inception features in {dtype}, against plain timm in float32",
                partial(features.extract, sized),
                eager,
                repeats=repeats,
                pictures=count,
            )


def whole_lines(*, count: int, repeats: int) -> Iterator[Line]:
    """A whole MiFID of pictures in a zip's PNG files; the kit's reference is cached, torchmetrics has no cache."""
    if importlib.util.find_spec("torchmetrics") is None:
        print("a whole score: torchmetrics is not installed (pip install -e .[peers])", file=sys.stderr)
        return
    from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance

    from kit.generation.pictures import read_pictures

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        features, plain = network(folder, "float32"), Plain(folder)
        (folder / "pictures").mkdir()
        for index, picture in enumerate(pictures(count)):
            (folder / "pictures" / f"{index:05}.png").write_bytes(
                encode(picture, COMPETITIONS["generative-dog-images"])[0]
            )
        real = pictures(count, seed=1)
        known = features.extract(real)
        cached = gaussian(known)

        def read() -> Iterator[NDArray[np.uint8]]:
            return (pixels for _, pixels in read_pictures(folder / "pictures"))

        def ours() -> float:
            generated = features.extract(read())
            fitted = gaussian(generated)
            return mifid(by_eigen(fitted, cached), memorization_distance(generated, known), 0.1)

        class Resized(nn.Module):
            """uint8 (B, 3, 64, 64) to features, as torchmetrics wants it."""

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                x = torch.nn.functional.interpolate(x.float(), size=(299, 299), mode="bicubic", antialias=True)
                return plain(x)

        def theirs() -> float:
            metric = MemorizationInformedFrechetInceptionDistance(Resized())
            for side, source in ((True, iter(real)), (False, read())):
                rows = [torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in source]
                for start in range(0, count, 32):
                    metric.update(torch.stack(rows[start : start + 32]), real=side)
            return float(metric.compute())

        yield compare(
            f"a whole score of {count:,}, against torchmetrics",
            ours,
            theirs,
            repeats=repeats,
            pictures=count,
            warm_up=False,
        )


def lines(*, count: int, real: int, dim: int, features: int, whole: int, repeats: int) -> Iterator[Line]:
    """All of it, without the parts whose number of pictures is 0."""
    if count:
        yield from number_lines(count=count, real=real, dim=dim, repeats=repeats)
    if features:
        yield from feature_lines(count=features, repeats=repeats)
    if whole:
        yield from whole_lines(count=whole, repeats=repeats)


def main() -> None:
    """Runs the comparisons and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (("count", 10_000), ("real", 20_000), ("dim", 2048), ("features", 128), ("whole", 300)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    sizes = {"count": options.count, "real": options.real, "dim": options.dim}
    show(lines(**sizes, features=options.features, whole=options.whole, repeats=options.repeats))


if __name__ == "__main__":
    main()
