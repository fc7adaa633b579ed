"""`kit submissions`: local scores beside the competition's own."""

from __future__ import annotations

from dataclasses import dataclass

from kit.submission.ledger import State, Submission

COLUMNS = ("submission", "model", "packed (UTC)", "pictures", "FID", "MiFID", "taken on", "public", "private", "state")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of `kit submissions`. Scores taken on other features do not compare, so it is sorted by time only."""

    name: str
    model: str
    packed: str  # ISO 8601, UTC
    count: int  # pictures
    fid: float | None  # local
    mifid: float | None  # local; None also where the features have no ε
    features: str  # what the local scores were taken on
    flags: list[str]  # what is said beside them, "uncalibrated" for one
    public: float | None
    private: float | None
    state: State

    def cells(self) -> list[str]:
        """The row as text, one cell for each of COLUMNS; what is not known is a dash."""
        day = self.packed[:16].replace("T", " ")
        taken_on = ", ".join([self.features, *self.flags]) if self.features else "–"
        local = [_number(self.fid), _number(self.mifid), taken_on]
        return [
            self.name,
            self.model,
            day,
            f"{self.count:,}",
            *local,
            _number(self.public),
            _number(self.private),
            self.state,
        ]


def row(submission: Submission) -> Row:
    """What the table shows of a submission; of several local scores the last."""
    score = submission.scores[-1] if submission.scores else {}
    answer = submission.answer
    return Row(
        name=submission.name,
        model=submission.run.recipe.model,
        packed=submission.packed,
        count=submission.images.count,
        fid=score.get("fid"),
        mifid=score.get("mifid"),
        features=score["features"]["name"] if score else "",
        flags=score["flags"] if score else [],
        public=answer.public if answer else None,
        private=answer.private if answer else None,
        state=submission.state,
    )


def _number(score: float | None) -> str:
    return "–" if score is None else f"{score:.2f}"
