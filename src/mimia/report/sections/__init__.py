"""The sections of a report, in the order in which a page shows them.

A section is a folder with its template, its figures, the part of the schema that is its own, and a `Section` that says
when it is shown.
"""

from mimia.report.sections.base import Section
from mimia.runtime.registry import Registry

SECTIONS: Registry[type[Section]] = Registry(
    "report section",
    "mimia.sections",
    {
        "verdict": "mimia.report.sections.verdict:VerdictSection",
        "attacks": "mimia.report.sections.attacks:AttacksSection",
        "candidates": "mimia.report.sections.candidates:CandidatesSection",
        "privacy": "mimia.report.sections.privacy:PrivacySection",
        "utility": "mimia.report.sections.utility:UtilitySection",
        "curves": "mimia.report.sections.curves:CurvesSection",
        "gallery": "mimia.report.sections.gallery:GallerySection",
        "images": "mimia.report.sections.images:ImagesSection",
        "models": "mimia.report.sections.models:ModelsSection",
        "run": "mimia.report.sections.run:RunSection",
    },
)
"""Section classes by name; those of other packages follow the built-in ones."""
