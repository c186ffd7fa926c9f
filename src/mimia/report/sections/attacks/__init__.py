"""How well each attack tells members from non-members."""

from typing import TYPE_CHECKING

from mimia.report.sections.base import Section

if TYPE_CHECKING:
    from mimia.report.schema import Report


class AttacksSection(Section):
    """A table of all attacks' figures, and how sure it is that the strongest one is the strongest."""

    def applies(self, report: "Report") -> bool:
        """Return whether membership is known."""
        return report.kind == "audit"
