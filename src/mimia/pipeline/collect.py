"""Train the shadow models, and query every model about every image: the costly part of a run, kept in the store."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mimia.attacks.base import Attack
from mimia.attacks.selection import decoders_of
from mimia.config.settings import Settings
from mimia.data.splits import Split
from mimia.models.base import ModelSpec
from mimia.models.embedders import Embedder
from mimia.models.registry import with_decoder
from mimia.pipeline.context import AuditContext
from mimia.pipeline.recipe_search import matching_recipe
from mimia.pipeline.references import ready_references
from mimia.pipeline.shadow_training import ShadowTraining, fitting_size
from mimia.pipeline.target import ReadyTarget, identifying
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.decoders import with_decoders, with_latent_decoders
from mimia.pretraining.pool import initial, pretrained_online, pretrained_shadows
from mimia.pretraining.specs import with_mask_ratio
from mimia.pretraining.start import open_start
from mimia.runtime.arrays import Bools, Indices
from mimia.runtime.seeds import derived_seed
from mimia.signals.arrays import AttackInput, ShadowSignals, Signals
from mimia.signals.base import QueryConfig
from mimia.signals.extract import extract_signals
from mimia.signals.queried import QueriedModel
from mimia.signals.registry import SIGNALS

UNTRAINED = "untrained model"
_CONTROLS = 500  # images of a side that the untrained model is queried about


@dataclass(frozen=True)
class Models:
    """The checkpoints of a run.

    Attributes:
        target: The target.
        shadows: Checkpoint directories of the shadow models, by their names in reports.
        references: Those of the given models that saw none of the images.
        online: Those of the models that the online attacks need.
        untrained: A model of the shadows' kind before its training, by its name; none for a function to vectors.
        chosen: Settings of the shadows that nobody gave and that were chosen here, by key.
        notes: Why they were chosen so, one sentence each.
    """

    target: ReadyTarget
    shadows: Mapping[str, Path]
    references: Mapping[str, Path]
    online: Mapping[str, Path]
    untrained: Mapping[str, Path]
    chosen: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def compared(self) -> dict[str, Path]:
        """The models that the target is compared with: the shadows, then the given references."""
        return {**self.shadows, **self.references}


@dataclass(frozen=True)
class UntrainedSignals:
    """What an untrained model in the place of the target gives, which cannot be membership.

    Attributes:
        inputs: Its signals of some images, with the shadows as references.
        chosen: Which of the evaluated images these are, (evaluated,).
    """

    inputs: AttackInput
    chosen: Bools


@dataclass(frozen=True)
class CollectedSignals:
    """Signals of all models of a run.

    Attributes:
        models: The models.
        queried_target: What was queried as the target: its checkpoint with the decoder that was used, or the function.
        pool: Signals of shadows and references on the shadow pool and the holdout.
        inputs: Signals of target, shadows and references on the evaluated images, and on the population.
        online: The same with the models of the online attacks, if there are any.
        untrained: The same with an untrained model in the place of the target; None if there is none, or if only online
            attacks are run.
        judging: Of an inference: signals of target, shadows and references on the shadow pool and the holdout, by
            which candidates are judged; None if only online attacks are run.
    """

    models: Models
    queried_target: Path | Embedder
    pool: ShadowSignals
    inputs: AttackInput
    online: AttackInput | None
    untrained: UntrainedSignals | None
    judging: AttackInput | None


@dataclass(frozen=True)
class _Query:
    """Extracts the signals that the attacks of a run need."""

    context: AuditContext
    split: Split
    config: QueryConfig

    def extract(self, signals: Sequence[str], models: Sequence[QueriedModel], rows: Indices) -> Signals:
        return extract_signals(signals, models, self.context.images, rows, self.config, self.context.store)

    def inputs(self, models: Sequence[QueriedModel], *, online: bool) -> AttackInput:
        """Query a target and its references about the evaluated images and the population."""
        names, learning = _signals_of(self.context.attacks.values(), online)
        evaluated, population = self.split.evaluated, None
        if learning:
            population = _attack_input(self.extract(learning, models, self.split.auxiliary.population))
        signals = self.extract(names, models, evaluated.rows)
        return _attack_input(signals, evaluated.online if online else None, population)

    def pool(self, shadows: Sequence[QueriedModel], inputs: AttackInput) -> ShadowSignals:
        """Query shadows and references about the shadow pool, and add what they gave for the holdout."""
        names, _ = _signals_of(self.context.attacks.values(), online=False)
        on_holdout = inputs.references.of_images(self.split.evaluated.holdout.mask)
        if not len(self.split.shadow_pool):
            return on_holdout
        # The pool is queried apart from the evaluated images: its signals are kept, whatever images are evaluated.
        signals = self.extract(names, shadows, self.split.shadow_pool.rows)
        of_shadows = self.split.shadow_pool.membership
        membership = np.pad(of_shadows, ((0, len(shadows) - len(of_shadows)), (0, 0)))  # references saw none
        pool = ShadowSignals(signals, membership)
        return pool.joined(on_holdout, names)

    def judging(self, target: QueriedModel, inputs: AttackInput, pool: ShadowSignals) -> AttackInput | None:
        """Query the target about the shadow pool, and add what it gave for the holdout."""
        names, _ = _signals_of(self.context.attacks.values(), online=False)
        if not names or not len(self.split.evaluated.candidates):
            return None
        of_target = inputs.target.of_images(self.split.evaluated.holdout.mask)
        if len(self.split.shadow_pool):
            of_target = self.extract(names, [target], self.split.shadow_pool.rows).joined(of_target, names)
        return AttackInput(of_target, pool, inputs.population)

    def untrained(self, model: QueriedModel, inputs: AttackInput) -> UntrainedSignals | None:
        """Query an untrained model about some images of each side, and about the population."""
        names, learning = _signals_of(self.context.attacks.values(), online=False)
        if not names:
            return None
        generator = np.random.default_rng(self.context.settings.evaluation.seed)
        evaluated, population = self.split.evaluated, None
        chosen = np.zeros(len(evaluated), dtype=bool)
        for side in (evaluated.suspected, evaluated.compared):
            chosen[generator.permutation(np.flatnonzero(side.mask))[:_CONTROLS]] = True
        if learning:
            assert inputs.population is not None
            signals = self.extract(learning, [model], self.split.auxiliary.population)
            population = AttackInput(signals, inputs.population.references)
        signals = self.extract(names, [model], evaluated.rows[chosen])
        return UntrainedSignals(AttackInput(signals, inputs.references.of_images(chosen), population), chosen)


def collect_signals(context: AuditContext, split: Split) -> CollectedSignals:
    """Train what is not in the store yet, and extract the signals of all models on all images of the split."""
    settings, store = context.settings, context.store
    target = context.target.ready(context.images, split, settings, store)
    # What the auditor takes for the target's training: shadows are trained so, and all models are queried so.
    spec = with_mask_ratio(target.spec, settings.shadows.mask_ratio or target.spec.mask_ratio)
    recipe = settings.shadows.imitating(target.recipe).model_copy(update={"mask_ratio": spec.mask_ratio})
    identified = identifying(context.images, split, settings.evaluation.seed)
    references = ready_references(context.references, target, identified, settings, store)
    query = _Query(context, split, QueryConfig(settings.signals, recipe, settings.compute, spec))
    models = replace(_train(context, split, target, query.config), references=references)
    queried = _with_decoders(context, split, models, query.config)
    offline = [queried[name] for name in ("target", *models.compared)]
    inputs = query.inputs(offline, online=False)
    pool = query.pool(offline[1:], inputs)
    online = [queried[name] for name in ("target", *models.online)]
    return CollectedSignals(
        models=models,
        queried_target=queried["target"].source,
        pool=pool,
        inputs=inputs,
        online=query.inputs(online, online=True) if models.online else None,
        untrained=query.untrained(queried[UNTRAINED], inputs) if models.untrained else None,
        judging=query.judging(offline[0], inputs, pool),
    )


def _train(context: AuditContext, split: Split, target: ReadyTarget, config: QueryConfig) -> Models:
    """Train the shadow models and those of the online attacks, and make the untrained one."""
    images, spec, recipe = context.images, config.spec, config.recipe
    pool, settings = split.shadow_pool, context.settings
    unseen = images.take(pool.rows[pool.membership[0]] if len(pool.membership) else split.evaluated.holdout.rows)
    validation = images.take(split.auxiliary.validation)
    shared = TrainingContext(config.compute, context.store, target.tokenizer, validation)
    if context.requirements.shadows or context.requirements.online:
        shared = open_start(recipe, unseen, shared, settings.checkpoint)
    training = _training(context, split, target, ShadowTraining(recipe, shared), spec)
    recipe, shared = training.recipe, training.context
    shadows = pretrained_shadows(images, split, spec, recipe, shared)
    online = pretrained_online(images, split, spec, recipe, target.training_size or len(unseen), shared)
    untrained = {}
    if target.checkpoints:
        seed = derived_seed(recipe.seed, UNTRAINED)
        untrained = {UNTRAINED: initial(unseen, spec, recipe, seed, shared)}
    return Models(
        target,
        _numbered("shadow", shadows),
        {},
        _numbered("online", online),
        untrained,
        training.chosen,
        training.notes,
    )


def _training(
    context: AuditContext, split: Split, target: ReadyTarget, training: ShadowTraining, spec: ModelSpec
) -> ShadowTraining:
    """Return how shadows are trained; what nobody states of a given target's size and training is chosen here."""
    images, pool, settings = context.images, split.shadow_pool, context.settings
    if training.context.architecture is None and target.architecture is not None and not _names_size(settings):
        architecture = target.architecture
        if context.target.decoder != "own":  # shadows are trained with a decoder, whatever the target has
            architecture = with_decoder(architecture, training.recipe, spec)
        training = replace(training, context=replace(training.context, architecture=architecture))
    if not len(pool) or not isinstance(target.source, Path) or target.training_size is not None:
        return training
    first, second = (images.take(pool.rows[chosen]) for chosen in (pool.membership[0], ~pool.membership[0]))
    if training.context.architecture is not None and training.context.start is None and settings.shadows.size is None:
        training = fitting_size(training, first, spec, settings.shadows, len(pool.membership))
    unstated = target.unstated - settings.shadows.model_fields_set
    if context.target.decoder == "own" and "epochs" in unstated:
        training = matching_recipe(training, unstated, first, second, spec, target.source)
    return training


