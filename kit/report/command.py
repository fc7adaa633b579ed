"""The settings of a run beside its model's defaults, and the commands that make it again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from kit.core.clock import show_duration
from kit.models.custom import shown
from kit.models.recipe import settings
from kit.report.run_data import Facts


@dataclass(frozen=True)
class Setting:
    """A line of the recipe."""

    key: str
    value: str
    default: str  # of the model; empty where it is not known
    changed: bool
    unit: str
    about: str


def recipe(facts: Facts) -> list[Setting]:
    """What the run's model could be set to, with what it was set to."""
    own = None if facts.recipe.get("source") else _defaults(facts.model)
    known = settings()
    keys = own if own is not None else [key for key in facts.recipe if key != "model"]
    rows = []
    for key in keys:
        if key not in facts.recipe:
            continue
        value = facts.recipe[key]
        meta = known[key].metadata if key in known else {}
        default = show(own[key]) if own else ""
        rows.append(
            Setting(
                key=key,
                value=show(value),
                default=default,
                changed=bool(own) and value != (own or {})[key],
                unit=meta.get("unit", ""),
                about=meta.get("about", ""),
            )
        )
    return rows


def train_command(facts: Facts) -> str:
    """The `kit train` that began this run."""
    model = f"{facts.model}.py" if facts.recipe.get("source") else facts.model
    words = ["kit", "train", "--model", model]
    words += ["--images", str(facts.images)] if facts.budget_s is None else ["--budget", _budget(facts.budget_s)]
    if "path" in facts.data:
        words += ["--data", str(facts.data["path"])]
    words += ["--seed", str(facts.seed), "--count", str(facts.count)]
    for setting in recipe(facts):
        if setting.changed:
            words += ["--set", f"{setting.key}={setting.value}"]
    return shlex.join(words)


def replay_commands(facts: Facts) -> list[str]:
    """The two commands that make the run's `images.zip` again, byte for byte; none where there is no zip yet."""
    if not facts.result:
        return []
    submission = f"submissions/{facts.path.name}"
    return [shlex.join(["kit", "pack", str(facts.path)]), shlex.join(["kit", "reproduce", submission])]


def show(value: Any) -> str:
    """A setting's value as `--set` takes it; a model file's text by its digest."""
    return str(value).lower() if isinstance(value, bool) else shown(value)


def _defaults(model: str) -> dict[str, Any] | None:
    """The settings that a model of the zoo has, with its defaults; None for a model from elsewhere."""
    from kit.models.registry import MODELS

    row = MODELS.get(model)
    return {key: getattr(row.recipe, key) for key in row.settings()} if row else None


def _budget(seconds: float) -> str:
    return show_duration(seconds) if seconds == round(seconds) else f"{seconds:g}s"
