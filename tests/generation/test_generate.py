"""Latents and pictures: what they depend on, and what they leave alone."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from kit.competition import COMPETITIONS, Competition
from kit.core.errors import KitError
from kit.generation.generate import sample, to_uint8, translate
from kit.generation.latents import latents
from kit.generation.pack import pack
from kit.generation.validate import check

CPU = torch.device("cpu")


class Net(nn.Module):
    """A small generator with batch norm (which has buffers) and a part that was frozen in eval mode."""

    def __init__(self, *, latent: int = 5, classes: int = 0, channels: int = 3, side: int = 8) -> None:
        super().__init__()
        self.latent, self.classes = latent, classes
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.dense = nn.Linear(latent, channels * side * side)
        self.norm = nn.BatchNorm2d(channels)
        self.frozen = nn.BatchNorm2d(channels).eval()
        self.shape = (-1, channels, side, side)
        self.seen: list[tuple[bool, Tensor]] = []

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        self.seen.append((self.training or self.norm.training or self.frozen.training, y))
        return torch.tanh(self.frozen(self.norm(self.dense(z).view(self.shape))))


class Constant(nn.Module):
    """Gives one value everywhere."""

    latent, classes = 2, 0

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return torch.full((len(z), 3, 4, 4), self.value)


def draw(net: Net, *, count: int = 10, **options: object) -> np.ndarray:
    defaults = {"size": 8, "seed": 0, "device": CPU}
    return np.concatenate(list(sample(net, count=count, **(defaults | options))))  # type: ignore[arg-type]


def test_nothing_of_training_changes() -> None:
    net = Net()
    torch.manual_seed(9)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    assert True in modes
    assert False in modes
    for _ in sample(net, count=30, size=8, seed=0, device=CPU, batch=8):
        # The caller's code between two batches, which may train the very same network.
        assert [module.training for module in net.modules()] == modes
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]
    assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())
    assert len(net.seen) == 4
    assert not any(training for training, _ in net.seen)


def test_modes_are_put_back_when_the_network_fails() -> None:
    net = Net()
    modes = [module.training for module in net.modules()]
    net.shape = (7, 7, 7)
    with pytest.raises(RuntimeError):
        draw(net)
    assert [module.training for module in net.modules()] == modes


def test_pictures_are_those_of_the_plain_formula() -> None:
    net = Net()
    got = draw(net, count=10, batch=64)
    net.eval()
    with torch.no_grad():
        x = net(next(latents(5, count=64, seed=0)), torch.zeros(64))[:10].double().numpy()
    assert got.dtype == np.uint8
    assert np.array_equal(got, np.rint((x.transpose(0, 2, 3, 1) + 1) * 127.5).astype(np.uint8))


def test_first_pictures_do_not_depend_on_how_many_follow() -> None:
    assert np.array_equal(draw(Net(), count=100)[:70], draw(Net(), count=70))


def test_every_level_of_grey_survives_and_rounding_is_to_the_nearest() -> None:
    levels = torch.arange(256, dtype=torch.float32)
    exact = (levels / 127.5 - 1).view(1, 1, 16, 16)
    assert torch.equal(to_uint8(exact).flatten(), levels.to(torch.uint8))
    x = torch.linspace(-1, 1, 100_001, dtype=torch.float64).view(1, 1, 1, -1)
    assert to_uint8(torch.tensor([-1.5, -1, 1, 7.0]).view(1, 1, 2, 2)).flatten().tolist() == [0, 0, 255, 255]
    back = to_uint8(x).flatten().double() / 127.5 - 1
    assert float((back - x.flatten()).abs().max()) <= 1 / 255 + 1e-9


@pytest.mark.parametrize(("channels", "size"), [(1, 5), (3, 16)])
def test_another_size_is_pillows_lanczos(channels: int, size: int) -> None:
    net = Net(channels=channels)
    plain, resized = draw(net), draw(net, size=size)
    assert resized.shape == (10, size, size, channels)
    for before, after in zip(plain, resized, strict=True):
        image = Image.fromarray(before.squeeze()).resize((size, size), Image.Resampling.LANCZOS)
        assert np.array_equal(np.asarray(image), after.squeeze())


@pytest.mark.parametrize("competition", COMPETITIONS.values(), ids=COMPETITIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_network_make_a_valid_zip(tmp_path: Path, competition: Competition, channels: int) -> None:
    pictures = sample(Net(channels=channels), count=70, size=competition.size, seed=0, device=CPU)
    packed = pack(pictures, tmp_path / "images.zip", competition=competition, count=70)
    report = check(packed.path, competition=competition, count=70)
    assert (report.errors, report.warnings) == ([], [])
    assert report.pixels_sha256 == packed.pixels_sha256


@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
def test_a_diverged_generator_is_no_noise_but_an_error(value: float) -> None:
    with pytest.raises(KitError, match=r"NaN or infinity.*pictures 0 to 3"):
        next(sample(Constant(value), count=4, size=4, seed=0, device=CPU))


def test_labels_go_to_their_pictures() -> None:
    net = Net(classes=3)
    draw(net, labels=[2, 1, 0, 2, 2], count=5, batch=2)
    assert [y.tolist() for _, y in net.seen] == [[2, 1], [0, 2], [2, 0]]  # the last one fills the batch up


@pytest.mark.parametrize(
    ("labels", "classes", "problem"),
    [([0, 3], 3, "label 3 .*0 to 2"), ([-1, 0], 3, "label -1"), ([0], 3, "1 labels for 2"), ([0, 0], 0, "uncond")],
)
def test_wrong_labels(labels: list[int], classes: int, problem: str) -> None:
    with pytest.raises(KitError, match=problem):
        draw(Net(classes=classes), labels=labels, count=2)


@pytest.mark.parametrize("truncation", [0.0, -1.0, float("nan")])
def test_wrong_truncation(truncation: float) -> None:
    with pytest.raises(KitError, match="truncation"):
        draw(Net(), truncation=truncation)


def test_it_draws_as_it_goes() -> None:
    net = Net()
    list(islice(sample(net, count=100, size=8, seed=0, device=CPU, batch=4), 2))
    assert len(net.seen) == 2


def test_bfloat16_moves_a_pixel_by_little():
    from kit.models.registry import build, get

    torch.manual_seed(0)
    generator, _ = build(get("dcgan").recipe.override(["width=16"]), size=32, channels=3, classes=0)
    plain, fast = (
        np.concatenate(list(sample(generator, count=64, size=32, seed=0, device=CPU, precision=precision)))
        for precision in (torch.float32, torch.bfloat16)
    )
    difference = np.abs(plain.astype(int) - fast)
    assert difference.max() <= 3
    assert difference.mean() < 0.5


@pytest.mark.parametrize("row", ["dcgan", "sagan"])
def test_passes_at_the_same_time_give_the_same_pictures(row, monkeypatch):
    from kit.models.registry import build, get

    torch.manual_seed(0)
    generator, _ = build(get(row).recipe.override(["width=8"]), size=32, channels=3, classes=3)
    generator.eval()
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        parallel = draw(generator, count=90, size=32, batch=16)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr("kit.generation.generate.parallel_map", lambda function, items, **_: map(function, items))
    assert np.array_equal(parallel, draw(generator, count=90, size=32, batch=16))


@pytest.mark.parametrize("sizes", [[5], [1, 4]])
def test_a_translation_that_changes_nothing_gives_the_pictures_back(sizes):
    pictures = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    batches = np.split(pictures, np.cumsum(sizes)[:-1])
    made = list(translate(nn.Identity().eval(), batches, size=8, device=CPU, batch=2))
    assert np.array_equal(np.concatenate(made), pictures)
    assert max(map(len, made)) <= 2


def test_a_translation_does_not_depend_on_its_neighbours():
    from kit.models.registry import MODELS, build

    torch.manual_seed(0)
    recipe = MODELS["cut"].override(["width=4", "blocks=2"])
    generator, _ = build(recipe, size=32, channels=3, classes=0)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    every, one = (
        np.concatenate(list(translate(generator.eval(), [some], size=32, device=CPU, batch=4)))
        for some in (pictures, pictures[4:])
    )
    assert np.array_equal(every[4:], one)
