"""A score as the page tells it: every number with what it is, and what to know before it is believed."""

from __future__ import annotations

from kit.report.run_data import Facts
from kit.scoring.score_record import FLAGS, METHODS, SCORER, Details, Score

ModelEntry = tuple[str, str, str]
"""A number's name, the number, and what it is."""

FOREIGN = "no leaderboard number: those are taken on the competition's own network"

STALE = "this is the score of another images.zip than the one in the folder now"

NEAR = "the pictures lie too near to the training set to be sent, or below its threshold"


def caveats(facts: Facts) -> list[str]:
    """What to know before a run's score is believed."""
    score = facts.score
    if not score:
        return []
    said = [FLAGS[flag] for flag in score.flags]
    if facts.stale_score:
        said.insert(0, STALE)
    if score.too_near:
        said.append(NEAR)
    if score.features.name != SCORER:
        said.append(FOREIGN)
    return said


def rows(score: Score) -> list[ModelEntry]:
    """A score's numbers, their intervals, and everything that they are numbers of."""
    against, features = score.reference, score.features
    real = "whole pictures" if against.kind == "whole" else "crops"
    split = {"all": "all of them", "train": "those trained on", "holdout": "those held out"}[against.split]
    side = features.input_size
    method = "" if score.method == "symmetric" else f"; {METHODS[score.method]}"
    return [
        ("MiFID", "none" if score.mifid is None else f"{score.mifid:.4f}", "FID divided by the distance, if below ε"),
        ("FID", f"{score.fid:.4f}", f"Fréchet distance between the two sets' features; lower is better{method}"),
        *(_details(score.details) if score.details else []),
        ("Memorization distance", f"{score.distance:.4f}", f"generated to nearest real, 0 to 1; {_threshold(score)}"),
        ("Generated pictures", f"{score.count:,}", f"{score.size} × {score.size} pixels"),
        ("Real pictures", f"{against.count:,}", f"{real} of {against.name}, {split}; set {against.digest[:12]}"),
        ("Features", str(features), f"weights {features.weights[:12]}"),
        ("Input", f"{side} × {side}", f"pixels, resized by {features.resize}, computed in {features.dtype}"),
    ]


def _threshold(score: Score) -> str:
    if score.epsilon is None or score.margin is None:
        return f"ε: {score.epsilon_origin}"
    side = "above" if score.margin >= 0 else "below"
    return f"{abs(score.margin):.0%} {side} ε = {score.epsilon:.4g} ({score.epsilon_origin})"


def _details(details: Details) -> list[ModelEntry]:
    """What stands beside the FID; intervals are missing where there are too few pictures for them."""
    found: list[ModelEntry] = []
    for name, interval in (("MiFID", details.mifid_interval), ("FID", details.fid_interval)):
        if interval:
            found.append(
                (
                    f"{name}, interval",
                    f"{interval.low:.2f} to {interval.high:.2f}",
                    f"for N → ∞, {interval.level:.0%}, {interval.method}",
                )
            )
    if details.fid_infinity is not None:
        found.append(("FID∞", f"{details.fid_infinity:.4f}", "for N → ∞, by extrapolation"))
    most = f"at most {details.prdc_count:,} pictures a side"
    return [
        *found,
        ("KID", f"{details.kid:.5f} ± {details.kid_std:.5f}", f"over subsets of {details.kid_subset:,} pictures"),
        ("Precision", f"{details.precision:.3f}", f"quality: generated ones as near to real ones as those are; {most}"),
        ("Recall", f"{details.recall:.3f}", "variety: real ones as near to generated ones as those are"),
        ("Density", f"{details.density:.3f}", "quality, moved less by outliers; may exceed 1"),
        ("Coverage", f"{details.coverage:.3f}", "variety, moved less by outliers: real ones with a generated one near"),
    ]
