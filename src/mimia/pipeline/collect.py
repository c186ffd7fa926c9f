"""Train the shadow models, and query every model about every image: the costly part of a run, kept in the store."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimia.attacks.base import Attack
from mimia.attacks.selection import decoders_of
from mimia.data.splits import Split
from mimia.models.embedders import Embedder
from mimia.pipeline.context import AuditContext
from mimia.pipeline.target import ReadyTarget
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.decoders import with_decoders, with_latent_decoders
from mimia.pretraining.pool import initial, pretrained_online, pretrained_shadows
from mimia.pretraining.specs import with_mask_ratio
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
        online: Those of the models that the online attacks need.
        untrained: A model of the shadows' kind before its training, by its name; none for a function to vectors.
    """

    target: ReadyTarget
    shadows: Mapping[str, Path]
    online: Mapping[str, Path]
    untrained: Mapping[str, Path]


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
        pool: Signals of the shadows on the shadow pool and the holdout.
        inputs: Signals of target and shadows on the evaluated images, and on the population.
        online: The same with the models of the online attacks, if there are any.
        untrained: The same with an untrained model in the place of the target; None if there is none, or if only online
            attacks are run.
        judging: Of an inference: signals of target and shadows on the shadow pool and the holdout, by which candidates
            are judged; None if only online attacks are run.
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
        """Query the shadows about the shadow pool, and add what they gave for the holdout."""
        names, _ = _signals_of(self.context.attacks.values(), online=False)
        # The pool is queried apart from the evaluated images: its signals are kept, whatever images are evaluated.
        signals = self.extract(names, shadows, self.split.shadow_pool.rows)
        pool = ShadowSignals(signals, self.split.shadow_pool.membership)
        return pool.joined(inputs.references.of_images(self.split.evaluated.holdout.mask), names)

    def judging(self, target: QueriedModel, inputs: AttackInput, pool: ShadowSignals) -> AttackInput | None:
        """Query the target about the shadow pool, and add what it gave for the holdout."""
        names, _ = _signals_of(self.context.attacks.values(), online=False)
        if not names or not len(self.split.evaluated.candidates):
            return None
        of_pool = self.extract(names, [target], self.split.shadow_pool.rows)
        of_target = of_pool.joined(inputs.target.of_images(self.split.evaluated.holdout.mask), names)
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
    query = _Query(context, split, QueryConfig(settings.signals, recipe, settings.compute, spec))
    models = _train(context, split, target, query.config)
    queried = _with_decoders(context, split, models, query.config)
    offline = [queried[name] for name in ("target", *models.shadows)]
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
    """Train the shadow models, those of the online attacks, and make the untrained one."""
    images, spec, recipe = context.images, config.spec, config.recipe
    size = target.training_size or int(split.shadow_pool.membership[0].sum())
    validation = images.take(split.auxiliary.validation)
    shared = TrainingContext(config.compute, context.store, target.tokenizer, validation)
    shadows = pretrained_shadows(images, split, spec, recipe, shared)
    online = pretrained_online(images, split, spec, recipe, size, shared)
    untrained = {}
    if target.checkpoints:
        half = images.take(split.shadow_pool.rows[split.shadow_pool.membership[0]])
        seed = derived_seed(recipe.seed, UNTRAINED)
        untrained = {UNTRAINED: initial(half, spec, recipe, seed, shared)}
    return Models(target, _numbered("shadow", shadows), _numbered("online", online), untrained)


def _with_decoders(context: AuditContext, split: Split, models: Models, config: QueryConfig) -> dict[str, QueriedModel]:
    """Return all models with the decoders that their signals need, fitted here where they are not the models' own."""
    settings, decoder = context.settings, context.target.decoder
    shared = TrainingContext(settings.compute, context.store)
    fitting = context.images.take(split.auxiliary.decoder)
    offline = {**models.target.checkpoints, **models.shadows, **models.untrained}
    sources: dict[str, Path | Embedder] = {"target": models.target.source}
    checkpoints, latents = {**offline, **models.online}, {}
    if decoder != "own" and decoders_of(config.recipe.family):
        decoding = settings.decoder.model_copy(update={"source": decoder})
        donors = list(models.shadows.values())
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
