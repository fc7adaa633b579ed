"""What the kit holds against: hostile files, unlucky moments, strangers' words. Prints tried and held, by kind.

Each situation is a test marked `@pytest.mark.abuse("KIND")`; docs/security.md says what the kinds are. One test may try
many situations: a test counts as one.

    python bench/abuse.py              all of them, the slow ones too
    python bench/abuse.py A1 C         these kinds
    python bench/abuse.py --seed 7     other values in every field, other bytes damaged; default: drawn, and printed
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


class ByKind:
    """A pytest plugin that runs marked tests alone, and counts them by the kind in their mark.

    Args:
        wanted: kinds, or letters that stand for several; none: all.
    """

    def __init__(self, wanted: list[str]) -> None:
        self._wanted = wanted
        self.tried: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leaves the marked tests."""
        items[:] = [item for item in items if self._kinds(item)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Counts a test once: where it was called, or failed or was skipped before."""
        report = yield
        for kind in self._kinds(item):
            if report.skipped:
                self.skipped[kind] += 1
            elif report.when == "call" or report.failed:
                self.tried[kind] += 1
                self.held[kind] += report.passed
        return report

    def _kinds(self, item: pytest.Item) -> list[str]:
        kinds = {str(kind) for mark in item.iter_markers("abuse") for kind in mark.args}
        return sorted(kind for kind in kinds if not self._wanted or kind in self._wanted or kind[0] in self._wanted)


def main() -> int:
    """The exit code: 0 where everything held."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="A to G, or with a number; default: all")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="of what is drawn at random")
    asked = parser.parse_args()
    found = ByKind(asked.kinds)
    drawn = ["--hypothesis-profile", "abuse", "--hypothesis-seed", str(asked.seed)]
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT), *drawn]
    code = pytest.main([*options, str(ROOT / "tests")], plugins=[found])
    print(f"\nseed {asked.seed}\n{'kind':6} {'tried':>6} {'held':>6} {'skipped':>8}")
    for kind in sorted(found.tried | found.skipped, key=lambda kind: (kind[:1], int(kind[1:] or 0))):
        print(f"{kind:6} {found.tried[kind]:6} {found.held[kind]:6} {found.skipped[kind]:8}")
    tried, held = sum(found.tried.values()), sum(found.held.values())
    print(f"{'all':6} {tried:6} {held:6} {sum(found.skipped.values()):8}")
    return 0 if tried and tried == held else int(code) or 1


if __name__ == "__main__":
    sys.exit(main())
