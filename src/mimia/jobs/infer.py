"""Membership unknown: which of these images was the model pre-trained on, and was it on any of them?"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimia.config.settings import Settings
from mimia.data.drawing import split_for_inference
from mimia.data.sources.base import SourceLike
from mimia.evaluation.evaluate import best_on_shadows, evaluate_candidates
from mimia.jobs.inputs import JobInputs, job_inputs
from mimia.jobs.prepared import PreparedJob
from mimia.jobs.results import InferenceResult
from mimia.pipeline.check import check_validity, handle_near_duplicates, refuse_too_few
from mimia.pipeline.collect import collect_signals
from mimia.pipeline.context import prepare
from mimia.pipeline.outcome import Outcome
from mimia.pipeline.score import rank_candidates, score_images
from mimia.report.inference import inference_report, inference_table
from mimia.runtime.errors import MimiaError


@dataclass(frozen=True)
class PreparedInference(PreparedJob[InferenceResult]):
    """An inference that is ready to run.

    Attributes:
        named: The candidates as a user calls them.
    """

    named: str

    def run(self) -> InferenceResult:
        """Train, query, attack and judge; what the store has is not computed again."""
        context, split, settings = self.context, self.split, self.context.settings
        signals = collect_signals(context, split)
        scores = score_images(context, split, signals)
        deciding = scores[best_on_shadows([each.shadow_auc for each in scores])]
        ranked = rank_candidates(context, split, signals, deciding)
        evaluation = evaluate_candidates(deciding, split.evaluated.candidates.mask, ranked, settings.evaluation)
        validity = check_validity(context, split, signals, deciding, self.near_duplicates)
        outcome = Outcome(context, split, signals, scores, (evaluation,), deciding, validity, self.near_duplicates)
        report = inference_report(outcome, ranked, f"infer --candidates {shlex.quote(self.named)}")
        return InferenceResult(report, inference_table(outcome, report))


def prepare_inference(inputs: JobInputs, candidates: SourceLike) -> PreparedInference:
    """Open the target, read the images and split them.

    Raises:
        MimiaError: The settings, the images or the checkpoint do not allow it.
    """
    settings = inputs.settings
    if not (settings.target or settings.embeddings) or settings.data.reference is None:
        raise MimiaError(
            "An inference needs a target (--target or --embeddings) and images like the candidates that the target was "
            "not trained on (--reference)."
        )
    sources = {"candidates": candidates, **inputs.resolve({"reference": settings.data.reference})}
    context = prepare(settings, sources, inputs.objects)
    split = split_for_inference(context.images, context.loaded.rows, settings.split, context.requirements)
    split, near_duplicates = handle_near_duplicates(context, split)
    refuse_too_few(split)
    named = str(candidates) if isinstance(candidates, str | Path) else "(images in memory)"
    return PreparedInference(context, split, near_duplicates, named)


def infer(
    target: object = None,
    *,
    candidates: SourceLike,
    reference: SourceLike | None = None,
    references: Sequence[object] = (),
    settings: Settings | Mapping[str, Any] | str | Path | None = None,
) -> InferenceResult:
    """Judge candidates by that attack of the settings, or of the defaults, which does best on the shadows.

    Args:
        target: As for `mimia.audit`.
        candidates: Images whose membership is unknown, one or more, as a path, a name or in memory.
        reference: Images from the same source that the target was not trained on.
        references: As for `mimia.audit`.
        settings: All else: settings, nested values, or a TOML file.

    Raises:
        MimiaError: The settings, the images or the checkpoint do not allow it.
    """
    inputs = job_inputs(settings, references, target=target, reference=reference)
    return prepare_inference(inputs, candidates).run()
