"""Small runs."""

from __future__ import annotations

import logging

import pytest
from run_helpers import Clock, Silent

import kit.run
from kit.models.registry import MODELS


@pytest.fixture
def run_tiny(make_set, tmp_path):
    """Trains on a small set in `tmp_path / "set"`; keyword arguments go to the job."""
    data = tmp_path / "set"
    make_set(data, n=32, size=16)

    def train(*, model="dcgan", settings=(), name="run", clock=None, callback=None, **job):
        recipe = MODELS[model].recipe.override(["width=4", "latent=8", "batch=8", *settings])
        job = kit.run.RunConfig(recipe=recipe, data=data, out=tmp_path / name, **{"count": 20, **job})
        return kit.run.train(job, clock=clock or Clock(), callback=callback or Silent())

    return train


@pytest.fixture(autouse=True)
def _talk(caplog):
    """What a run says is in `caplog.messages`."""
    caplog.set_level(logging.INFO, logger="kit")
