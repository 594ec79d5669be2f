"""What a validation says in words: the verdict, warnings, the recipe, and the cells of its tables.

Everything is a function of the plain data of ``validation.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from mace_ft_bench.leaderboard.wording import NONE, number, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Report = Mapping[str, Any]

LABELS = {
    "energy": ("energy", "meV/atom"),
    "energy_relative": ("energy, relative*", "meV/atom"),
    "forces": ("forces", "meV/Å"),
    "stress": ("stress", "GPa"),
}
"""Name and unit of every quantity."""

RELATIVE_NOTE = (
    "* relative to the mean over the frames of the same config_type and composition: no zero of energy matters. Frames "
    "alone in their group do not count."
)
COLUMNS_NOTE = (
    "Relative errors are RMSE over the standard deviation of the labels. Changes are those of the RMSE; the interval "
    "is a bootstrap over frames, too narrow where frames come from one trajectory. Force and stress errors are by "
    "component. A dash: no label, or nothing to compare with."
)
_PERCENT = "\N{NO-BREAK SPACE}%"
_GAP = 1.5
"""Ratio of validation to training error, over that of the parent, which is worth a warning."""
_FEWEST_FRAMES = 5
_VERDICT = ("energy", "forces", "stress")


@dataclass(frozen=True)
class Sentence:
    """One line of the verdict."""

    text: str
    kind: str
    """``better``, ``worse``, ``mixed``, ``unclear`` or ``plain``."""


def judged_split(report: Report) -> Report:
    """Return the split that the verdict is about: the first test split, else the validation frames."""
    found: Report = next(split for role in ("test", "valid") for split in report["splits"] if split["role"] == role)
    return found


def verdicts(report: Report) -> list[Sentence]:
    """Return one sentence per quantity that has labels."""
    split = judged_split(report)
    row = split["errors"][0]
    return [_verdict(name, split, row) for name in _VERDICT if row["fine_tuned"][name]]


def _verdict(name: str, split: Report, row: Report) -> Sentence:
    label, unit = LABELS[name]
    mine, theirs = row["fine_tuned"][name], (row["parent"] or {}).get(name)
    where = f"{plural(mine['frames'], 'frame')} of {split['name']}"
    found = f"{label.capitalize()}: {number(mine['rmse'])} {unit} (RMSE, {where})"
    if theirs is None:
        return Sentence(f"{found}.", "plain")
    change, interval = row["change_percent"][name], split["change_interval_percent"][name]
    beside = f"{number(theirs['rmse'])} {unit}"
    if change is None or interval is None:
        return Sentence(f"{found}; the parent has {beside}. That is too little to compare.", "unclear")
    size = f"by {number(abs(change), 2)}{_PERCENT}"
    spread = f"95{_PERCENT} interval {_signed(interval[0])} to {_signed(interval[1])}"
    if interval[1] < 0:
        return Sentence(f"{found}: better than the parent ({beside}) {size}; {spread}.", "better")
    if interval[0] > 0:
        return Sentence(f"{found}: the parent is better ({beside}), this model worse {size}; {spread}.", "worse")
    return Sentence(f"{found}: not to be told from the parent ({beside}), {_signed(change)}; {spread}.", "unclear")


def headline(report: Report) -> Sentence:
    """Return the verdict in one sentence."""
    if _never_better(report):
        start = "start" if report["recipe"]["strategy"]["kind"] == "scratch" else "parent"
        return Sentence(
            f"This run never beat its {start}: no epoch was better on the validation frames, and the exported weights "
            "are those it began with.",
            "worse",
        )
    if report["parent"] is None:
        return Sentence("There is no parent to compare with.", "plain")
    kinds: dict[str, list[str]] = {"better": [], "worse": [], "unclear": [], "plain": []}
    row = judged_split(report)["errors"][0]
    for name, sentence in zip([name for name in _VERDICT if row["fine_tuned"][name]], verdicts(report), strict=True):
        kinds[sentence.kind].append(LABELS[name][0])
    if kinds["worse"] and not kinds["better"]:
        loud = f"The parent ({_short(report)}) is better in everything that can be told apart"
        return Sentence(f"{loud}: {_listed(kinds['worse'])}. Do not use this model without a reason.", "worse")
    if not kinds["worse"] and not kinds["better"]:
        return Sentence(
            f"These frames show no difference from the parent ({_short(report)}) in {_listed(kinds['unclear'])}.",
            "unclear",
        )
    parts = [
        f"better than the parent ({_short(report)}) in {_listed(kinds['better'])}",
        f"worse in {_listed(kinds['worse'])}" if kinds["worse"] else "",
        f"not to be told from it in {_listed(kinds['unclear'])}" if kinds["unclear"] else "",
    ]
    return Sentence(f"This model is {'; '.join(filter(None, parts))}.", "mixed" if kinds["worse"] else "better")


def _never_better(report: Report) -> bool:
    """Whether the model is that of a run whose start was its best epoch."""
    return report["training"] is not None and report["training"]["best_epoch"] < 0


def _short(report: Report) -> str:
    return PurePath(report["parent"]["name"]).name


def gap_sentence(report: Report) -> Sentence | None:
    """Return how much larger errors are on validation than on training frames; None without labels or such frames."""
    if report["gap"] is None:
        return None
    mine, theirs = report["gap"]["fine_tuned"], report["gap"]["parent"] or {}
    shown = {name: ratio for name in _VERDICT if (ratio := mine[name]) is not None}
    if not shown:
        return None
    cells = [
        f"{LABELS[name][0]} {number(ratio, 2)}{f' (parent {number(theirs[name], 2)})' if theirs.get(name) else ''}"
        for name, ratio in shown.items()
    ]
    text = f"Validation RMSE over training RMSE: {', '.join(cells)}."
    if _never_better(report):
        return Sentence(text, "plain")
    counts = {name: report["splits"][1]["errors"][0]["fine_tuned"][name]["frames"] for name in shown}
    if max(counts.values()) < _FEWEST_FRAMES:
        return Sentence(f"{text} Too few validation frames to say whether that is overfitting.", "unclear")
    overfit = [LABELS[name][0] for name, ratio in shown.items() if ratio > _GAP * max(theirs.get(name) or 1.0, 1.0)]
    if not overfit:
        return Sentence(f"{text} No sign of overfitting.", "plain")
    return Sentence(
        f"{text} The model fits its training frames too closely in {_listed(overfit)}: overfitting.", "worse"
    )


def warnings(report: Report) -> list[str]:
    """Return what a reader must know before trusting the numbers."""
    found = []
    split = judged_split(report)
    if split["role"] == "valid":
        found.append(
            "The verdict is about validation frames, which chose the epoch: the errors of new frames are larger. Name "
            "frames the run has not seen with --test."
        )
    epochs = report["training"]["best_epochs"] if report["training"] else {}
    few = [name for name, epoch in epochs.items() if epoch < 0]
    if few and not _never_better(report):
        found.append(f"Stage {_listed(few)} never beat the start; its weights were not exported.")
    for entry in report["forgetting"]:
        found += [f"Forgetting on {entry['name']}: {text}" for text in entry["warnings"]]
    return found


def zero_note(report: Report) -> str:
    """Return how the energies of the parent were brought to the zero of the labels."""
    parent = report["parent"]
    if parent is None:
        return ""
    if not parent["shift_ev"]:
        return f"Energies of the parent {parent['name']} are compared as they are."
    shifts = ", ".join(f"{symbol} {_signed_number(value)}" for symbol, value in parent["shift_ev"].items())
    beside = report["splits"][1 if report["training"] else 0]
    as_is = beside["parent_energy_unshifted"]
    without = f" Without it its energy RMSE on {beside['name']} is {number(as_is['rmse'])} meV/atom." if as_is else ""
    return (
        f"The zero of energy of the parent {parent['name']} may be another one: its energies are compared after a "
        f"shift, {parent['zero']} [eV]: {shifts}.{without}"
    )


def left_out_note(entry: Report) -> str:
    """Return how many frames were left out, and why."""
    reasons = (f"{plural(count, 'frame')} ({reason})" for reason, count in entry["left_out"].items())
    text = "; ".join(reasons)
    return f"Left out: {text}." if text else ""


def recipe_rows(report: Report) -> list[tuple[str, str]]:
    """Return the recipe as name and value; of a model without its run what its card says."""
    if report["recipe"] is None:
        return [(name, value) for name, value in report["card"].items() if value]
    recipe, training = report["recipe"], report["training"]
    strategy, optimiser, second = recipe["strategy"], recipe["optimiser"], recipe["stage_two"]
    kept = {key: value for key, value in strategy.items() if key not in {"kind", "parent", "architecture"} and value}
    rows = [
        ("strategy", strategy["kind"]),
        ("parent", strategy.get("parent", "")),
        ("options", _pairs(kept)),
        ("architecture", _pairs(strategy.get("architecture") or {})),
        ("E0s", recipe["e0s"]["policy"]),
        ("sources", ", ".join(recipe["data"]["sources"])),
        ("loss", f"{recipe['loss']}: {_pairs(recipe['weights'])}"),
        ("weights of groups", _pairs(recipe["config_type_weights"])),
        (
            "epochs",
            f"{optimiser['max_epochs']}, batches of {optimiser['batch_size']}, learning rate {optimiser['lr']:g}",
        ),
        (
            "stage two",
            f"from epoch {second['start_epoch']}, learning rate {second['lr']:g}, {_pairs(second['weights'])}"
            if second
            else "",
        ),
        ("exported", f"stage {training['chosen']}, epoch {training['best_epoch']}"),
        ("seed, dtype", f"{recipe['seed']}, {recipe['dtype']}; validated in {report['model']['dtype']}"),
    ]
    return [(name, value) for name, value in rows if value]


def _pairs(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_plain(value)}" for key, value in table.items())


def _plain(value: Any) -> str:  # noqa: ANN401 - values of a recipe
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class QuantityRow:
    """Errors of one quantity on one split as cells of a table."""

    label: str
    frames: str
    mine: tuple[str, str, str]
    """RMSE, MAE, relative."""
    theirs: tuple[str, str, str]
    change: str
    interval: str
    kind: str
    """``better``, ``worse`` or nothing."""


def quantity_rows(entry: Report) -> list[QuantityRow]:
    """Return a row per quantity over all frames of a split."""
    row, intervals = entry["errors"][0], entry["change_interval_percent"] or {}
    return [_quantity_row(name, row, intervals.get(name)) for name in LABELS]


def _quantity_row(name: str, row: Report, interval: list[float] | None) -> QuantityRow:
    label, unit = LABELS[name]
    mine, theirs = row["fine_tuned"][name], (row["parent"] or {}).get(name)
    change = (row["change_percent"] or {}).get(name)
    return QuantityRow(
        label=f"{label} [{unit}]",
        frames=str(mine["frames"]) if mine else NONE,
        mine=_cells(mine),
        theirs=_cells(theirs),
        change=NONE if change is None else _signed(change),
        interval=NONE if interval is None else f"{_signed(interval[0])} to {_signed(interval[1])}",
        kind="" if interval is None else "better" if interval[1] < 0 else "worse" if interval[0] > 0 else "",
    )


def _cells(errors: Report | None) -> tuple[str, str, str]:
    if errors is None:
        return NONE, NONE, NONE
    relative = errors["relative_percent"]
    return number(errors["rmse"]), number(errors["mae"]), NONE if relative is None else f"{number(relative)}{_PERCENT}"


@dataclass(frozen=True)
class GroupRow:
    """Errors of one config_type: of every quantity RMSE, that of the parent and the change."""

    config_type: str
    frames: int
    cells: tuple[tuple[str, str, str], ...]


def group_rows(entry: Report) -> list[GroupRow]:
    """Return a row per config_type."""
    return [
        GroupRow(row["config_type"], row["frames"], tuple(_group_cell(name, row) for name in LABELS))
        for row in entry["errors"][1:]
    ]


def _group_cell(name: str, row: Report) -> tuple[str, str, str]:
    mine, theirs = row["fine_tuned"][name], (row["parent"] or {}).get(name)
    change = (row["change_percent"] or {}).get(name)
    return (
        number(mine["rmse"]) if mine else NONE,
        number(theirs["rmse"]) if theirs else "",
        "" if change is None else _signed(change),
    )


def _signed(percent: float) -> str:
    return f"{_signed_number(percent, 2)}{_PERCENT}"


def _signed_number(value: float, digits: int = 4) -> str:
    return f"+{number(value, digits)}" if value > 0 else number(value, digits)


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
