"""The main job: does this encoder give away the images that it was pre-trained on?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimia.config.settings import Settings
from mimia.data.drawing import split_for_audit
from mimia.data.sources.base import SourceLike
from mimia.evaluation.evaluate import evaluate_together
from mimia.jobs.inputs import JobInputs, job_inputs, sources_of
from mimia.jobs.prepared import PreparedJob
from mimia.jobs.results import AuditResult
from mimia.pipeline.check import check_validity, handle_near_duplicates, refuse_too_few
from mimia.pipeline.collect import collect_signals
from mimia.pipeline.context import prepare
from mimia.pipeline.outcome import Outcome
from mimia.pipeline.score import score_images
from mimia.report.audit import audit_report, audit_table
from mimia.validity.verdict import deciding_attack


@dataclass(frozen=True)
class PreparedAudit(PreparedJob[AuditResult]):
    """An audit that is ready to run."""

    def run(self) -> AuditResult:
        """Train, query, attack and judge; what the store has is not computed again."""
        context, split = self.context, self.split
        signals = collect_signals(context, split)
        scores = score_images(context, split, signals)
        on_sides = split.evaluated.on_sides
        evaluations = evaluate_together(
            [each.of_images(on_sides) for each in scores],
            split.evaluated.members.mask[on_sides],
            context.settings.evaluation,
        )
        deciding = scores[evaluations.index(deciding_attack(evaluations))]
        validity = check_validity(context, split, signals, deciding, self.near_duplicates)
        outcome = Outcome(context, split, signals, scores, evaluations, deciding, validity, self.near_duplicates)
        return AuditResult(audit_report(outcome), audit_table(outcome))


def prepare_audit(inputs: JobInputs) -> PreparedAudit:
    """Open the target, read the images and split them.

    Raises:
        MimiaError: The settings, the images or the checkpoint do not allow an audit.
    """
    settings = inputs.settings
    context = prepare(settings, inputs.resolve(sources_of(settings)), inputs.objects)
    split = split_for_audit(context.images, context.loaded.rows, settings.split, context.requirements)
    split, near_duplicates = handle_near_duplicates(context, split)
    refuse_too_few(split)
    return PreparedAudit(context, split, near_duplicates)


def audit(
    target: object = None,
    *,
    members: SourceLike | None = None,
    nonmembers: SourceLike | None = None,
    reference: SourceLike | None = None,
    references: Sequence[object] = (),
    settings: Settings | Mapping[str, Any] | str | Path | None = None,
) -> AuditResult:
    """Audit a model, or one that is trained here if there is no target; what the store has is not computed again.

    Args:
        target: A checkpoint directory or file, a name on the hub, a `mimia` or `transformers` model, or a function from
            images, uint8 (B, C, H, W), to vectors (B, D).
        members: Images that the target was trained on: a path or name, a uint8 array, a list of PIL images, a
            `datasets.Dataset` or a torch `Dataset`.
        nonmembers: Images from the same distribution that it was not trained on.
        reference: Further images for the shadow models; by default some of the non-members.
        references: Models known not to have seen the images, as the target is given, above all the public one that the
            target was continued from; with them, no shadow models are trained unless the settings ask for some.
        settings: All else: settings, nested values such as ``{"shadows": {"count": 8}}``, or a TOML file.

    Raises:
        MimiaError: The settings, the images or the checkpoint do not allow an audit.
    """
    given = {"target": target, "members": members, "nonmembers": nonmembers, "reference": reference}
    return prepare_audit(job_inputs(settings, references, **given)).run()
