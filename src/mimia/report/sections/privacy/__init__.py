"""Lower bounds on the ε of differential privacy."""

from typing import TYPE_CHECKING

from mimia.report.sections.base import Section

if TYPE_CHECKING:
    from mimia.report.schema import Report


class PrivacySection(Section):
    """The lower bounds on ε, beside the guarantee of the target's training if it has one."""

    def applies(self, report: "Report") -> bool:
        """Return whether membership is known, without which there is no bound."""
        return report.kind == "audit"
