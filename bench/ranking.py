"""Does a score rank real dogs that get worse step by step, and does it catch a memorizer?

    python bench/ranking.py --data data/dogs [--count 1000] [--train 5000] [--generated images.zip …]

Each network sees the same pictures: held-out crops, the same blurred, noised and JPEG-coded in steps, an untrained
generator's, uniform noise, any zips given (short GAN runs), and training crops slightly noised, which a memorizing
"generator" would make. The FID is to training crops spread over all breeds. Printed: the distances; for each step of a
ladder by how much it lies above the one before, with the 95 % interval of that difference (the same groups of pictures
left out of both); how far each two networks agree in the order of all (Kendall's τ); and who falls below ε.

The steps are such as a reader can see and still tell the dog: at 64 pixels a blur of 4 leaves a patch of colour, and
JPEG down to a quality of 20 changes too little for 921 pictures to tell.

The networks are EfficientNet-Lite0 trained on ImageNet and a ResNet-18 trained on dogs (`$KIT_SHARED/data`, default:
../shared), the set's own (`own`, trained here where none is kept: minutes), and an untrained one. For the first the KID
is printed as well: it is what claims about pictures are decided by, see bench/judges.py. The dogs' network has seen all
dogs, held out or not. With 1,280 dimensions the first needs --count 1500 for intervals.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.stats
import torch
from judges import dogs_network, imagenet_network
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from kit.data.prepared_set import PreparedSet, load
from kit.generation.generate import sample
from kit.generation.pictures import read_pictures
from kit.models import registry
from kit.scoring import features
from kit.scoring.extract import FeatureSet
from kit.scoring.frechet import gaussian
from kit.scoring.interval import jackknife, jackknife_fids, jackknife_groups
from kit.scoring.kid import kid
from kit.scoring.memorization import memorization_distance

Pixels = NDArray[np.uint8]

CPU = torch.device("cpu")


def each(change: Callable[[Image.Image], Image.Image], pictures: Pixels) -> Pixels:
    """A change of one picture made to all."""
    return np.stack([np.asarray(change(Image.fromarray(picture))) for picture in pictures])


def blurred(radius: float, pictures: Pixels) -> Pixels:
    """Gaussian blur with a radius in pixels."""
    return each(lambda picture: picture.filter(ImageFilter.GaussianBlur(radius)), pictures)


def noised(sigma: float, pictures: Pixels) -> Pixels:
    """Normal noise with a standard deviation in grey levels."""
    noise = np.random.default_rng(1).normal(0, sigma, pictures.shape)
    return np.clip(pictures + noise, 0, 255).round().astype(np.uint8)


def coded(quality: float, pictures: Pixels) -> Pixels:
    """To JPEG and back."""

    def there_and_back(picture: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(quality))
        return Image.open(buffer)

    return each(there_and_back, pictures)


LADDERS: dict[str, tuple[Callable[[float, Pixels], Pixels], tuple[float, ...]]] = {
    "blur": (blurred, (0.7, 1.0, 1.5)),
    "noise": (noised, (20, 30, 40)),
    "JPEG": (coded, (10, 7, 5)),
}


def untrained(count: int) -> Pixels:
    """A DCGAN before its first step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator, _ = registry.build(registry.get("dcgan").recipe, size=64, channels=3, classes=0)
    return np.concatenate(list(sample(generator, count=count, size=64, seed=0, device=CPU)))


def specimens(prepared: PreparedSet, count: int, zips: list[Path]) -> Iterator[tuple[str, Pixels]]:
    """Names and pictures (count, 64, 64, 3), one after the other."""
    held = np.array(prepared.images[prepared.rows("holdout")[:count]])
    yield "held out", held
    for name, (worsen, steps) in LADDERS.items():
        for step in steps:
            yield f"{name} {step:g}", worsen(step, held)
    for path in zips:
        yield path.parent.name, np.stack([pixels for _, pixels in read_pictures(path, limit=len(held))])
    yield "untrained", untrained(len(held))
    yield "uniform noise", np.random.default_rng(2).integers(0, 256, held.shape, dtype=np.uint8)
    yield "memorizer", noised(4, np.array(prepared.images[prepared.rows("train")[: len(held)]]))


def networks(prepared: PreparedSet) -> Iterator[FeatureSet]:
    """The ImageNet network, the dogs', the set's own, and an untrained one."""
    yield imagenet_network()
    yield dogs_network()
    yield features.build("own", prepared=prepared, device=CPU)
    yield features.build("random", device=CPU)


class Distances(NamedTuple):
    """Of pictures to the training crops, on one network."""

    fid: float
    without: list[float]  # with each of ten groups of pictures left out
    distance: float  # memorization distance
    kid: float


def rise(before: Distances, after: Distances) -> str:
    """By how much one lies above the other, and whether that is more than chance."""
    parts = [b - a for a, b in zip(before.without, after.without, strict=True)]
    interval = jackknife(after.fid - before.fid, parts)
    word = "rises" if interval.low > 0 else "falls" if interval.high < 0 else "cannot be told"
    return f"{word} ({interval.low:+.2f} to {interval.high:+.2f})"


def main() -> None:
    """Prints the distances and what they say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--train", type=int, default=5000)
    parser.add_argument("--generated", type=Path, nargs="*", default=[])
    options = parser.parse_args()

    prepared = load(options.data)
    rows = prepared.rows("train")
    # The memorizer repeats the first; the rest are spread over all breeds.
    chosen = np.union1d(rows[: options.count], rows[:: max(1, len(rows) // options.train)])
    train = np.array(prepared.images[chosen])
    shown = list(specimens(prepared, options.count, options.generated))
    everything: dict[str, dict[str, Distances]] = {}
    for network in networks(prepared):
        real = network.extract(train)
        fitted = gaussian(real)
        found = everything[network.name] = {}
        print(f"\n{network.name} ({network.dim} dimensions), {len(shown[0][1])} pictures against {len(train)}")
        for name, pictures in shown:
            seen = network.extract(pictures)
            found[name] = Distances(
                *jackknife_fids(seen, fitted, jackknife_groups(len(seen))),
                memorization_distance(seen, real),
                kid(seen, real, subsets=20).mean,
            )
            epsilon = found["held out"].distance / 2
            caught = f"  below ε {epsilon:.4f}" if found[name].distance < epsilon else ""
            print(
                f"  {name:16} KID×1000 {1000 * found[name].kid:8.2f}  FID {found[name].fid:9.3f}  "
                f"distance {found[name].distance:.4f}{caught}",
                flush=True,
            )
        for name, (_, steps) in LADDERS.items():
            ladder = ["held out", *(f"{name} {step:g}" for step in steps)]
            for before, after in pairwise(ladder):
                print(f"  {before} → {after}: {rise(found[before], found[after])}", flush=True)
    print()
    for one, other in combinations(everything, 2):
        names = [name for name in everything[one] if name != "memorizer"]
        order = [[values[name].fid for name in names] for values in (everything[one], everything[other])]
        print(f"agreement of {one} and {other}: Kendall's τ {scipy.stats.kendalltau(*order).statistic:.2f}")


if __name__ == "__main__":
    main()
