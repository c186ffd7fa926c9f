"""What a section of a report is."""

from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, model_validator

from mimia.runtime.text import masked_values

if TYPE_CHECKING:
    from mimia.report.schema import Report


class ReportPart(BaseModel):
    """A part of ``report.json``: it cannot be changed, and has no other keys than those of its class.

    Numbers are finite, and secrets in addresses masked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_secrets(cls, values: Any) -> Any:
        return masked_values(values)


class Section:
    """A section of the HTML page; the base of each class in ``mimia.report.sections``.

    Its template, ``template.html.j2``, lies in the package that defines the class, and gets ``report``, ``run`` (the
    report's `Run`) and what `values` returns.
    """

    def applies(self, report: "Report") -> bool:
        """Return whether the section is shown for a report."""
        return True

    def values(self, report: "Report") -> Mapping[str, object]:
        """Return what the template needs in addition to the report, such as figures."""
        return {}

    @property
    def template(self) -> str:
        """Text of the Jinja template."""
        package = resources.files(type(self).__module__)
        return package.joinpath("template.html.j2").read_text(encoding="utf-8")
