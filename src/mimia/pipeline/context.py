"""The first step of a run: from its settings to what all further steps work with."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from mimia.attacks.base import Attack
from mimia.attacks.selection import ThreatModel, select
from mimia.config.settings import Settings
from mimia.data.account import announce
from mimia.data.drawing import SplitRequirements
from mimia.data.imageset import ImageSet
from mimia.data.loading import LoadedImages, ReadOptions, load_sides
from mimia.data.sources.base import SourceLike
from mimia.pipeline.target import Target, open_target
from mimia.runtime.store import Store


@dataclass(frozen=True)
class AuditContext:
    """What a run works with.

    Attributes:
        settings: Settings of the run.
        store: Where results are kept.
        target: The audited model.
        loaded: All images, with their sources.
        attacks: Attacks that are run, by name.
        not_run: Why each other attack is not run, by name.
        started: When the run began, in seconds of the monotonic clock.
    """

    settings: Settings
    store: Store
    target: Target
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
        attacks, shadows = self.attacks.values(), self.settings.shadows
        return SplitRequirements(
            shadows=shadows.count,
            online=shadows.online if any(attack.requirements.online for attack in attacks) else 0,
            decoders=self.target.decoder in ("fitted", "aligned"),
            population=any(attack.requirements.population for attack in attacks),
            validation=self.target.recipe.needs_validation,
        )


def prepare(settings: Settings, sources: Mapping[str, SourceLike], target: object = None) -> AuditContext:
    """Open the target, choose the attacks, and decode the images.

    Args:
        settings: Settings of the run.
        sources: Source of the images of each side: a path, a name, or images in memory.
        target: A model or function in memory; by default the settings name the target.

    Raises:
        MimiaError: An attack, a checkpoint or a source is not there, an attack needs more shadows, or the target does
            not take the images.
    """
    started = time.monotonic()
    store = Store(settings.store)
    audited = open_target(settings, target)
    shadows = settings.shadows
    threat_model = ThreatModel(
        audited.access,
        shadows.count,
        shadows.online,
        family=audited.recipe.family,
        fitting=audited.decoder == "fitted",
    )
    attacks, not_run = select(settings.attacks.names, threat_model, settings.attacks.options)
    data = settings.data
    reading = ReadOptions(data.image_size, audited.channels, audited.image_size, data.bit_depth, data.allow_skipped)
    loaded = load_sides(sources, store, reading)
    announce(loaded.accounts)
    audited.check_images(loaded.images)
    return AuditContext(settings, store, audited, loaded, attacks, not_run, started)
