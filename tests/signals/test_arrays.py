import numpy as np
import pytest

from mimia.runtime.arrays import Bools
from mimia.signals.arrays import AttackInput, ShadowSignals, Signals, leave_one_out

SIGNALS = {"reconstruction": 3, "embeddings": 5}  # numbers of each image


def make_signals(models: str = "cab", images: str = "zxyw", query_id: str = "q", **changes: int) -> Signals:
    """Make numbers that are unique to their model, image, signal and place."""
    values = {
        name: np.array(
            [
                [[100 * ord(model) + ord(image) + place / 10 + count for place in range(count)] for image in images]
                for model in models
            ],
            dtype=np.float32,
        )
        for name, count in (SIGNALS | changes).items()
    }
    return Signals(values, tuple(models), np.array([*images]), query_id)


def make_shadows(models: str = "cab", images: str = "zxyw", query_id: str = "q") -> ShadowSignals:
    return ShadowSignals(make_signals(models, images, query_id), membership(models, images))


def membership(models: str, images: str) -> Bools:
    return np.array([[(ord(model) + ord(image)) % 3 == 0 for image in images] for model in models])


def assert_same(found: Signals, expected: Signals) -> None:
    assert (found.models, found.images.tolist(), found.query_id) == (
        expected.models,
        expected.images.tolist(),
        expected.query_id,
    )
    assert found.values.keys() == expected.values.keys()
    for name, values in expected.values.items():
        np.testing.assert_array_equal(found[name], values)


def test_parts_of_signals_are_those_of_the_models_and_images_that_are_kept() -> None:
    signals = make_signals()
    assert_same(signals.of_model(1), make_signals("a"))
    assert_same(signals.without_model(1), make_signals("cb"))
    assert_same(signals.of_images(np.array([True, False, False, True])), make_signals(images="zw"))
    assert_same(make_shadows().of_images(np.array([False, True, True, False])).signals, make_signals(images="xy"))


@pytest.mark.parametrize("index", range(3))
def test_shadows_lose_a_model_with_its_membership(index: int) -> None:
    models = "cab".replace("cab"[index], "")
    shadows = make_shadows().without(index)
    assert len(shadows) == 2
    assert_same(shadows.signals, make_signals(models))
    np.testing.assert_array_equal(shadows.membership, membership(models, "zxyw"))


@pytest.mark.parametrize(("models", "images"), [("cab", "zxyw"), ("bca", "xwzy"), ("abc", "wxyz")])
def test_ordered_shadows_are_the_same_in_whatever_order_they_came(models: str, images: str) -> None:
    ordered = make_shadows(models, images).ordered()
    assert_same(ordered.signals, make_signals("abc", "wxyz"))
    np.testing.assert_array_equal(ordered.membership, membership("abc", "wxyz"))


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    values = {"reconstruction": np.zeros((3, 4, 2), dtype=np.float32)}
    for models, images in (("ab", "wxyz"), ("abc", "xyz")):
        with pytest.raises(ValueError, match=r"reconstruction has the shape \(3, 4, 2\), which does not fit"):
            Signals(values, tuple(models), np.array([*images]), "m")
    for shape in ((2, 4), (3, 3), (4, 3)):
        with pytest.raises(ValueError, match="membership has the shape"):
            ShadowSignals(make_signals(), np.zeros(shape, dtype=bool))


def test_input_that_does_not_belong_together_is_refused() -> None:
    target, references = make_signals("t"), make_shadows()
    AttackInput(target, references)
    with pytest.raises(ValueError, match="one target is evaluated at a time, not 2"):
        AttackInput(make_signals("tu"), references)
    for other in (make_signals("t", "zxwy"), make_signals("t", query_id="p"), make_signals("t", "zxy")):
        with pytest.raises(ValueError, match="same images and queries"):
            AttackInput(other, references)
    with pytest.raises(ValueError, match="same number of draws"):
        AttackInput(make_signals("t", reconstruction=4), references)
    with pytest.raises(ValueError, match="must have the same signals"):
        AttackInput(make_signals("t", gradients=4), references)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("of_target", [True, False])
def test_input_that_is_not_finite_is_refused(value: float, of_target: bool) -> None:
    target, references = make_signals("t"), make_shadows()
    broken = target if of_target else references.signals
    broken["embeddings"][0, 2, 1] = value
    with pytest.raises(ValueError, match="finite"):
        AttackInput(target, references)


def test_input_of_some_images_keeps_the_whole_population() -> None:
    population = AttackInput(make_signals("t", "uv"), make_shadows(images="uv"))
    inputs = AttackInput(make_signals("t"), make_shadows(), population)
    found = inputs.of_images(np.array([False, False, True, True]))
    assert_same(found.target, make_signals("t", "yw"))
    assert_same(found.references.signals, make_signals(images="yw"))
    np.testing.assert_array_equal(found.references.membership, membership("cab", "yw"))
    assert found.population is population


@pytest.mark.parametrize("index", range(3))
def test_one_shadow_takes_the_place_of_the_target_and_the_others_are_references(index: int) -> None:
    models, model = "cab".replace("cab"[index], ""), "cab"[index]
    unseen = ShadowSignals(make_signals(images="uv"), np.zeros((3, 2), dtype=bool))
    inputs = leave_one_out(make_shadows(), index, unseen)
    assert_same(inputs.target, make_signals(model))
    assert_same(inputs.references.signals, make_signals(models))
    np.testing.assert_array_equal(inputs.references.membership, membership(models, "zxyw"))
    assert inputs.population is not None
    assert_same(inputs.population.target, make_signals(model, "uv"))
    assert_same(inputs.population.references.signals, make_signals(models, "uv"))
    assert inputs.population.population is None
    assert leave_one_out(make_shadows(), index).population is None
