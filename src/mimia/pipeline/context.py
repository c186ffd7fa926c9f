"""The first step of a run: from its settings to what all further steps work with."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mimia.attacks.base import Attack
from mimia.attacks.selection import ThreatModel, select
from mimia.config.settings import Settings
from mimia.data.account import announce
from mimia.data.drawing import SplitRequirements
from mimia.data.imageset import ImageSet
from mimia.data.loading import LoadedImages, ReadOptions, load_sides
from mimia.data.sources.base import SourceLike
from mimia.models.checkpoints.loading import LoadedCheckpoint
from mimia.pipeline.references import open_references
from mimia.pipeline.target import Target, open_target
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store


@dataclass(frozen=True)
class AuditContext:
    """What a run works with.

    Attributes:
        settings: Settings of the run.
        store: Where results are kept.
        target: The audited model.
        references: Models that saw none of the images, by their names in reports.
        loaded: All images, with their sources.
        attacks: Attacks that are run, by name.
        not_run: Why each other attack is not run, by name.
        started: When the run began, in seconds of the monotonic clock.
    """

    settings: Settings
    store: Store
    target: Target
    references: Mapping[str, LoadedCheckpoint]
    loaded: LoadedImages
    attacks: Mapping[str, Attack]
    not_run: Mapping[str, str]
    started: float = field(default_factory=time.monotonic)

    @property
    def images(self) -> ImageSet:
        """Return all images."""
        return self.loaded.images

    @property
    def requirements(self) -> SplitRequirements:
        """Return what the run needs of its split."""
        attacks, online = self.attacks.values(), self.settings.shadows.online
        return SplitRequirements(
            shadows=self.settings.shadow_count,
            online=online if any(attack.requirements.online for attack in attacks) else 0,
            decoders=self.target.decoder in ("fitted", "aligned"),
            population=any(attack.requirements.population for attack in attacks),
            validation=self.target.recipe.needs_validation,
        )


def prepare(settings: Settings, sources: Mapping[str, SourceLike], models: Mapping[str, Any]) -> AuditContext:
    """Open the target and the references, choose the attacks, and decode the images.

    Args:
        settings: Settings of the run.
        sources: Source of the images of each side: a path, a name, or images in memory.
        models: Models and functions in memory, by what the settings call them.

    Raises:
        MimiaError: An attack, a checkpoint or a source is not there, an attack needs more shadows, or the target does
            not take the images.
    """
    started = time.monotonic()
    store = Store(settings.store)
    audited = open_target(settings, models.get(settings.target or settings.embeddings or ""))
    references = open_references(settings, models, audited.access)
    threat_model = ThreatModel(
        audited.access,
        settings.shadow_count,
        settings.shadows.online,
        family=audited.recipe.family,
        fitting=audited.decoder == "fitted",
        references=len(references),
    )
    attacks, not_run = select(settings.attacks.names, threat_model, settings.attacks.options)
    data = settings.data
    if audited.channels and data.channels not in (None, audited.channels):
        raise MimiaError(
            f"The target takes images of {audited.channels} channels, and data.channels is {data.channels}: leave that "
            "out."
        )
    channels = audited.channels or data.channels
    reading = ReadOptions(data.image_size, channels, audited.image_size, data.bit_depth, data.allow_skipped)
    loaded = load_sides(sources, store, reading)
    announce(loaded.accounts)
    audited.check_images(loaded.images)
    return AuditContext(settings, store, audited, references, loaded, attacks, not_run, started)
