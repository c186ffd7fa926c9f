"""The arguments of a job in Python: settings, and the models and images in memory that settings cannot hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimia.config.image_settings import DataSettings
from mimia.config.settings import Settings, read_settings
from mimia.data.canaries import EXCLUDED, INCLUDED
from mimia.data.drawing import SIDES
from mimia.data.sources.base import SourceLike
from mimia.runtime.errors import MimiaError


@dataclass(frozen=True)
class JobInputs:
    """What a job is given.

    Attributes:
        settings: All settings; where a model or images are in memory, they say so in words.
        objects: The models and images in memory, by these words.
    """

    settings: Settings
    objects: Mapping[str, Any]

    def resolve(self, sources: Mapping[str, str]) -> dict[str, SourceLike]:
        """Return the source of each side: what is in memory under these words, or the path or name itself."""
        return {side: self.objects.get(source, source) for side, source in sources.items()}


def job_inputs(
    settings: Settings | Mapping[str, Any] | str | Path | None, references: Sequence[object] = (), **given: object
) -> JobInputs:
    """Join settings with the arguments of a job.

    Args:
        settings: Settings, nested values, or a TOML file.
        references: Models that saw none of the images, each a path, a name or an object in memory.
        given: By name: ``target``, and the source of sides; None of what is not given. Each is a path, a name, or an
            object in memory.

    Raises:
        MimiaError: A setting is wrong.
    """
    objects: dict[str, Any] = {}
    named = {name: _in_words(name, value, objects) for name, value in given.items() if value is not None}
    models = [_in_words(f"reference {number}", each, objects) for number, each in enumerate(references, start=1)]
    if isinstance(settings, Settings) and not named and not models:
        return JobInputs(settings, {})
    values: dict[str, Any] = {"data": {side: source for side, source in named.items() if side != "target"}}
    if models:
        values["references"] = models
    if "target" in named:
        is_function = named["target"].startswith(("http://", "https://")) or _is_function(given["target"])
        values["embeddings" if is_function else "target"] = named["target"]
    if isinstance(settings, str | Path):
        return JobInputs(read_settings(Path(settings), values), objects)
    if not isinstance(settings, Settings | Mapping | None):
        raise MimiaError(f"settings is {settings!r}: pass nested values, Settings, or the path of a TOML file.")
    before = settings.model_dump() if isinstance(settings, Settings) else dict(settings or {})
    if not isinstance(before.get("data", {}), Mapping):
        raise MimiaError("Setting data is a table: pass {'data': {'source': …}}.")
    data = {**before.get("data", {}), **values.pop("data")}
    return JobInputs(read_settings(None, {**before, **values, "data": data}), objects)


def _in_words(name: str, value: object, objects: dict[str, Any]) -> str:
    """Return a path or name as it is, and for all else words under which it is put into ``objects``."""
    if isinstance(value, str | Path):
        return str(value)
    words = f"{name} in memory ({type(value).__name__})"
    objects[words] = value
    return words


def sources_of(settings: Settings) -> dict[str, str]:
    """Return the source of each side, or the one for all sides.

    Raises:
        MimiaError: A side has two sources, or none.
    """
    data = settings.data
    if data.canaries is not None:
        return sources_of(settings.model_copy(update={"data": _sides_of_canaries(data, data.canaries)}))
    own = {"members": data.members, "nonmembers": data.nonmembers, "reference": data.reference}
    given = {side: source for side, source in own.items() if source is not None}
    if (settings.target or settings.embeddings) and "members" not in given:
        raise MimiaError(
            "An audit of your own target needs to know its members: pass members and nonmembers (--members, "
            "--nonmembers), or use `mimia infer` where membership is unknown."
        )
    if not given:
        return {"source": data.source}
    named = data.source != DataSettings().source
    if named and set(given) == {"reference"}:
        return {"source": data.source, **given}
    if named:
        raise MimiaError(
            f"One source for all sides ({data.source}) and others for single sides ({', '.join(given)}) are given: "
            "leave out the one or the others."
        )
    for side in ("members", "nonmembers"):
        if side not in given:
            raise MimiaError(f"A source is given for some sides, but not for the {side}: pass --{side} too.")
    return {side: given[side] for side in SIDES if side in given}


def _sides_of_canaries(data: DataSettings, canaries: str) -> DataSettings:
    if data.members or data.nonmembers or not data.reference:
        raise MimiaError(
            "Canaries are both sides of an audit, and images like them are needed for the shadows: pass --canaries and "
            "--reference, and neither --members nor --nonmembers."
        )
    sides = {"members": str(Path(canaries, INCLUDED)), "nonmembers": str(Path(canaries, EXCLUDED))}
    return data.model_copy(update=sides | {"canaries": None})


def _is_function(value: object) -> bool:
    """Return whether a target is a plain function to vectors: callable, and no model."""
    return callable(value) and not hasattr(value, "state_dict")
