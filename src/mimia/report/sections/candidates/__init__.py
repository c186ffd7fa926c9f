"""Which images of unknown membership are listed as members."""

from typing import TYPE_CHECKING

from mimia.report.sections.base import ReportPart, Section

if TYPE_CHECKING:
    from mimia.report.schema import Report


class Candidate(ReportPart):
    """One image of unknown membership.

    Attributes:
        name: Where it came from.
        id: Content id.
        score: Of the attack that decides.
        p_value: Cross-conformal p-value of "it is not a member".
        q_value: Smallest false discovery rate at which it is listed; None in older reports.
        listed: Whether it is in the list of members.
    """

    name: str
    id: str
    score: float
    p_value: float
    q_value: float | None = None
    listed: bool


class CandidatesSection(Section):
    """The list of members, with the bound on its false discovery rate."""

    def applies(self, report: "Report") -> bool:
        """Return whether membership is unknown."""
        return report.kind == "inference"
