"""Models against studies: who stands where among the cases of one material, and why somebody stands nowhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mace_ft_bench.leaderboard import wording
from mace_ft_bench.leaderboard.score import Ranking, Records, Standing, rank_models
from mace_ft_bench.leaderboard.wording import NONE
from mace_ft_bench.results.record import FAILED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_ft_bench.results.case import Case


ALL = "all studies"
"""Name of the column of all cases together."""


@dataclass(frozen=True)
class StudyCell:
    """Where one model stands in one study."""

    study: str
    rank: int | None
    score: float | None
    """Over the cases that all models ranked in this study cover; None where the model is not ranked."""
    covered: int
    scored: int
    reason: str
    """Why the model is not ranked, or which cases of a ranked one failed or are not covered; empty if all are well."""

    @property
    def score_text(self) -> str:
        """The score with three decimals."""
        return wording.score(self.score)

    @property
    def coverage(self) -> str:
        """``5/6``."""
        return f"{self.covered}/{self.scored}"


@dataclass(frozen=True)
class Study:
    """The cases of one material, ranked by themselves."""

    name: str
    """The material, or :data:`ALL`."""
    cases: tuple[Case, ...]
    """Scored ones."""
    ranking: Ranking

    def cell(self, model: str, records: Records) -> StudyCell:
        """Return where a measured model stands."""
        ranking = self.ranking
        found: dict[str, Standing] = {item.model: item for item in (*ranking.ranked, *ranking.unranked)}
        standing = found.get(model)
        covered = standing.covered if standing else 0
        gaps = self._gaps(model, records)
        if standing is None or standing.score is None:
            reason = self._unranked(covered, gaps)
            return StudyCell(self.name, None, None, covered, len(self.cases), reason)
        rank = ranking.position(standing)
        return StudyCell(self.name, rank, standing.score, covered, len(self.cases), gaps)

    def _unranked(self, covered: int, gaps: str) -> str:
        if not self.cases:
            return "shown, not scored"
        return "no case that all models cover" if covered else gaps

    def _gaps(self, model: str, records: Records) -> str:
        """Count what is not well: ``1 unstable (scores 0), 2 not run``."""
        found = [records.get((model, case.id)) for case in self.cases]
        counts = Counter(record.status if record else "not run" for record in found)
        bad = [(status, count) for status, count in counts.items() if status != "ok"]
        return ", ".join(f"{n} {_words(status)}{' (scores 0)' if status in FAILED else ''}" for status, n in bad)


def _words(status: str) -> str:
    return status.replace("_", " ")


def rank_studies(cases: Sequence[Case], records: Records) -> tuple[Study, ...]:
    """Return one study per material, in order of appearance, each ranked by itself; all together first if several."""
    names = list(dict.fromkeys(case.material for case in cases))
    studies = tuple(_study(name, [case for case in cases if case.material == name], records) for name in names)
    return (_study(ALL, cases, records), *studies) if len(names) > 1 else studies


def _study(name: str, cases: Sequence[Case], records: Records) -> Study:
    names = {case.id for case in cases}
    attempted = {key: record for key, record in records.items() if key[1] in names}
    return Study(name, tuple(case for case in cases if case.metrics), rank_models(attempted, cases))


def rank_text(rank: int | None) -> str:
    """Return a rank, or a dash."""
    return NONE if rank is None else str(rank)
