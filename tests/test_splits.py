from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimia.arrays import Ids, Indices
from mimia.config import SplitSettings
from mimia.errors import MimiaError
from mimia.splits import Role, Split, Wanted, split_for_audit, split_for_inference

ROLES: tuple[Role, ...] = ("member", "nonmember", "candidate", "shadow", "holdout")


def make_ids(count: int) -> Ids:
    return np.array([f"image {number}" for number in range(count)])


def make_sides(**counts: int) -> dict[str, Indices]:
    """Rows of sides that stand one after the other."""
    bounds = np.cumsum([0, *counts.values()])
    return {side: np.arange(bounds[i], bounds[i + 1]) for i, side in enumerate(counts)}


def audit(sides: Mapping[str, Indices], shadows: int | Wanted = 2, **sizes: int) -> Split:
    count = 1 + max(int(rows.max()) for rows in sides.values())
    wanted = shadows if isinstance(shadows, Wanted) else Wanted(shadows)
    return split_for_audit(make_ids(count), sides, SplitSettings.model_validate(sizes), wanted)


def sizes(split: Split) -> dict[str, int]:
    return {role: int(split.of(role).sum()) for role in ROLES if split.of(role).any()}


def rows_of(split: Split, role: Role) -> set[int]:
    return set(split.rows[split.of(role)].tolist())


