"""How useful the encoder's features are."""

from typing import TYPE_CHECKING

from mimia.report.sections.base import Section

if TYPE_CHECKING:
    from mimia.report.schema import Report


class UtilitySection(Section):
    """A table of what classifiers of frozen features reach, for the target and for two baselines."""

    def applies(self, report: "Report") -> bool:
        """Return whether utility was measured."""
        return report.kind == "audit" and bool(report.utility)
