from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimia.config.image_settings import SplitSettings
from mimia.data.drawing import SplitRequirements, split_for_audit, split_for_inference
from mimia.data.imageset import ImageSet
from mimia.data.splits import Split
from mimia.runtime.arrays import Ids, Indices
from mimia.runtime.errors import MimiaError


def make_ids(count: int) -> Ids:
    return np.array([f"image {number}" for number in range(count)])


def make_images(ids: Ids) -> ImageSet:
    names = np.array([f"name of {each}" for each in ids])
    return ImageSet(np.zeros((len(ids), 1, 2, 2), dtype=np.uint8), ids, names, np.zeros((len(ids), 0)))


def make_sides(**counts: int) -> dict[str, Indices]:
    """Rows of sides that stand one after the other."""
    bounds = np.cumsum([0, *counts.values()])
    return {side: np.arange(bounds[i], bounds[i + 1]) for i, side in enumerate(counts)}


def audit(sides: Mapping[str, Indices], shadows: int | SplitRequirements = 2, **sizes: int) -> Split:
    count = 1 + max(int(rows.max()) for rows in sides.values())
    requirements = shadows if isinstance(shadows, SplitRequirements) else SplitRequirements(shadows)
    return split_for_audit(make_images(make_ids(count)), sides, SplitSettings.model_validate(sizes), requirements)


def sizes(split: Split) -> dict[str, int]:
    counts = {role: len(rows_of(split, role)) for role in ("member", "nonmember", "candidate", "shadow", "holdout")}
    return {role: count for role, count in counts.items() if count}


def rows_of(split: Split, role: str) -> set[int]:
    if role == "shadow":
        return set(split.shadow_pool.rows.tolist())
    return set(split.evaluated.rows[split.evaluated.roles == role].tolist())


def all_rows(split: Split) -> list[int]:
    return [*split.evaluated.rows.tolist(), *split.shadow_pool.rows.tolist()]


