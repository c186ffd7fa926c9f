"""Who is a member of which model: the draw that a membership experiment stands on.

From one source, members, non-members and the reference pool are drawn at random, so that they differ in nothing but
membership. The reference pool has two parts: the images that the shadows are trained on, in complementary halves,
and a *holdout* that no model sees: known non-members, for thresholds and conformal p-values. Where a decoder has to be
fitted to the encoders, or an attack learns from known non-members, there are further parts for that, which are not
judged and which no encoder saw. Online attacks have models of their own, trained on halves of the images that are
judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mimia.arrays import Bools, Ids, Indices, fingerprint
from mimia.config import SplitSettings
from mimia.errors import MimiaError

Role = Literal["member", "nonmember", "candidate", "shadow", "holdout"]
SIDES = ("members", "nonmembers", "reference")
_MOST_FOR_DECODERS = 4000  # by default
_STREAMS = {"source": (), "members": (3,), "nonmembers": (4,), "reference": (5,)}  # of random numbers


@dataclass(frozen=True)
class Apart:
    """Rows of the image set that no encoder learns from and that are not judged; none stands in two of the parts.

    Attributes:
        decoder: What decoders are fitted on.
        known: Known non-members that attacks learn from.
        validation: By whose loss trainings are stopped.
        probe: By which the target's use downstream is measured.
    """

    decoder: Indices
    known: Indices
    validation: Indices
    probe: Indices


@dataclass(frozen=True)
class Split:
    """The images of a run and their membership.

    Attributes:
        rows: Rows of the image set that take part, (N,).
        ids: Their content ids, (N,).
        roles: The `Role` of each, (N,).
        membership: Whether a shadow saw the image, (shadows, N).
        online: Whether a model of the online attacks saw the image, (models, N); half of all that is judged.
        apart: Images that no encoder saw and that are not judged.
        duplicates: Exact duplicates that were removed, by where they stood.
        seed: Seed of the draw.
    """

    rows: Indices
    ids: Ids
    roles: Ids
    membership: Bools
    online: Bools
    apart: Apart
    duplicates: Mapping[str, int]
    seed: int

    @property
    def fingerprint(self) -> str:
        """Name of exactly this split."""
        return fingerprint(
            {
                "ids": self.ids.tolist(),
                "roles": self.roles.tolist(),
                "membership": np.packbits(self.membership).tolist(),
                "online": np.packbits(self.online).tolist(),
                "apart": {name: rows.tolist() for name, rows in vars(self.apart).items()},
            }
        )

    def of(self, *roles: Role) -> Bools:
        """Tell which images have one of the roles, (N,)."""
        chosen: Bools = np.isin(self.roles, roles)
        return chosen

    def without(self, places: Indices, reason: str) -> "Split":
        """Take images out, before any model is trained, and count them among the duplicates."""
        kept = np.ones(len(self.rows), dtype=bool)
        kept[places] = False
        return replace(
            self,
            rows=self.rows[kept],
            ids=self.ids[kept],
            roles=self.roles[kept],
            membership=self.membership[:, kept],
            online=self.online[:, kept],
            duplicates={**self.duplicates, reason: int((~kept).sum())},
        )

    @property
    def judged(self) -> Bools:
        """Tell which images are judged or belong to the holdout, (N,): all but the shadows' own."""
        return ~self.of("shadow")


@dataclass(frozen=True)
class Wanted:
    """What a run needs of its split.

    Attributes:
        shadows: Number of shadow models.
        online: Number of models for the online attacks.
        decoders: Whether decoders have to be fitted.
        known: Whether an attack learns from known non-members.
        validation: Whether trainings are stopped by the loss of images that they do not learn from.
    """

    shadows: int
    online: int = 0
    decoders: bool = False
    known: bool = False
    validation: bool = False


