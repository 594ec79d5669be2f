"""All checks in their order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mace_ft_bench.datasets.frames import ENERGY, FORCES
from mace_ft_bench.datasets.lint import geometry, labels, outliers, repeats, work
from mace_ft_bench.datasets.lint.finding import SEVERITIES, Finding
from mace_ft_bench.datasets.lint.keys import Keys, adopt, check_keys, keys_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ase import Atoms


@dataclass(frozen=True)
class Linted:
    """Frames as they were read, what their labels are called, and what was found."""

    frames: list[Atoms]
    """As read."""
    names: list[str]
    """How to call them."""
    keys: dict[int, Keys]
    """Names of their labels."""
    adopted: dict[int, Atoms]
    """Copies with labels under our keys, of whatever shape."""
    usable: dict[int, Atoms]
    """Copies with those labels that are sound, of frames whose positions are."""
    findings: list[Finding] = field(default_factory=list)
    """Worst first."""

    @property
    def unique(self) -> dict[str, set[str]]:
        """By label the one name it has in all frames; empty where there are several."""
        found = {
            label: {name for keys in self.keys.values() for name in keys.labels[label]} for label in (ENERGY, FORCES)
        }
        return {label: names if len(names) == 1 else set() for label, names in found.items()}


def lint_frames(
    frames: Sequence[Atoms],
    names: Sequence[str] | None = None,
    *,
    against: Sequence[Atoms] = (),
    on_check: Callable[[str], None] | None = None,
) -> Linted:
    """Run all checks on frames, whatever their labels are called.

    Parameters
    ----------
    frames
        As ASE reads them.
    names
        How to call them; their numbers by default.
    against
        Frames of another split, that these must not repeat.
    on_check
        Called with the name of every step, before it.
    """
    say = on_check or (lambda _: None)
    say("labels")
    found = _prepare(list(frames), [str(index) for index in range(len(frames))] if names is None else list(names))
    findings = check_keys(found.keys)
    for check in (labels.missing_labels, labels.wrong_shape, labels.not_finite, labels.groups_named):
        findings += check(found.adopted)
    usable = found.usable
    for check in (labels.net_force, labels.placeholder_forces, geometry.cells, geometry.isolated_atoms):
        findings += check(usable)
    findings += outliers.compositions(usable)
    say("neighbours")
    sound = {index: frame for index, frame in usable.items() if geometry.has_sound_cell(frame)}
    around = {index: geometry.surroundings(frame) for index, frame in sound.items()}
    findings += geometry.short_distances(sound, around) + geometry.lone_atoms(sound, around)
    say("repetitions")
    repeated = repeats.duplicates(sound, around)
    say("energies and forces")
    contradicted = {index for finding in repeated if finding.check == "conflicting-labels" for index in finding.frames}
    findings += repeated + _check_sizes(sound, contradicted | set(labels.placeholders(sound)))
    if against:
        say("the other set")
        others = _prepare(list(against), [str(index) for index in range(len(against))]).usable
        others = {index: frame for index, frame in others.items() if geometry.has_sound_cell(frame)}
        beside = {index: geometry.surroundings(frame) for index, frame in others.items()}
        findings += repeats.leaks(sound, others, around, beside)
    ranked = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
    return Linted(found.frames, found.names, found.keys, found.adopted, usable, ranked)


def lint_leaks(parts: Sequence[Sequence[Atoms]]) -> list[list[Finding]]:
    """Return, for every part but the first, which of its frames the parts before it hold or neighbour."""
    sound, around = [], []
    for part in parts:
        usable = _prepare(list(part), []).usable
        sound.append({index: frame for index, frame in usable.items() if geometry.has_sound_cell(frame)})
        around.append({index: geometry.surroundings(frame) for index, frame in sound[-1].items()})
    found = []
    for number in range(1, len(parts)):
        before = dict(enumerate(frame for part in sound[:number] for frame in part.values()))
        beside = dict(enumerate(shape for part in around[:number] for shape in part.values()))
        found.append(repeats.leaks(sound[number], before, around[number], beside))
    return found


def _prepare(frames: list[Atoms], names: list[str]) -> Linted:
    keys = {index: keys_of(frame) for index, frame in enumerate(frames)}
    adopted = {index: adopt(frame, keys[index]) for index, frame in enumerate(frames)}
    return Linted(frames, names, keys, adopted, labels.usable(adopted))


def _check_sizes(frames: dict[int, Atoms], doubtful: set[int]) -> list[Finding]:
    """Compare energies and forces with others; frames that one check names are no evidence for the next."""
    rest = {index: frame for index, frame in frames.items() if not geometry.is_isolated(frame)}
    zero = outliers.energy_zero(rest)
    named = {index for finding in zero for index in finding.frames}
    rest = {index: frame for index, frame in rest.items() if index not in named}
    energies = outliers.energy_outliers(rest)
    with_forces = {index: frame for index, frame in rest.items() if index not in doubtful}
    forces = outliers.force_outliers(with_forces)
    named = {index for finding in (*energies, *forces) for index in finding.frames}
    sound = {index: frame for index, frame in with_forces.items() if index not in named}
    pairs = work.find_pairs(sound)
    return [*zero, *energies, *forces, *work.stresses(sound, pairs), *work.energy_forces(sound, pairs)]