@given(st.integers(5, 60), st.integers(1, 5), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_every_image_has_one_role_and_only_the_pool_is_seen_by_shadows(count: int, shadows: int, seed: int) -> None:
    split = audit(make_sides(source=count), shadows, seed=seed)
    assert sorted(all_rows(split)) == list(range(count))
    for view in (split.evaluated, split.shadow_pool, split.evaluated.members, split.evaluated.holdout):
        assert view.ids.tolist() == make_ids(count)[view.rows].tolist()
        assert view.names.tolist() == [f"name of {each}" for each in view.ids]


def test_sides_are_views_of_the_evaluated_images() -> None:
    evaluated = audit(make_sides(source=90)).evaluated
    for side, role in (
        (evaluated.members, "member"),
        (evaluated.nonmembers, "nonmember"),
        (evaluated.holdout, "holdout"),
    ):
        assert evaluated.roles[side.mask].tolist() == [role] * len(side)
        assert evaluated.rows[side.mask].tolist() == side.rows.tolist()
    assert len(evaluated.candidates) == 0
    assert evaluated.suspected.rows.tolist() == evaluated.members.rows.tolist()
    assert evaluated.compared.rows.tolist() == evaluated.nonmembers.rows.tolist()
    assert evaluated.on_sides.tolist() == (evaluated.roles != "holdout").tolist()
    inferred = infer(20, 30).evaluated
    assert inferred.suspected.rows.tolist() == inferred.candidates.rows.tolist()
    assert inferred.compared.rows.tolist() == inferred.holdout.rows.tolist()
    assert inferred.on_sides.all()


@given(st.integers(1, 20), st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_shadows_are_trained_in_pairs_on_complementary_halves(shadow_size: int, shadows: int) -> None:
    split = audit(make_sides(source=60), shadows, n_members=3, shadow_size=shadow_size)
    halves = [set(split.shadow_pool.rows[split.shadow_pool.membership[shadow]].tolist()) for shadow in range(shadows)]
    assert [len(half) for half in halves] == [shadow_size] * shadows
    for first, second in zip(halves[::2], halves[1::2], strict=False):
        assert first | second == rows_of(split, "shadow")
        assert not first & second


def test_pairs_of_shadows_halve_the_pool_differently() -> None:
    split = audit(make_sides(source=200), shadows=6)
    assert len({split.shadow_pool.membership[shadow].tobytes() for shadow in range(6)}) == 6


@pytest.mark.parametrize(
    ("sides", "sizes_given", "expected"),
    [
        ({"source": 90}, {}, (10, 50, 20, 10)),
        ({"source": 5}, {}, (1, 1, 2, 1)),
        ({"source": 90}, {"n_members": 20}, (20, 10, 40, 20)),
        ({"source": 90}, {"n_members": 1, "n_nonmembers": 2, "shadow_size": 3, "n_holdout": 4}, (1, 2, 6, 4)),
        ({"source": 90, "reference": 30}, {}, (10, 80, 20, 10)),
        ({"source": 90, "reference": 30}, {"n_members": 8, "n_nonmembers": 9}, (8, 9, 16, 8)),
        ({"members": 10, "nonmembers": 70}, {}, (10, 40, 20, 10)),
        ({"members": 90, "nonmembers": 40}, {"n_nonmembers": 5}, (90, 5, 20, 10)),
        ({"members": 30, "nonmembers": 40, "reference": 30}, {}, (30, 40, 20, 10)),
        ({"members": 10, "nonmembers": 40, "reference": 90}, {"n_members": 8, "n_nonmembers": 9}, (8, 9, 16, 8)),
    ],
)
def test_sides_get_as_many_images_as_asked_for_or_as_follows(
    sides: dict[str, int], sizes_given: dict[str, int], expected: tuple[int, ...]
) -> None:
    rows = make_sides(**sides)
    split = audit(rows, **sizes_given)
    assert sizes(split) == dict(zip(["member", "nonmember", "shadow", "holdout"], expected, strict=True))
    if "reference" in sides:
        assert rows_of(split, "shadow") | rows_of(split, "holdout") <= set(rows["reference"].tolist())
    if "source" in sides and "reference" in sides:
        assert rows_of(split, "member") | rows_of(split, "nonmember") <= set(rows["source"].tolist())
    if "source" not in sides:
        assert rows_of(split, "member") <= set(rows["members"].tolist())
        assert rows_of(split, "nonmember") <= set(rows["nonmembers"].tolist())
        pool = set(rows.get("reference", rows["nonmembers"]).tolist())
        assert rows_of(split, "shadow") | rows_of(split, "holdout") <= pool


@pytest.mark.parametrize("population", [False, True])
@pytest.mark.parametrize("decoders", [False, True])
@pytest.mark.parametrize(
    "sides",
    [
        {"source": 90},
        {"source": 30, "reference": 60},
        {"members": 10, "nonmembers": 70},
        {"members": 10, "nonmembers": 20, "reference": 60},
        {"candidates": 20, "reference": 60},
    ],
    ids=", ".join,
)
def test_further_parts_are_drawn_where_they_are_wanted_from_images_that_serve_nothing_else(
    sides: dict[str, int], decoders: bool, population: bool
) -> None:
    requirements = SplitRequirements(2, online=2, decoders=decoders, population=population)
    rows = make_sides(**sides)
    split = infer(20, 60, requirements=requirements) if "candidates" in sides else audit(rows, requirements)
    parts = [np.array(all_rows(split)), split.auxiliary.decoder, split.auxiliary.population]
    assert [len(part) > 0 for part in parts] == [True, decoders, population]
    together = np.concatenate(parts).tolist()
    assert len(together) == len(set(together))
    unseen = rows.get("reference", rows.get("nonmembers", rows.get("source")))
    assert unseen is not None
    assert {*split.auxiliary.decoder.tolist(), *split.auxiliary.population.tolist()} <= {*unseen.tolist()}


@pytest.mark.parametrize(
    ("sizes", "holdout", "population"),
    [({}, 5, 5), ({"n_population": 7}, 10, 7), ({"n_holdout": 8}, 8, 5), ({"n_population": 7, "n_holdout": 8}, 8, 7)],
)
def test_known_nonmembers_get_half_of_the_holdout_unless_sizes_are_given(
    sizes: dict[str, int], holdout: int, population: int
) -> None:
    for split in (
        audit(make_sides(source=90), SplitRequirements(2, population=True), **sizes),
        audit(make_sides(members=10, nonmembers=70), SplitRequirements(2, population=True), **sizes),
        infer(20, 30, requirements=SplitRequirements(2, population=True), **sizes),
    ):
        assert (len(split.evaluated.holdout), len(split.auxiliary.population)) == (holdout, population)


def test_known_nonmembers_are_counted_where_images_are_too_few() -> None:
    with pytest.raises(
        MimiaError, match=r"needs 120 different images, and there are 90: .* and n_probe under \[split\]"
    ):
        audit(
            make_sides(source=90),
            SplitRequirements(2, population=True),
            n_members=10,
            n_holdout=10,
            n_nonmembers=30,
            n_population=50,
        )


@given(st.integers(5, 60), st.integers(1, 7), st.booleans())
@settings(max_examples=50, deadline=None)
def test_online_models_see_complementary_halves_of_all_that_is_judged_and_nothing_else(
    count: int, models: int, inferred: bool
) -> None:
    requirements = SplitRequirements(2, online=models)
    split = (
        infer(count, count, requirements=requirements) if inferred else audit(make_sides(source=count), requirements)
    )
    evaluated = split.evaluated.online
    assert evaluated.shape == (models, len(split.evaluated))
    for first, second in zip(evaluated[::2], evaluated[1::2], strict=False):
        assert (first ^ second).all()  # so that each image is in just half of an even number of models
        assert abs(int(first.sum()) - int(second.sum())) <= 1


def test_pairs_of_online_models_halve_what_is_judged_differently() -> None:
    online = audit(make_sides(source=200), SplitRequirements(2, online=6)).evaluated.online
    assert len({halves.tobytes() for halves in online}) == 6


def test_online_models_change_neither_the_sides_nor_the_shadows_nor_those_before() -> None:
    none, few, many = (
        audit(make_sides(source=90), SplitRequirements(4, online=online, population=True)) for online in (0, 3, 6)
    )
    for split in (none, few):
        assert all_rows(split) == all_rows(many)
        np.testing.assert_array_equal(split.evaluated.roles, many.evaluated.roles)
        np.testing.assert_array_equal(split.shadow_pool.membership, many.shadow_pool.membership)
        np.testing.assert_array_equal(split.auxiliary.population, many.auxiliary.population)
        online = split.evaluated.online
        np.testing.assert_array_equal(online, many.evaluated.online[: len(online)])
    assert len({split.fingerprint for split in (none, few, many)}) == 3
    more_shadows = audit(make_sides(source=90), SplitRequirements(6, online=6, population=True))
    np.testing.assert_array_equal(more_shadows.evaluated.online, many.evaluated.online)


def test_split_follows_from_its_seed() -> None:
    sides = make_sides(source=90)
    assert audit(sides, seed=1).fingerprint == audit(sides, seed=1).fingerprint
    assert audit(sides, seed=1).fingerprint != audit(sides, seed=2).fingerprint
    assert audit(sides, seed=1).fingerprint != audit(sides, SplitRequirements(2, population=True), seed=1).fingerprint
    assert rows_of(audit(sides, seed=1), "member") != rows_of(audit(sides, seed=2), "member")


def test_more_shadows_change_neither_the_sides_nor_the_shadows_before() -> None:
    few, many = audit(make_sides(source=90), shadows=3), audit(make_sides(source=90), shadows=6)
    assert all_rows(few) == all_rows(many)
    np.testing.assert_array_equal(few.evaluated.roles, many.evaluated.roles)
    np.testing.assert_array_equal(few.shadow_pool.membership, many.shadow_pool.membership[:3])
    assert few.fingerprint != many.fingerprint


def test_other_images_to_judge_change_nothing_of_the_reference() -> None:
    reference = np.arange(100, 160)
    few = audit({"members": np.arange(10), "nonmembers": np.arange(10, 30), "reference": reference})
    many = audit({"members": np.arange(10), "nonmembers": np.arange(10, 90), "reference": reference})
    assert few.shadow_pool.ids.tolist() == many.shadow_pool.ids.tolist()
    assert few.evaluated.holdout.ids.tolist() == many.evaluated.holdout.ids.tolist()
    assert np.array_equal(few.shadow_pool.membership, many.shadow_pool.membership)


def test_images_that_are_taken_out_are_counted_and_leave_the_others_as_they_were() -> None:
    split = audit(make_sides(source=60), SplitRequirements(2, online=2))
    removed = np.zeros(len(split.evaluated), dtype=bool)
    removed[np.flatnonzero(split.evaluated.nonmembers.mask)[:3]] = True
    smaller = split.without(removed, "near-duplicates")
    assert smaller.duplicates == {"near-duplicates": 3}
    assert sizes(smaller) == sizes(split) | {"nonmember": sizes(split)["nonmember"] - 3}
    assert smaller.evaluated.names.tolist() == split.evaluated.names[~removed].tolist()
    assert np.array_equal(smaller.evaluated.online, split.evaluated.online[:, ~removed])
    assert smaller.shadow_pool is split.shadow_pool


def test_draw_favours_no_place_in_the_source() -> None:
    drawn = [row for seed in range(300) for row in rows_of(audit(make_sides(source=18), seed=seed), "member")]
    counts = np.bincount(drawn, minlength=18)
    assert counts.sum() == 600
    assert (np.abs(counts - 600 / 18) < 4 * np.sqrt(600 / 18)).all()


def test_image_of_several_sides_stays_on_the_first_and_is_counted() -> None:
    sides = {"members": np.arange(10), "nonmembers": np.arange(8, 30), "reference": np.arange(20, 60)}
    ids = make_ids(60)
    ids[[1, 2]] = ids[0]
    ids[59] = ids[58]
    split = split_for_audit(make_images(ids), sides, SplitSettings(), SplitRequirements(2))
    assert rows_of(split, "member") == {0, 3, 4, 5, 6, 7, 8, 9}
    assert rows_of(split, "nonmember") == set(range(10, 30))
    assert min(rows_of(split, "shadow") | rows_of(split, "holdout")) >= 30
    assert split.duplicates == {
        "within members": 2,
        "of nonmembers on an earlier side": 2,
        "within reference": 1,
        "of reference on an earlier side": 10,
    }


def test_members_and_nonmembers_must_be_different_images() -> None:
    with pytest.raises(MimiaError, match=r"Every image of the nonmembers is also on another side"):
        audit({"members": np.arange(30), "nonmembers": np.arange(30)})


@pytest.mark.parametrize(
    ("sides", "sizes_given", "needed", "there"),
    [
        ({"source": 4}, {}, 5, 4),
        ({"source": 100}, {"n_members": 30}, 121, 100),
        ({"source": 100}, {"n_members": 10, "n_nonmembers": 80}, 120, 100),
        ({"members": 3, "nonmembers": 100}, {"n_members": 4}, 4, 3),
        ({"members": 30, "nonmembers": 3}, {}, 4, 3),
        ({"members": 30, "nonmembers": 100}, {"n_nonmembers": 50, "shadow_size": 20, "n_holdout": 20}, 110, 100),
        ({"members": 30, "nonmembers": 9, "reference": 2}, {}, 3, 2),
        ({"members": 30, "nonmembers": 9, "reference": 90}, {"n_nonmembers": 10}, 10, 9),
    ],
)
def test_too_few_images_are_an_error_with_the_number_that_would_do(
    sides: dict[str, int], sizes_given: dict[str, int], needed: int, there: int
) -> None:
    with pytest.raises(MimiaError, match=rf"needs {needed} different \w+, and there are {there}: give more"):
        audit(make_sides(**sides), **sizes_given)
    short = max(sides, key=lambda side: sides[side] == there)
    audit(make_sides(**sides | {short: needed}), **sizes_given)  # does


def infer(
    candidates: int, reference: int, copied: int = 0, requirements: SplitRequirements | None = None, **sizes: int
) -> Split:
    ids = make_ids(candidates + reference)
    ids[candidates : candidates + copied] = ids[:copied]
    sides = make_sides(candidates=candidates, reference=reference)
    return split_for_inference(
        make_images(ids), sides, SplitSettings.model_validate(sizes), requirements or SplitRequirements(2)
    )


def test_inference_keeps_every_candidate_and_splits_the_reference() -> None:
    split = infer(20, 30)
    assert sizes(split) == {"candidate": 20, "shadow": 20, "holdout": 10}
    assert rows_of(split, "candidate") == set(range(20))
    assert (split.shadow_pool.membership.sum(axis=0) == 1).all()
    assert infer(20, 30).fingerprint == split.fingerprint
    assert rows_of(infer(20, 30, seed=1), "holdout") != rows_of(split, "holdout")
    assert sizes(infer(20, 30, n_holdout=4, shadow_size=6)) == {"candidate": 20, "shadow": 12, "holdout": 4}


def test_candidate_that_is_a_reference_image_too_stays_a_candidate() -> None:
    split = infer(20, 30, copied=5)
    assert rows_of(split, "candidate") == set(range(20))
    assert min(rows_of(split, "shadow") | rows_of(split, "holdout")) >= 25
    assert split.duplicates == {"of reference on an earlier side": 5}


def test_inference_needs_three_reference_images() -> None:
    assert sizes(infer(20, 3)) == {"candidate": 20, "shadow": 2, "holdout": 1}
    with pytest.raises(MimiaError, match=r"needs 3 different images, and there are 2"):
        infer(20, 2)


@given(st.integers(1, 8), st.integers(2, 8), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_images_for_validation_and_probes_are_apart_and_change_no_other_draw(
    validation: int, probe: int, seed: int
) -> None:
    requirements = SplitRequirements(2, decoders=True, population=True, validation=True)
    counts = {"n_members": 5, "n_nonmembers": 9, "n_holdout": 4, "n_decoder": 6, "n_population": 3, "seed": seed}
    sides = [
        make_sides(source=60),
        make_sides(members=5, nonmembers=60),
        make_sides(members=5, nonmembers=40, reference=60),
    ]
    for each in sides:
        split = audit(each, requirements, **counts, n_validation=validation, n_probe=probe)
        without = audit(each, SplitRequirements(2, decoders=True, population=True), **counts)
        assert all_rows(split) == all_rows(without)
        assert split.evaluated.roles.tolist() == without.evaluated.roles.tolist()
        parts = [np.array(all_rows(split)), *vars(split.auxiliary).values()]
        assert [len(part) for part in parts[3:]] == [validation, probe]
        assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
        allowed = set(each["source" if "source" in each else "nonmembers"].tolist())
        assert {*split.auxiliary.validation.tolist(), *split.auxiliary.probe.tolist()} <= allowed


def test_nothing_is_set_aside_unless_it_is_wanted() -> None:
    split = audit(make_sides(source=60), n_validation=5)
    assert (len(split.auxiliary.validation), len(split.auxiliary.probe)) == (0, 0)


def test_more_images_to_set_aside_than_there_are_is_an_error() -> None:
    with pytest.raises(MimiaError, match="needs 61 different images, and there are 60"):
        audit(make_sides(source=60), n_probe=60)


def test_inference_measures_no_use() -> None:
    with pytest.raises(MimiaError, match=r"leave out split\.n_probe"):
        split_for_inference(
            make_images(make_ids(20)),
            make_sides(candidates=5, reference=15),
            SplitSettings(n_probe=3),
            SplitRequirements(shadows=2),
        )