def split_for_audit(ids: Ids, sides: Mapping[str, Indices], settings: SplitSettings, wanted: Wanted) -> Split:
    """Draw members, non-members and the reference pool.

    Args:
        ids: Content ids of all images.
        sides: Rows of each source by its side: ``source`` for one that serves all sides, or ``members`` and
            ``nonmembers``; with either perhaps ``reference``.
        settings: How many images each side gets; what is not given follows from how many there are.
        wanted: What the run needs.

    Raises:
        MimiaError: There are too few images, or members and non-members are the same images.
    """
    pools, duplicates = _without_duplicates(ids, sides)
    # A generator for each: shadows do not change, and need not be trained anew, with the images that are judged.
    pools = {
        side: np.random.default_rng([settings.seed, *_STREAMS[side]]).permutation(rows) for side, rows in pools.items()
    }
    judging = "source" if "source" in pools else "nonmembers"
    pools[judging], validation_rows, probe_rows = _set_aside(pools[judging], settings, wanted)
    if "source" in pools and "reference" in pools:
        source, members = pools["source"], settings.n_members or max(len(pools["source"]) // 9, 1)
        pools = {"members": source[:members], "nonmembers": source[members:], "reference": pools["reference"]}
    if "source" in pools:
        n = len(pools["source"])
        members = settings.n_members or max(n // 9, 1)
        shadow_size, holdout, known = reference_sizes(settings, members, wanted)
        decoder = _decoder_size(settings, n, wanted)
        nonmembers = settings.n_nonmembers or max(n - members - 2 * shadow_size - holdout - decoder - known, 1)
        drawn = _deal(pools["source"], members, 2 * shadow_size, holdout, nonmembers, decoder, known)
    else:
        drawn = _draw_from_sides(pools, settings, wanted)
    members_rows, shadow_rows, holdout_rows, nonmember_rows, decoder_rows, known_rows = drawn
    return _assemble(
        ids,
        {
            "member": members_rows,
            "nonmember": nonmember_rows,
            "shadow": shadow_rows,
            "holdout": holdout_rows,
        },
        wanted,
        Apart(decoder_rows, known_rows, validation_rows, probe_rows),
        duplicates,
        settings.seed,
    )


def split_for_inference(ids: Ids, sides: Mapping[str, Indices], settings: SplitSettings, wanted: Wanted) -> Split:
    """Split the reference images of an inference into the shadows' pool and the holdout.

    Args:
        ids: Content ids of all images.
        sides: Rows of ``candidates`` and ``reference``; an image on both sides stays a candidate.
        settings: Size of the holdout (a third of the reference images by default) and of a shadow.
        wanted: What the run needs.

    Raises:
        MimiaError: There are too few reference images, or the target's use is asked for, which an audit measures.
    """
    if settings.n_probe:
        raise MimiaError("The use of a model is measured by an audit, and not here: leave out split.n_probe.")
    generator = np.random.default_rng(settings.seed)
    pools, duplicates = _without_duplicates(ids, sides)
    reference, validation_rows, probe_rows = _set_aside(generator.permutation(pools["reference"]), settings, wanted)
    decoder = _decoder_size(settings, len(reference), wanted)
    rest = len(reference) - decoder
    _, holdout, known = reference_sizes(settings, rest // 3, wanted)
    shadow_size = settings.shadow_size or max((rest - holdout - known) // 2, 1)
    pool, held, decoder_rows, known_rows = _deal(reference, 2 * shadow_size, holdout, decoder, known)
    parts: dict[Role, Indices] = {
        "candidate": np.sort(pools["candidates"]),
        "shadow": pool,
        "holdout": held,
    }
    apart = Apart(decoder_rows, known_rows, validation_rows, probe_rows)
    return _assemble(ids, parts, wanted, apart, duplicates, settings.seed)


def _draw_from_sides(pools: Mapping[str, Indices], settings: SplitSettings, wanted: Wanted) -> list[Indices]:
    members = pools["members"][: settings.n_members or len(pools["members"])]
    if settings.n_members and len(members) < settings.n_members:
        raise _too_few(settings.n_members, len(members), "members")
    if "reference" in pools:
        pool = pools["reference"]
        decoder = _decoder_size(settings, len(pool), wanted)
        size = min(len(members), (len(pool) - decoder) // 3)
        shadow_size, holdout, known = reference_sizes(settings, size, wanted)
        shadow, held, fitting, others = _deal(pool, 2 * shadow_size, holdout, decoder, known)
        nonmembers = settings.n_nonmembers or len(pools["nonmembers"])
        return [members, shadow, held, *_deal(pools["nonmembers"], nonmembers), fitting, others]
    n = len(pools["nonmembers"])
    decoder = _decoder_size(settings, n, wanted)
    shadow_size, holdout, known = reference_sizes(settings, min(len(members), (n - decoder) // 4), wanted)
    nonmembers = settings.n_nonmembers or max(n - decoder - known - 2 * shadow_size - holdout, 1)
    return [members, *_deal(pools["nonmembers"], 2 * shadow_size, holdout, nonmembers, decoder, known)]


def _set_aside(pool: Indices, settings: SplitSettings, wanted: Wanted) -> tuple[Indices, Indices, Indices]:
    """Take images for validation and probes from the end of a shuffled pool, so that what else is drawn stays."""
    validation = (settings.n_validation or max(len(pool) // 10, 1)) if wanted.validation else 0
    probe = settings.n_probe or 0
    rest = len(pool) - validation - probe
    if rest < 1:
        raise _too_few(validation + probe + 1, len(pool), "images")
    left, for_validation, for_probes = np.split(pool, [rest, rest + validation])
    return left, for_validation, for_probes


def _decoder_size(settings: SplitSettings, images: int, wanted: Wanted) -> int:
    """Give how many images decoders are fitted on; by default a third of those there are, up to a few thousand."""
    if not wanted.decoders:
        return 0
    return settings.n_decoder or max(min(images // 3, _MOST_FOR_DECODERS), 1)


def reference_sizes(settings: SplitSettings, members: int, wanted: Wanted) -> tuple[int, int, int]:
    """Give the sizes of a shadow, of the holdout and of the known non-members, each one at least.

    By default a shadow has as many images as the target, and so has the holdout; where attacks learn from known
    non-members, these get half of it.
    """
    known = (settings.n_known or max(members // 2, 1)) if wanted.known else 0
    holdout = settings.n_holdout or max(members - (0 if settings.n_known else known), 1)
    return settings.shadow_size or max(members, 1), holdout, known


def _without_duplicates(ids: Ids, sides: Mapping[str, Indices]) -> tuple[dict[str, Indices], dict[str, int]]:
    """Keep each image once, on the first side that has it; count what goes.

    Raises:
        MimiaError: A side has nothing that an earlier one does not have.
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
                f"Every image of the {side} stands on another side too, pixel for pixel: membership can only be "
                "tested between different images, so pass another source."
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


def _too_few(wanted: int, there: int, what: str) -> MimiaError:
    return MimiaError(
        f"This split needs {wanted:,} different {what}, and there are {there:,}: give more, or ask for fewer "
        "(n_members, n_nonmembers, shadow_size, n_holdout, n_known, n_validation and n_probe under [split])."
    )


def _assemble(
    ids: Ids,
    parts: Mapping[Role, Indices],
    wanted: Wanted,
    apart: Apart,
    duplicates: Mapping[str, int],
    seed: int,
) -> Split:
    rows = np.concatenate(list(parts.values()))
    roles = np.repeat(list(parts), [len(part) for part in parts.values()])
    # Generators of their own: more models never change the draw of the sides.
    membership = _halves(roles == "shadow", wanted.shadows, np.random.default_rng([seed, 1]))
    online = _halves(roles != "shadow", wanted.online, np.random.default_rng([seed, 2]))
    return Split(rows, ids[rows], roles, membership, online, apart, duplicates, seed)


def _halves(chosen: Bools, models: int, generator: np.random.Generator) -> Bools:
    """Give each pair of models complementary halves of the chosen images: (models, images)."""
    pool = np.flatnonzero(chosen)
    membership = np.zeros((models, len(chosen)), dtype=bool)
    for model in range(0, models, 2):
        half = generator.permutation(pool)[: len(pool) // 2]
        membership[model, half] = True
        if model + 1 < models:
            membership[model + 1, np.setdiff1d(pool, half)] = True
    return membership
