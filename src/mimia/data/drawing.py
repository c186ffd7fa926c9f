"""Draw a split: who is a member of which model.

From one source, members, non-members and the shadow pool are drawn at random, so that they differ in nothing but
membership. What each part of a split is for is said in `mimia.data.splits`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mimia.config.image_settings import SplitSettings
from mimia.data.imageset import ImageSet
from mimia.data.splits import AuxiliaryRows, EvaluatedImages, Role, ShadowPool, Split
from mimia.runtime.arrays import Bools, Ids, Indices
from mimia.runtime.errors import MimiaError

SIDES = ("members", "nonmembers", "reference")
_MOST_FOR_DECODERS = 4000  # by default
_STREAMS = {"source": (), "members": (3,), "nonmembers": (4,), "reference": (5,)}  # of random numbers


@dataclass(frozen=True)
class SplitRequirements:
    """What a run needs of its split.

    Attributes:
        shadows: Number of shadow models.
        online: Number of models for the online attacks.
        decoders: Whether decoders have to be fitted.
        population: Whether an attack learns from a population of non-members.
        validation: Whether trainings are stopped by the loss on validation images.
    """

    shadows: int
    online: int = 0
    decoders: bool = False
    population: bool = False
    validation: bool = False


def split_for_audit(
    images: ImageSet, sides: Mapping[str, Indices], settings: SplitSettings, requirements: SplitRequirements
) -> Split:
    """Draw members, non-members, the shadow pool and the holdout.

    Args:
        images: All images.
        sides: Rows of each source by its side: ``source`` for one that serves all sides, or ``members`` and
            ``nonmembers``; with either perhaps ``reference``.
        settings: Sizes of the parts; those that are not given follow from how many images there are.
        requirements: What the run needs.

    Raises:
        MimiaError: There are too few images, or members and non-members are the same images.
    """
    pools, duplicates = _without_duplicates(images.ids, sides)
    # A generator for each: shadows do not change, and need not be trained anew, with the images that are evaluated.
    pools = {
        side: np.random.default_rng([settings.seed, *_STREAMS[side]]).permutation(rows) for side, rows in pools.items()
    }
    judging = "source" if "source" in pools else "nonmembers"
    pools[judging], validation_rows, probe_rows = _set_aside(pools[judging], settings, requirements)
    if "source" in pools and "reference" in pools:
        source, members = pools["source"], settings.n_members or max(len(pools["source"]) // 9, 1)
        pools = {"members": source[:members], "nonmembers": source[members:], "reference": pools["reference"]}
    if "source" in pools:
        n = len(pools["source"])
        members = settings.n_members or max(n // 9, 1)
        shadow_size, holdout, population = reference_sizes(settings, members, requirements)
        decoder = _decoder_size(settings, n, requirements)
        nonmembers = settings.n_nonmembers or max(n - members - 2 * shadow_size - holdout - decoder - population, 1)
        drawn = _deal(pools["source"], members, 2 * shadow_size, holdout, nonmembers, decoder, population)
    else:
        drawn = _draw_from_sides(pools, settings, requirements)
    members_rows, shadow_rows, holdout_rows, nonmember_rows, decoder_rows, population_rows = drawn
    split = _assemble(
        images,
        {"member": members_rows, "nonmember": nonmember_rows, "holdout": holdout_rows},
        shadow_rows,
        AuxiliaryRows(decoder_rows, population_rows, validation_rows, probe_rows),
        requirements,
        settings.seed,
    )
    return replace(split, duplicates=duplicates)


def split_for_inference(
    images: ImageSet, sides: Mapping[str, Indices], settings: SplitSettings, requirements: SplitRequirements
) -> Split:
    """Split the reference images of an inference into the shadow pool and the holdout.

    Args:
        images: All images.
        sides: Rows of ``candidates`` and ``reference``; an image of both is a candidate.
        settings: Size of the holdout (a third of the reference images by default) and of a shadow.
        requirements: What the run needs.

    Raises:
        MimiaError: There are too few reference images, or ``n_probe`` is set.
    """
    if settings.n_probe:
        raise MimiaError("Only an audit measures how useful a model is: leave out split.n_probe.")
    generator = np.random.default_rng(settings.seed)
    pools, duplicates = _without_duplicates(images.ids, sides)
    reference, validation_rows, probe_rows = _set_aside(
        generator.permutation(pools["reference"]), settings, requirements
    )
    decoder = _decoder_size(settings, len(reference), requirements)
    rest = len(reference) - decoder
    shadow_size, holdout, population = reference_sizes(settings, rest // 3, requirements)
    if requirements.shadows and not settings.shadow_size:
        shadow_size = max((rest - holdout - population) // 2, 1)
    elif not requirements.shadows and not settings.n_holdout:
        holdout = rest - population
    pool, held, decoder_rows, population_rows = _deal(reference, 2 * shadow_size, holdout, decoder, population)
    split = _assemble(
        images,
        {"candidate": np.sort(pools["candidates"]), "holdout": held},
        pool,
        AuxiliaryRows(decoder_rows, population_rows, validation_rows, probe_rows),
        requirements,
        settings.seed,
    )
    return replace(split, duplicates=duplicates)


def _draw_from_sides(
    pools: Mapping[str, Indices], settings: SplitSettings, requirements: SplitRequirements
) -> list[Indices]:
    members = pools["members"][: settings.n_members or len(pools["members"])]
    if settings.n_members and len(members) < settings.n_members:
        raise _too_few(settings.n_members, len(members), "members")
    if "reference" in pools:
        pool = pools["reference"]
        decoder = _decoder_size(settings, len(pool), requirements)
        size = min(len(members), (len(pool) - decoder) // 3)
        shadow_size, holdout, population = reference_sizes(settings, size, requirements)
        shadow, held, fitting, others = _deal(pool, 2 * shadow_size, holdout, decoder, population)
        nonmembers = settings.n_nonmembers or len(pools["nonmembers"])
        return [members, shadow, held, *_deal(pools["nonmembers"], nonmembers), fitting, others]
    n = len(pools["nonmembers"])
    decoder = _decoder_size(settings, n, requirements)
    shadow_size, holdout, population = reference_sizes(settings, min(len(members), (n - decoder) // 4), requirements)
    nonmembers = settings.n_nonmembers or max(n - decoder - population - 2 * shadow_size - holdout, 1)
    return [members, *_deal(pools["nonmembers"], 2 * shadow_size, holdout, nonmembers, decoder, population)]


def _set_aside(
    pool: Indices, settings: SplitSettings, requirements: SplitRequirements
) -> tuple[Indices, Indices, Indices]:
    """Take images for validation and probes from the end of a shuffled pool, so that the other draws do not change."""
    validation = (settings.n_validation or max(len(pool) // 10, 1)) if requirements.validation else 0
    probe = settings.n_probe or 0
    rest = len(pool) - validation - probe
    if rest < 1:
        raise _too_few(validation + probe + 1, len(pool), "images")
    left, for_validation, for_probes = np.split(pool, [rest, rest + validation])
    return left, for_validation, for_probes


def _decoder_size(settings: SplitSettings, images: int, requirements: SplitRequirements) -> int:
    """Return how many images decoders are fitted on; by default a third of all, up to a few thousand."""
    if not requirements.decoders:
        return 0
    return settings.n_decoder or max(min(images // 3, _MOST_FOR_DECODERS), 1)


def reference_sizes(settings: SplitSettings, members: int, requirements: SplitRequirements) -> tuple[int, int, int]:
    """Return the sizes of a shadow's training set, of the holdout and of the population, each at least one if needed.

    By default a shadow is trained on as many images as the target, and the holdout has as many too; if attacks learn
    from a population, it takes half of the holdout.
    """
    population = (settings.n_population or max(members // 2, 1)) if requirements.population else 0
    holdout = settings.n_holdout or max(members - (0 if settings.n_population else population), 1)
    shadow_size = (settings.shadow_size or max(members, 1)) if requirements.shadows else 0
    return shadow_size, holdout, population


def _without_duplicates(ids: Ids, sides: Mapping[str, Indices]) -> tuple[dict[str, Indices], dict[str, int]]:
    """Keep each image once, on the first side that has it, and count the others.

    Raises:
        MimiaError: Every image of a side is on an earlier side too.
    """
    seen: set[str] = set()
    pools: dict[str, Indices] = {}
    counts: dict[str, int] = {}
    for side, rows in sides.items():
        unique_ids, first = np.unique(ids[rows], return_index=True)
        unique = rows[np.sort(first)]
        kept = np.array([row for row in unique if ids[row] not in seen], dtype=np.intp)
        if len(kept) == 0:
            raise MimiaError(
                f"Every image of the {side} is also on another side, pixel for pixel: membership can only be tested "
                "between different images, so pass another source."
            )
        counts[f"within {side}"] = len(rows) - len(unique)
        counts[f"of {side} on an earlier side"] = len(unique) - len(kept)
        seen.update(unique_ids.tolist())
        pools[side] = kept
    return pools, {where: count for where, count in counts.items() if count}


def _deal(pool: Indices, *counts: int) -> list[Indices]:
    """Cut a shuffled pool into parts of the given sizes."""
    if sum(counts) > len(pool):
        raise _too_few(sum(counts), len(pool), "images")
    return np.split(pool, np.cumsum(counts))[:-1]


def _too_few(needed: int, there: int, what: str) -> MimiaError:
    return MimiaError(
        f"This split needs {needed:,} different {what}, and there are {there:,}: give more images, or ask for fewer "
        "(n_members, n_nonmembers, shadow_size, n_holdout, n_population, n_validation and n_probe under [split])."
    )


def _assemble(
    images: ImageSet,
    sides: Mapping[Role, Indices],
    pool: Indices,
    auxiliary: AuxiliaryRows,
    requirements: SplitRequirements,
    seed: int,
) -> Split:
    rows = np.concatenate(list(sides.values()))
    roles = np.repeat(list(sides), [len(side) for side in sides.values()])
    # Generators of their own: more models never change the draw of the sides.
    membership = _halves(len(pool), requirements.shadows, np.random.default_rng([seed, 1]))
    online = _halves(len(rows), requirements.online, np.random.default_rng([seed, 2]))
    return Split(
        EvaluatedImages(rows, images.ids[rows], images.names[rows], roles, online),
        ShadowPool(pool, images.ids[pool], images.names[pool], membership),
        auxiliary,
        {},
        seed,
    )


def _halves(images: int, models: int, generator: np.random.Generator) -> Bools:
    """Draw complementary halves of the images for each pair of models, (models, images)."""
    membership = np.zeros((models, images), dtype=bool)
    for model in range(0, models, 2):
        half = generator.permutation(images)[: images // 2]
        membership[model, half] = True
        if model + 1 < models:
            membership[model + 1] = ~membership[model]
    return membership
