"""``mimia defend``: what each defence would do for somebody's images, and what it would cost."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from mimia.config import Settings
from mimia.errors import MimiaError
from mimia.experiments.defences import UNDEFENDED, cells_for
from mimia.experiments.results import CellResult, read_result
from mimia.experiments.runner import Task, run
from mimia.experiments.tradeoff import TRADEOFF, Tradeoff, tradeoff, tradeoff_figures
from mimia.images.sources import open_source
from mimia.report.html import render_page
from mimia.store import replacing

PAGE = "defences.html"
_PROBED = 5  # one image in so many is kept to measure utility by
_MOST_PROBED = 4000
_GUESS = 0.5  # ROC area
_FEWEST_FALSE_POSITIVES = 2  # fewer than an audit asks for: defences are compared, and intervals shown


def defend(settings: Settings, directory: Path, say: Callable[[str], None]) -> tuple[Path, dict[str, str]]:
    """Train a model for each defence, attack it, measure its utility, and draw one against the other.

    Args:
        settings: Images and recipe of the model without a defence.
        directory: Gets a result for each defence, and the page; what has a result is not trained again.
        say: Tells a reader what is going on.

    Returns:
        The page, and why defences could not be measured, by name.

    Raises:
        MimiaError: The settings name a target, or the model without a defence cannot be measured.
    """
    if settings.target is not None or settings.embeddings is not None:
        raise MimiaError("Defences are compared on models that are trained here: leave out the target.")
    if settings.split.n_probe is None:
        probed = min(len(open_source(settings.data.source)) // _PROBED, _MOST_PROBED)
        split = settings.split.model_copy(update={"n_probe": max(probed, 1)})
        settings = settings.model_copy(update={"split": split})
    own: dict[str, Any] = settings.model_dump(mode="json", exclude={"store", "out", "compute"}, exclude_defaults=True)
    own.setdefault("evaluation", {}).setdefault("fewest_false_positives", _FEWEST_FALSE_POSITIVES)
    common = settings.model_dump(mode="json", include={"store", "compute"})
    cells = cells_for(own)
    tasks = [Task(str(cell.at["defence"]), cell, directory, "mimia defend") for cell in cells]
    failures = run(tasks, common, say)
    if UNDEFENDED in failures:
        raise MimiaError(f"The model without a defence could not be measured: {failures[UNDEFENDED]}")
    results = [read_result(task.path) for task in tasks if task.name not in failures]
    page = directory / PAGE
    with replacing(page) as partial:
        partial.write_text(_page(results, failures, settings.data.source), encoding="utf-8")
    return page, failures


def _page(results: Sequence[CellResult], failures: Mapping[str, str], source: str) -> str:
    names = [str(result.at["defence"]) for result in results]
    headline, sentence = advice({name: tradeoff(result) for name, result in zip(names, results, strict=True)})
    return render_page(
        "defences",
        {
            "accent": "#1b6ca8",
            "run": results[0].report.run,
            "source": source,
            "headline": headline,
            "advice": sentence,
            "heads": ("defence", *TRADEOFF),
            "rows": [(name, tradeoff(result)) for name, result in zip(names, results, strict=True)],
            "figures": list(tradeoff_figures(results).values()),
            "failures": failures,
        },
    )


def advice(rows: Mapping[str, Tradeoff]) -> tuple[str, str]:
    """Say which defence leaks least among those whose utility is not clearly below that of no defence."""
    plain = rows[UNDEFENDED]
    if (plain.area.low or 0.0) <= _GUESS:
        return "No leak to defend against", (
            f"Without a defence, the strongest attack has a ROC area of {plain.area}, which may be a guess: train for "
            "longer, or give more images, to see what a defence does."
        )
    name_of_utility = "guessed" if plain.linear_probe.value is None else "linear_probe"
    utility = attrgetter(name_of_utility)
    found = {
        name: row.found.value
        for name, row in rows.items()
        if row.found.value is not None and (utility(row).value or 0.0) >= (utility(plain).low or 0.0)
    }
    if not found:
        return "Too few images", "So few non-members tell nothing of one false alarm in a hundred: give more images."
    best = min(found, key=lambda name: found[name])
    called = TRADEOFF[Tradeoff._fields.index(name_of_utility)]
    if best == UNDEFENDED:
        return "No defence helps", f"Of those that leave the {called} as it is, none leaks less than no defence."
    return (
        f"{best[0].upper()}{best[1:]}",
        f"Of the defences whose {called} is not below the interval of the undefended model's, {utility(plain)}, this "
        f"one leaves the smallest share of the members to be found at 1 % false alarms: {rows[best].found}, instead "
        f"of {plain.found}. It was chosen on these very figures.",
    )