def _names_size(settings: Settings) -> bool:
    """Return whether the settings name a size of the shadows, which by default are as large as the target."""
    if settings.shadows.size is not None:
        return settings.shadows.size != "target"
    return not {"size", "preset"}.isdisjoint(settings.recipe.model_fields_set)


def _with_decoders(context: AuditContext, split: Split, models: Models, config: QueryConfig) -> dict[str, QueriedModel]:
    """Return all models with the decoders that their signals need, fitted here where they are not the models' own."""
    settings, decoder = context.settings, context.target.decoder
    shared = TrainingContext(settings.compute, context.store)
    fitting = context.images.take(split.auxiliary.decoder)
    offline = {**models.target.checkpoints, **models.compared, **models.untrained}
    sources: dict[str, Path | Embedder] = {"target": models.target.source}
    checkpoints, latents = {**offline, **models.online}, {}
    if decoder != "own" and decoders_of(config.recipe.family):
        decoding = settings.decoder.model_copy(update={"source": decoder})
        donors = list(models.compared.values())
        checkpoints = with_decoders(checkpoints, donors, fitting, config.recipe, decoding, shared)
    names = {name for attack in context.attacks.values() for name in attack.requirements.signals}
    if any(SIGNALS[name].decoder == "latents" for name in names):
        latents = with_latent_decoders(offline, fitting, config.recipe, settings.decoder, shared)
    return {
        name: QueriedModel(name, source, settings.compute, latents.get(name))
        for name, source in (sources | checkpoints).items()
    }


def _numbered(role: str, checkpoints: Iterable[Path]) -> dict[str, Path]:
    """Name the models of a role for reports: ``shadow 1`` and so on."""
    return {f"{role} {number}": checkpoint for number, checkpoint in enumerate(checkpoints, start=1)}


def _attack_input(
    signals: Signals, membership: Bools | None = None, population: AttackInput | None = None
) -> AttackInput:
    """Take the first model for the target, and the others for references that by default saw none of the images."""
    references = signals.without_model(0)
    if membership is None:
        membership = np.zeros((len(references.models), len(references.images)), dtype=bool)
    return AttackInput(signals.of_model(0), ShadowSignals(references, membership), population)


def _signals_of(attacks: Collection[Attack], online: bool) -> tuple[list[str], list[str]]:
    """Return the signals that the online or the other attacks need on the evaluated images, and on the population."""
    requirements = [attack.requirements for attack in attacks if attack.requirements.online == online]
    every = {signal for each in requirements for signal in each.signals}
    learning = {signal for each in requirements if each.population for signal in each.signals}
    return sorted(every), sorted(learning)
