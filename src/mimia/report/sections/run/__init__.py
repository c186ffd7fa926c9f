"""How to repeat a run, and what it does not show."""

from mimia.report.sections.base import ReportPart, Section


class NotRun(ReportPart):
    """An attack that was not run, and why.

    Attributes:
        attack: Its name.
        reason: A sentence.
    """

    attack: str
    reason: str


class RunSection(Section):
    """The command, the settings, versions and hardware, and the attacks that were not run."""
