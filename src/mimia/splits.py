"""Who is a member of which model: the draw that a membership experiment stands on.

From one source, members, non-members and the reference pool are drawn at random, so that they differ in nothing but
membership. The reference pool has two parts: the images that the shadows are trained on, in complementary halves,
and a *holdout* that no model sees: known non-members, for thresholds and conformal p-values. Where a decoder has to be
fitted to the encoders, it has a third part, which is not judged and which no encoder saw.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mimia.arrays import Bools, Ids, Indices, fingerprint
from mimia.config import SplitSettings
from mimia.errors import MimiaError

Role = Literal["member", "nonmember", "candidate", "shadow", "holdout"]
SIDES = ("members", "nonmembers", "reference")
_MOST_FOR_DECODERS = 4000  # by default


@dataclass(frozen=True)
class Split:
    """The images of a run and their membership.

    Attributes:
        rows: Rows of the image set that take part, (N,).
        ids: Their content ids, (N,).
        roles: The `Role` of each, (N,).
        membership: Whether a shadow saw the image, (shadows, N).
        decoder_rows: Rows of the image set that decoders are fitted on; none of them is among ``rows``.
        duplicates: Exact duplicates that were removed, by where they stood.
        seed: Seed of the draw.
    """

    rows: Indices
    ids: Ids
    roles: Ids
    membership: Bools
    decoder_rows: Indices
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
                "decoder": self.decoder_rows.tolist(),
            }
        )

    def of(self, *roles: Role) -> Bools:
        """Tell which images have one of the roles, (N,)."""
        chosen: Bools = np.isin(self.roles, roles)
        return chosen

    def training_rows(self, shadow: int) -> Indices:
        """Rows of the image set that a shadow is trained on."""
        rows: Indices = self.rows[self.membership[shadow]]
        return rows


def split_for_audit(
    ids: Ids, sides: Mapping[str, Indices], settings: SplitSettings, shadows: int, *, with_decoders: bool = False
) -> Split:
    """Draw members, non-members and the reference pool.

    Args:
        ids: Content ids of all images.
        sides: Rows of each source by its side: ``source`` for one that serves all sides, or ``members``,
            ``nonmembers`` and perhaps ``reference``.
        settings: How many images each side gets; what is not given follows from how many there are.
        shadows: Number of shadow models.
        with_decoders: Whether decoders have to be fitted.

    Raises:
        MimiaError: There are too few images, or members and non-members are the same images.
    """
    generator = np.random.default_rng(settings.seed)
    pools, duplicates = _without_duplicates(ids, sides)
    pools = {side: generator.permutation(rows) for side, rows in pools.items()}
    if "source" in pools:
        n = len(pools["source"])
        members = settings.n_members or max(n // 9, 1)
        shadow_size, holdout = _reference_sizes(settings, members)
        decoder = _decoder_size(settings, n, with_decoders)
        nonmembers = settings.n_nonmembers or max(n - members - 2 * shadow_size - holdout - decoder, 1)
        drawn = _deal(pools["source"], members, 2 * shadow_size, holdout, nonmembers, decoder)
    else:
        drawn = _draw_from_sides(pools, settings, with_decoders)
    members_rows, shadow_rows, holdout_rows, nonmember_rows, decoder_rows = drawn
    return _assemble(
        ids,
        {
            "member": members_rows,
            "nonmember": nonmember_rows,
            "shadow": shadow_rows,
            "holdout": holdout_rows,
        },
        shadows,
        decoder_rows,
        duplicates,
        settings.seed,
    )


def split_for_inference(
    ids: Ids, sides: Mapping[str, Indices], settings: SplitSettings, shadows: int, *, with_decoders: bool = False
) -> Split:
    """Split the reference images of an inference into the shadows' pool and the holdout.

    Args:
        ids: Content ids of all images.
        sides: Rows of ``candidates`` and ``reference``; an image on both sides stays a candidate.
        settings: Size of the holdout (a third of the reference images by default) and of a shadow.
        shadows: Number of shadow models.
        with_decoders: Whether decoders have to be fitted.

    Raises:
        MimiaError: There are too few reference images.
    """
    generator = np.random.default_rng(settings.seed)
    pools, duplicates = _without_duplicates(ids, sides)
    reference = generator.permutation(pools["reference"])
    decoder = _decoder_size(settings, len(reference), with_decoders)
    holdout = settings.n_holdout or max((len(reference) - decoder) // 3, 1)
    shadow_size = settings.shadow_size or max((len(reference) - decoder - holdout) // 2, 1)
    pool, held, decoder_rows = _deal(reference, 2 * shadow_size, holdout, decoder)
    parts: dict[Role, Indices] = {
        "candidate": np.sort(pools["candidates"]),
        "shadow": pool,
        "holdout": held,
    }
    return _assemble(ids, parts, shadows, decoder_rows, duplicates, settings.seed)


def _draw_from_sides(pools: Mapping[str, Indices], settings: SplitSettings, with_decoders: bool) -> list[Indices]:
    members = pools["members"][: settings.n_members or len(pools["members"])]
    if settings.n_members and len(members) < settings.n_members:
        raise _too_few(settings.n_members, len(members), "members")
    if "reference" in pools:
        pool = pools["reference"]
        decoder = _decoder_size(settings, len(pool), with_decoders)
        shadow_size, holdout = _reference_sizes(settings, min(len(members), (len(pool) - decoder) // 3))
        shadow, held, fitting = _deal(pool, 2 * shadow_size, holdout, decoder)
        wanted = settings.n_nonmembers or len(pools["nonmembers"])
        return [members, shadow, held, *_deal(pools["nonmembers"], wanted), fitting]
    n = len(pools["nonmembers"])
    decoder = _decoder_size(settings, n, with_decoders)
    shadow_size, holdout = _reference_sizes(settings, min(len(members), (n - decoder) // 4))
    wanted = settings.n_nonmembers or max(n - decoder - 2 * shadow_size - holdout, 1)
    return [members, *_deal(pools["nonmembers"], 2 * shadow_size, holdout, wanted, decoder)]


def _reference_sizes(settings: SplitSettings, members: int) -> tuple[int, int]:
    """Give the size of a shadow and of the holdout; by default each as many as the members, and one at least."""
    return settings.shadow_size or max(members, 1), settings.n_holdout or max(members, 1)


def _decoder_size(settings: SplitSettings, images: int, with_decoders: bool) -> int:
    """Give how many images decoders are fitted on; by default a third of those there are, up to a few thousand."""
    if not with_decoders:
        return 0
    return settings.n_decoder or max(min(images // 3, _MOST_FOR_DECODERS), 1)


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
        "(n_members, n_nonmembers, shadow_size and n_holdout under [split])."
    )


def _assemble(
    ids: Ids,
    parts: Mapping[Role, Indices],
    shadows: int,
    decoder_rows: Indices,
    duplicates: Mapping[str, int],
    seed: int,
) -> Split:
    rows = np.concatenate(list(parts.values()))
    roles = np.repeat(list(parts), [len(part) for part in parts.values()])
    pool = np.flatnonzero(roles == "shadow")
    membership = np.zeros((shadows, len(rows)), dtype=bool)
    generator = np.random.default_rng([seed, 1])  # more shadows never change the draw of the sides
    for shadow in range(0, shadows, 2):
        half = generator.permutation(pool)[: len(pool) // 2]
        membership[shadow, half] = True
        if shadow + 1 < shadows:
            membership[shadow + 1, np.setdiff1d(pool, half)] = True
    return Split(rows, ids[rows], roles, membership, decoder_rows, duplicates, seed)
