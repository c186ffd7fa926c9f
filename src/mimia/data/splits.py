"""Who is a member of which model: the images of a run, seen as the groups that its parts work on.

- The *evaluated* images get scores: members and non-members of the target (or the candidates of an inference), and a
  *holdout* that no model was trained on, for thresholds and conformal p-values.
- The *shadow pool* trains the shadow models, in complementary halves.
- *Auxiliary* images train no encoder and are not evaluated: they fit decoders, tell attacks what non-members look like
  (the *population*), stop trainings, or measure how useful the target is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mimia.runtime.arrays import Bools, Ids, Indices, fingerprint

Role = Literal["member", "nonmember", "candidate", "holdout"]


@dataclass(frozen=True)
class ImageView:
    """Some images of a run.

    Attributes:
        rows: Rows of the image set, (N,).
        ids: Content ids, (N,).
        names: Names for a reader, (N,).
    """

    rows: Indices
    ids: Ids
    names: Ids

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Side(ImageView):
    """The evaluated images of one role.

    Attributes:
        mask: Which of the evaluated images these are, (evaluated,).
    """

    mask: Bools


@dataclass(frozen=True)
class EvaluatedImages(ImageView):
    """The images that are scored, in the order of their scores.

    Attributes:
        roles: The `Role` of each, (N,).
        online: Whether a model of the online attacks was trained on the image, (models, N); on half of them.
    """

    roles: Ids
    online: Bools

    @property
    def members(self) -> Side:
        """Return the images that the target was trained on."""
        return self._side("member")

    @property
    def nonmembers(self) -> Side:
        """Return the images that the target was not trained on."""
        return self._side("nonmember")

    @property
    def candidates(self) -> Side:
        """Return the images of unknown membership."""
        return self._side("candidate")

    @property
    def holdout(self) -> Side:
        """Return the non-members that no model of the run was trained on."""
        return self._side("holdout")

    @property
    def suspected(self) -> Side:
        """Return the side that members are on: the members of an audit, the candidates of an inference."""
        return self.candidates if "candidate" in self.roles else self.members

    @property
    def compared(self) -> Side:
        """Return the side that it is compared with: the non-members of an audit, the holdout of an inference."""
        return self.holdout if "candidate" in self.roles else self.nonmembers

    @property
    def on_sides(self) -> Bools:
        """Return which images are on one of the two sides, (N,)."""
        return self.suspected.mask | self.compared.mask

    def _side(self, role: Role) -> Side:
        mask = self.roles == role
        return Side(self.rows[mask], self.ids[mask], self.names[mask], mask)


@dataclass(frozen=True)
class ShadowPool(ImageView):
    """The images that shadow models are trained on.

    Attributes:
        membership: Whether a shadow was trained on the image, (shadows, N).
    """

    membership: Bools


@dataclass(frozen=True)
class AuxiliaryRows:
    """Rows of images that no encoder is trained on and that are not evaluated; no image has two uses.

    Attributes:
        decoder: Decoders are fitted on these.
        population: Non-members that attacks learn from (RMIA's term).
        validation: Their loss stops trainings.
        probe: They measure how useful the target is downstream.
    """

    decoder: Indices
    population: Indices
    validation: Indices
    probe: Indices


@dataclass(frozen=True)
class Split:
    """The images of a run and their membership.

    Attributes:
        evaluated: Images that are scored.
        shadow_pool: Images that shadow models are trained on.
        auxiliary: Rows of all other images.
        duplicates: Number of duplicates that were removed, by where they stood.
        seed: Seed of the draw.
    """

    evaluated: EvaluatedImages
    shadow_pool: ShadowPool
    auxiliary: AuxiliaryRows
    duplicates: Mapping[str, int]
    seed: int

    @property
    def fingerprint(self) -> str:
        """Return a name of exactly this split."""
        return fingerprint(
            {
                "evaluated": self.evaluated.ids.tolist(),
                "roles": self.evaluated.roles.tolist(),
                "online": np.packbits(self.evaluated.online).tolist(),
                "shadow_pool": self.shadow_pool.ids.tolist(),
                "membership": np.packbits(self.shadow_pool.membership).tolist(),
                "auxiliary": {name: rows.tolist() for name, rows in vars(self.auxiliary).items()},
            }
        )

    def without(self, removed: Bools, reason: str) -> "Split":
        """Remove evaluated images, (evaluated,), and count them among the duplicates."""
        whole, kept = self.evaluated, ~removed
        evaluated = EvaluatedImages(
            whole.rows[kept], whole.ids[kept], whole.names[kept], whole.roles[kept], whole.online[:, kept]
        )
        return replace(self, evaluated=evaluated, duplicates={**self.duplicates, reason: int(removed.sum())})
