"""``mimia defend``: what each defence does for given images, and what it costs."""

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from operator import attrgetter
from pathlib import Path
from typing import Any

from mimia.config.settings import Settings
from mimia.data.sources import open_source
from mimia.experiments.defences import UNDEFENDED, cells_for
from mimia.experiments.results import CellResult, read_result
from mimia.experiments.runner import Task, run
from mimia.experiments.tradeoff import TRADEOFF, Tradeoff, tradeoff, tradeoff_figures
from mimia.report.html import render_page
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import replacing

PAGE = "defences.html"
_PROBED = 5  # one image in so many is used to measure utility
_MOST_PROBED = 4000
_GUESS = 0.5  # AUC
_FEWEST_FALSE_POSITIVES = 2  # fewer than in an audit: defences are compared, with intervals


def defend(settings: Settings, directory: Path, say: Callable[[str], None]) -> tuple[Path, dict[str, str]]:
    """Train a model for each defence, attack it, measure its utility, and render both on a page.

    Args:
        settings: Images and recipe of the model without a defence.
        directory: Of the results and the page; a defence with a result is not trained again.
        say: Is called with each line of progress.

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
    tasks = [Task(str(cell.coordinates["defence"]), cell, directory, "mimia defend") for cell in cells]
    failures = run(tasks, common, say)
    if UNDEFENDED in failures:
        raise MimiaError(f"The model without a defence could not be measured: {failures[UNDEFENDED]}")
    results = [read_result(task.path) for task in tasks if task.name not in failures]
    page = directory / PAGE
    with replacing(page) as partial:
        partial.write_text(defences_page(results, failures, settings.data.source), encoding="utf-8")
    return page, failures


def defences_page(results: Sequence[CellResult], failures: Mapping[str, str], source: str) -> str:
    """Return the HTML page of results of `cells_for`.

    Args:
        results: One for each defence that was measured.
        failures: Why others were not, by name.
        source: Where the images came from.
    """
    names = [str(result.coordinates["defence"]) for result in results]
    headline, sentence = advice({name: tradeoff(result) for name, result in zip(names, results, strict=True)})
    return render_page(
        resources.files(__package__).joinpath("defences.html.j2").read_text(encoding="utf-8"),
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
    """Return, as a headline and a sentence, which defence leaks least without a clear loss of utility."""
    plain = rows[UNDEFENDED]
    if (plain.auc.low or 0.0) <= _GUESS:
        return "No leak to defend against", (
            f"Without a defence, the strongest attack has an AUC of {plain.auc}, which may be chance: train for "
            "longer, or give more images, to see what a defence does."
        )
    name_of_utility = "explained" if plain.linear_probe.value is None else "linear_probe"
    utility = attrgetter(name_of_utility)
    found = {
        name: row.tpr_at_1_percent.value
        for name, row in rows.items()
        if row.tpr_at_1_percent.value is not None and (utility(row).value or 0.0) >= (utility(plain).low or 0.0)
    }
    if not found:
        return "Too few images", "There are too few non-members for an FPR of 1 %: give more images."
    best = min(found, key=lambda name: found[name])
    called = TRADEOFF[Tradeoff._fields.index(name_of_utility)]
    if best == UNDEFENDED:
        return "No defence helps", f"None of the defences that leave the {called} unchanged leaks less than no defence."
    return (
        f"{best[0].upper()}{best[1:]}",
        f"Of the defences whose {called} is not below the interval of the undefended model's, {utility(plain)}, this "
        f"one has the smallest TPR at 1 % FPR: {rows[best].tpr_at_1_percent}, instead "
        f"of {plain.tpr_at_1_percent}. It was chosen on these figures.",
    )