@given(st.integers(5, 60), st.integers(1, 5), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_every_image_has_one_role_and_only_the_pool_is_seen_by_shadows(count: int, shadows: int, seed: int) -> None:
    split = audit(make_sides(source=count), shadows, seed=seed)
    assert len(set(split.rows.tolist())) == len(split.rows)
    assert sum(sizes(split).values()) == len(split.rows) == count
    assert split.ids.tolist() == make_ids(count)[split.rows].tolist()
    assert not split.membership[:, ~split.of("shadow")].any()


@given(st.integers(1, 20), st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_shadows_are_trained_in_pairs_on_complementary_halves(shadow_size: int, shadows: int) -> None:
    split = audit(make_sides(source=60), shadows, n_members=3, shadow_size=shadow_size)
    halves = [set(split.rows[split.membership[shadow]].tolist()) for shadow in range(shadows)]
    assert [len(half) for half in halves] == [shadow_size] * shadows
    for first, second in zip(halves[::2], halves[1::2], strict=False):
        assert first | second == rows_of(split, "shadow")
        assert not first & second


def test_pairs_of_shadows_halve_the_pool_differently() -> None:
    split = audit(make_sides(source=200), shadows=6)
    assert len({split.membership[shadow].tobytes() for shadow in range(6)}) == 6


@pytest.mark.parametrize(
    ("sides", "wanted", "expected"),
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
    sides: dict[str, int], wanted: dict[str, int], expected: tuple[int, ...]
) -> None:
    rows = make_sides(**sides)
    split = audit(rows, **wanted)
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


@pytest.mark.parametrize("known", [False, True])
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
    sides: dict[str, int], decoders: bool, known: bool
) -> None:
    wanted = Wanted(2, online=2, decoders=decoders, known=known)
    rows = make_sides(**sides)
    split = infer(20, 60, wanted=wanted) if "candidates" in sides else audit(rows, wanted)
    parts = [split.rows, split.apart.decoder, split.apart.known]
    assert [len(part) > 0 for part in parts] == [True, decoders, known]
    together = np.concatenate(parts).tolist()
    assert len(together) == len(set(together))
    unseen = rows.get("reference", rows.get("nonmembers", rows.get("source")))
    assert unseen is not None
    assert {*split.apart.decoder.tolist(), *split.apart.known.tolist()} <= {*unseen.tolist()}


@pytest.mark.parametrize(
    ("sizes", "holdout", "known"),
    [({}, 5, 5), ({"n_known": 7}, 10, 7), ({"n_holdout": 8}, 8, 5), ({"n_known": 7, "n_holdout": 8}, 8, 7)],
)
def test_known_nonmembers_get_half_of_the_holdout_unless_sizes_are_given(
    sizes: dict[str, int], holdout: int, known: int
) -> None:
    for split in (
        audit(make_sides(source=90), Wanted(2, known=True), **sizes),
        audit(make_sides(members=10, nonmembers=70), Wanted(2, known=True), **sizes),
        infer(20, 30, wanted=Wanted(2, known=True), **sizes),
    ):
        assert (int(split.of("holdout").sum()), len(split.apart.known)) == (holdout, known)


def test_known_nonmembers_are_counted_where_images_are_too_few() -> None:
    with pytest.raises(
        MimiaError, match=r"needs 120 different images, and there are 90: .* and n_probe under \[split\]"
    ):
        audit(make_sides(source=90), Wanted(2, known=True), n_members=10, n_holdout=10, n_nonmembers=30, n_known=50)


@given(st.integers(5, 60), st.integers(1, 7), st.booleans())
@settings(max_examples=50, deadline=None)
def test_online_models_see_complementary_halves_of_all_that_is_judged_and_nothing_else(
    count: int, models: int, inferred: bool
) -> None:
    wanted = Wanted(2, online=models)
    split = infer(count, count, wanted=wanted) if inferred else audit(make_sides(source=count), wanted)
    assert split.online.shape == (models, len(split.rows))
    assert not split.online[:, split.of("shadow")].any()
    judged = split.online[:, split.judged]
    for first, second in zip(judged[::2], judged[1::2], strict=False):
        assert (first ^ second).all()  # so that each image is in just half of an even number of models
        assert abs(int(first.sum()) - int(second.sum())) <= 1


def test_pairs_of_online_models_halve_what_is_judged_differently() -> None:
    online = audit(make_sides(source=200), Wanted(2, online=6)).online
    assert len({halves.tobytes() for halves in online}) == 6


def test_online_models_change_neither_the_sides_nor_the_shadows_nor_those_before() -> None:
    none, few, many = (audit(make_sides(source=90), Wanted(4, online=online, known=True)) for online in (0, 3, 6))
    for split in (none, few):
        np.testing.assert_array_equal(split.rows, many.rows)
        np.testing.assert_array_equal(split.roles, many.roles)
        np.testing.assert_array_equal(split.membership, many.membership)
        np.testing.assert_array_equal(split.apart.known, many.apart.known)
        np.testing.assert_array_equal(split.online, many.online[: len(split.online)])
    assert len({split.fingerprint for split in (none, few, many)}) == 3
    more_shadows = audit(make_sides(source=90), Wanted(6, online=6, known=True))
    np.testing.assert_array_equal(more_shadows.online, many.online)


def test_split_follows_from_its_seed() -> None:
    sides = make_sides(source=90)
    assert audit(sides, seed=1).fingerprint == audit(sides, seed=1).fingerprint
    assert audit(sides, seed=1).fingerprint != audit(sides, seed=2).fingerprint
    assert audit(sides, seed=1).fingerprint != audit(sides, Wanted(2, known=True), seed=1).fingerprint
    assert rows_of(audit(sides, seed=1), "member") != rows_of(audit(sides, seed=2), "member")


def test_more_shadows_change_neither_the_sides_nor_the_shadows_before() -> None:
    few, many = audit(make_sides(source=90), shadows=3), audit(make_sides(source=90), shadows=6)
    np.testing.assert_array_equal(few.rows, many.rows)
    np.testing.assert_array_equal(few.roles, many.roles)
    np.testing.assert_array_equal(few.membership, many.membership[:3])
    assert few.fingerprint != many.fingerprint


def test_other_images_to_judge_change_nothing_of_the_reference() -> None:
    reference = np.arange(100, 160)
    few = audit({"members": np.arange(10), "nonmembers": np.arange(10, 30), "reference": reference})
    many = audit({"members": np.arange(10), "nonmembers": np.arange(10, 90), "reference": reference})
    for role in ("shadow", "holdout"):
        assert few.ids[few.of(role)].tolist() == many.ids[many.of(role)].tolist()
    pool = few.of("shadow"), many.of("shadow")
    assert np.array_equal(few.membership[:, pool[0]], many.membership[:, pool[1]])


def test_images_that_are_taken_out_are_counted_and_leave_the_others_as_they_were() -> None:
    split = audit(make_sides(source=60), Wanted(2, online=2))
    gone = np.flatnonzero(split.of("nonmember"))[:3]
    smaller = split.without(gone, "near-duplicates")
    assert smaller.duplicates == {"near-duplicates": 3}
    assert sizes(smaller) == sizes(split) | {"nonmember": sizes(split)["nonmember"] - 3}
    kept = np.setdiff1d(np.arange(len(split.rows)), gone)
    assert smaller.rows.tolist() == split.rows[kept].tolist()
    assert np.array_equal(smaller.membership, split.membership[:, kept])
    assert np.array_equal(smaller.online, split.online[:, kept])


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
    split = split_for_audit(ids, sides, SplitSettings(), Wanted(2))
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
    with pytest.raises(MimiaError, match=r"Every image of the nonmembers stands on another side too"):
        audit({"members": np.arange(30), "nonmembers": np.arange(30)})


@pytest.mark.parametrize(
    ("sides", "wanted", "needed", "there"),
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
    sides: dict[str, int], wanted: dict[str, int], needed: int, there: int
) -> None:
    with pytest.raises(MimiaError, match=rf"needs {needed} different \w+, and there are {there}: give more"):
        audit(make_sides(**sides), **wanted)
    short = max(sides, key=lambda side: sides[side] == there)
    audit(make_sides(**sides | {short: needed}), **wanted)  # does


def infer(candidates: int, reference: int, copied: int = 0, wanted: Wanted | None = None, **sizes: int) -> Split:
    ids = make_ids(candidates + reference)
    ids[candidates : candidates + copied] = ids[:copied]
    sides = make_sides(candidates=candidates, reference=reference)
    return split_for_inference(ids, sides, SplitSettings.model_validate(sizes), wanted or Wanted(2))


def test_inference_keeps_every_candidate_and_splits_the_reference() -> None:
    split = infer(20, 30)
    assert sizes(split) == {"candidate": 20, "shadow": 20, "holdout": 10}
    assert rows_of(split, "candidate") == set(range(20))
    np.testing.assert_array_equal(split.membership.sum(axis=0), split.of("shadow"))
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


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_images_for_validation_and_probes_are_apart_and_change_no_other_draw(
    validation: int, probe: int, seed: int
) -> None:
    wanted = Wanted(2, decoders=True, known=True, validation=True)
    counts = {"n_members": 5, "n_nonmembers": 9, "n_holdout": 4, "n_decoder": 6, "n_known": 3, "seed": seed}
    sides = [
        make_sides(source=60),
        make_sides(members=5, nonmembers=60),
        make_sides(members=5, nonmembers=40, reference=60),
    ]
    for each in sides:
        split = audit(each, wanted, **counts, n_validation=validation, n_probe=probe)
        without = audit(each, Wanted(2, decoders=True, known=True), **counts)
        assert split.rows.tolist() == without.rows.tolist()
        assert split.roles.tolist() == without.roles.tolist()
        parts = [split.rows, *vars(split.apart).values()]
        assert [len(part) for part in parts[3:]] == [validation, probe]
        assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
        allowed = set(each["source" if "source" in each else "nonmembers"].tolist())
        assert {*split.apart.validation.tolist(), *split.apart.probe.tolist()} <= allowed


def test_nothing_is_set_aside_unless_it_is_wanted() -> None:
    split = audit(make_sides(source=60), n_validation=5)
    assert (len(split.apart.validation), len(split.apart.probe)) == (0, 0)


def test_more_images_to_set_aside_than_there_are_is_an_error() -> None:
    with pytest.raises(MimiaError, match="needs 61 different images, and there are 60"):
        audit(make_sides(source=60), n_probe=60)


def test_inference_measures_no_use() -> None:
    with pytest.raises(MimiaError, match=r"leave out split\.n_probe"):
        split_for_inference(
            make_ids(20), make_sides(candidates=5, reference=15), SplitSettings(n_probe=3), Wanted(shadows=2)
        )
