"""What `mimia defend` advises, and its page."""

from pathlib import Path

import pytest

from mimia.config.settings import read_settings
from mimia.evaluation.intervals import Estimate
from mimia.experiments.defences import cells_for, defences
from mimia.experiments.defend import advice, defend
from mimia.experiments.tradeoff import Tradeoff
from mimia.runtime.errors import MimiaError


def row(tpr: float | None, probe: float | None, explained: float = 0.5, auc: float = 0.8) -> Tradeoff:
    def estimate(value: float | None) -> Estimate:
        return Estimate(None, note="none") if value is None else Estimate(value, value - 0.05, value + 0.05)

    none = Estimate(None, note="none")
    return Tradeoff("threshold", estimate(auc), estimate(tpr), none, estimate(probe), none, estimate(explained))


@pytest.mark.parametrize(
    ("rows", "headline"),
    [
        ({"none": row(0.5, 0.8), "flips": row(0.2, 0.79), "crops": row(0.3, 0.9)}, "Flips"),
        ({"none": row(0.5, 0.8), "flips": row(0.0, 0.7), "crops": row(0.3, 0.76)}, "Crops"),  # flips cost too much
        ({"none": row(0.1, 0.8), "flips": row(0.2, 0.8)}, "No defence helps"),
        ({"none": row(0.5, None, 0.4), "flips": row(0.1, None, 0.3), "crops": row(0.3, None, 0.41)}, "Crops"),
        ({"none": row(0.1, 0.8, auc=0.54), "flips": row(0.0, 0.8)}, "No leak to defend against"),
        ({"none": row(None, 0.8), "flips": row(None, 0.8)}, "Too few images"),
    ],
)
def test_advice_is_the_smallest_leak_of_those_that_are_as_useful(rows: dict[str, Tradeoff], headline: str) -> None:
    found, sentence = advice(rows)
    assert found == headline
    if headline in ("Flips", "Crops"):
        assert str(rows[headline.lower()].tpr_at_1_percent) in sentence
        assert str(rows["none"].tpr_at_1_percent) in sentence


def test_each_defence_is_one_change_of_the_recipe_that_is_given() -> None:
    plain, *others = (read_settings(None, cell.settings).recipe for cell in cells_for({"recipe": {"epochs": 40}}))
    assert plain == plain.undefended
    assert len({recipe.model_dump_json() for recipe in (plain, *others)}) == 1 + len(others)
    for recipe in others:
        changed = {name for name, value in recipe if value != getattr(plain, name)}
        assert len(changed) == 1


def test_training_of_a_single_epoch_has_no_shorter_one() -> None:
    assert not [name for name in defences(1, 0.05) if "epochs" in name]


def test_target_that_is_given_has_no_defences_to_compare(tmp_path: Path) -> None:
    with pytest.raises(MimiaError, match="trained here: leave out the target"):
        defend(read_settings(None, {"target": "somewhere"}), tmp_path, print)
