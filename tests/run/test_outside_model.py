"""A custom model, from a file of the user's: the README's own example, trained, saved, distrusted, trusted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from run_helpers import Clock, Silent

import kit.run
from kit.commands.report import model_settings
from kit.core import trust
from kit.core.errors import KitError
from kit.generation.export import RunGenerator, sample_pictures
from kit.models import custom, registry
from kit.submission.make_submission import make_submission
from kit.submission.reproduce import reproduce
from kit.training import checkpoint

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def example():
    """The model file that the README shows."""
    (text,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    return text


@pytest.fixture
def file(example, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(example)
    return path


def test_the_readme_shows_how_in_twenty_lines(example):
    assert len(example.strip().splitlines()) <= 20


def test_a_file_is_a_row_like_any_other(file):
    row = registry.get(str(file))
    assert row.name not in registry.MODELS
    assert row.recipe.source == file.read_text()
    facts, settings = model_settings(str(file))
    assert facts["name"] == row.name
    assert "width" in {setting["setting"] for setting in settings}
    assert row.override(["width=4"]).width == 4


@pytest.fixture
def run(file, make_set, tmp_path):
    data = make_set(tmp_path / "set", n=32, size=16).path
    recipe = registry.get(str(file)).override(["width=4", "latent=8", "batch=8"])
    job = kit.run.RunConfig(recipe=recipe, data=data, out=tmp_path / "run", images=16, count=12)
    return kit.run.train(job, clock=Clock(), callback=Silent())


@pytest.fixture
def later(run, monkeypatch):
    """Another process, in which nobody has named the file."""
    monkeypatch.setattr(trust, "_allowed", set())
    custom.run.cache_clear()


@pytest.mark.abuse("A3")
def test_what_it_made_runs_its_code_only_for_someone_who_trusts_it(run, file, later, tmp_path):
    file.unlink()  # the run is enough
    with pytest.raises(KitError, match=r"checkpoint\.pt: the model file of .* is code .*; add --trust"):
        RunGenerator.load(run.path)
    source = RunGenerator.load(run.path, trust=True)
    assert sample_pictures(source, out=tmp_path / "grid.png", count=4).exists()


@pytest.mark.abuse("A3")
def test_distrusted_code_is_not_run(run, later, tmp_path, monkeypatch):
    monkeypatch.setattr(custom, "run", lambda *_: pytest.fail("it ran"))
    with pytest.raises(KitError, match="--trust"):
        checkpoint.load_generator(run.path / "checkpoint.pt")


def test_a_submission_of_it_is_made_again_once_it_is_trusted(run, file, later, tmp_path):
    submission = make_submission(run.path, out=tmp_path / "submissions" / "one")
    file.unlink()
    assert submission.run.recipe.source == run.record.recipe.source
    with pytest.raises(KitError, match="--trust"):
        reproduce(submission)
    assert reproduce(submission, trust=True).identical


def test_a_changed_file_is_another_run(run, file, tmp_path):
    run.record.state = "stopped"
    run.save()
    file.write_text(file.read_text() + "\n# changed\n")
    recipe = registry.get(str(file)).override(["width=4", "latent=8", "batch=8"])
    job = kit.run.RunConfig(recipe=recipe, data=tmp_path / "set", out=run.path, images=16, count=12, resume=True)
    with pytest.raises(
        KitError, match=r"cannot go on as another run \(source a file with digest .{12} → a file"
    ) as error:
        kit.run.train(job, clock=Clock(), callback=Silent())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ENTRY = 3", "sets no ENTRY"),
        ("", "sets no ENTRY"),
        ("1 / 0", "line 1: ZeroDivisionError"),
        ("x = 1\ndef f(:", "line 2: SyntaxError"),
        ("\nimport no_such_package_anywhere", "line 2: ModuleNotFoundError"),
        (
            "from kit.models.recipe import Recipe\nfrom kit.models.registry import ModelEntry\n"
            "ENTRY = ModelEntry(recipe=Recipe(model='dcgan', architecture='dcgan'), about='', paper='')",
            "the kit has a model dcgan already",
        ),
        (
            "from kit.models.recipe import Recipe\nfrom kit.models.registry import ModelEntry\n"
            "ENTRY = ModelEntry(recipe=Recipe(model='x', architecture='nets'), about='', paper='')",
            "sets no ARCHITECTURE, and the kit has none named 'nets'",
        ),
    ],
)
def test_a_file_that_is_no_model_is_named_with_its_fault(tmp_path, text, message):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(KitError) as error:
        registry.get(str(path))
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(KitError, match=r"none\.py: no such model file"):
        registry.get(str(tmp_path / "none.py"))
