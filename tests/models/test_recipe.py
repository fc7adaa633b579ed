"""Settings from the command line: typed, bounded, and named when they are wrong."""

from __future__ import annotations

import pytest

from kit.core.errors import KitError
from kit.models.recipe import settings
from kit.models.registry import MODELS, get

DCGAN = get("dcgan").recipe


def test_settings_change_only_what_they_name():
    changed = DCGAN.override(["width=128", "lr_g=1e-4", "flip=no"])
    assert (changed.width, changed.lr_g, changed.flip) == (128, 1e-4, False)
    assert changed.override([f"width={DCGAN.width}", f"lr_g={DCGAN.lr_g}", "flip=yes"]) == DCGAN


def test_the_last_of_two_settings_wins():
    assert DCGAN.override(["batch=8", "batch=16"]).batch == 16


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("widht=3", "did you mean 'width'"),
        ("model=biggan", "unknown setting 'model'"),
        ("width", "no value"),
        ("width=wide", "not a number"),
        ("width=nan", "not a whole number"),
        ("lr_g=nan", "out of range"),
        ("width=64.5", "not a whole number"),
        ("width=0", "from 1 to 1024"),
        ("lr_g=-1", "from 0 to 1"),
        ("beta1=1", "from 0 to 0.9999"),
        ("flip=maybe", "neither true nor false"),
        ("loss=hing", "unknown loss 'hing'; did you mean 'hinge'"),
        ("augment=color,cutuot", "unknown augment 'cutuot'; did you mean 'cutout'"),
        ("norm_d=spectal", "did you mean 'spectral'"),
        ("schedule=cosin", "did you mean 'cosine'"),
        ("penalty=r3", "did you mean"),
        ("optimizer=", "choose from adam, rmsprop"),
    ],
)
def test_a_wrong_setting_is_named(text, says):
    with pytest.raises(KitError, match=says) as raised:
        DCGAN.override([text])
    assert text.split("=")[0] in str(raised.value)


def test_augmentations_are_a_set_of_words():
    assert DCGAN.override(["augment=cutout,color,cutout"]).augmentations == ("color", "cutout")
    assert DCGAN.override(["augment=none"]).augmentations == ("none",)


def test_labels_are_smoothed_only_where_there_are_any():
    assert DCGAN.override(["real_label=0.9"]).real_label == 0.9
    with pytest.raises(KitError, match=r"real_label=0\.9: the hinge loss has no targets"):
        DCGAN.override(["real_label=0.9", "loss=hinge"])


def test_every_default_is_within_its_own_range_and_every_setting_explained():
    for name, field in settings().items():
        assert DCGAN.override([f"{name}={getattr(DCGAN, name)}"]) == DCGAN
        assert 10 < len(field.metadata["about"]) < 92, name


@pytest.mark.parametrize("row", MODELS.values(), ids=lambda row: row.name)
def test_a_row_refuses_what_its_networks_do_not_have(row):
    for name in settings():
        text = [f"{name}={getattr(row.recipe, name)}"]
        if name in row.settings():
            assert row.override(text) == row.recipe
        else:
            with pytest.raises(KitError, match=f"unknown setting '{name}'"):
                row.override(text)


@pytest.mark.parametrize("loss", ["relativistic", "relativistic-least-squares"])
def test_a_translation_has_no_pairs_to_compare(loss):
    with pytest.raises(KitError, match="a translation has no pairs"):
        MODELS["cut"].override([f"loss={loss}"])


def test_modulation_needs_batch_norm():
    with pytest.raises(KitError, match="norm_g=layer: z modulates batch norm alone; add --set modulate=no"):
        MODELS["dcgan"].override(["norm_g=layer"])
    assert MODELS["dcgan"].override(["norm_g=layer", "modulate=no"]).norm_g == "layer"
