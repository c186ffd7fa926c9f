import json
from importlib.metadata import EntryPoint

import pytest

from mimia.runtime.errors import MimiaError
from mimia.runtime.registry import Registry


def test_entries_are_imported_when_used() -> None:
    registry: Registry[object] = Registry("thing", "mimia.things", {"good": "json:dumps", "broken": "no_such_module:x"})
    assert list(registry) == ["good", "broken"]
    assert "broken" in registry
    with pytest.raises(ModuleNotFoundError):
        registry["broken"]


def test_unknown_names_are_refused_with_those_there_are() -> None:
    registry: Registry[object] = Registry("thing", "mimia.things", {"good": "json:dumps"})
    with pytest.raises(MimiaError, match=r"There is no thing 'bad': choose one of good\."):
        registry.find("bad")


def test_entry_points_of_other_packages_are_found_and_may_not_hide_built_in_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = EntryPoint("other", "json:loads", "mimia.things")
    monkeypatch.setattr("mimia.runtime.registry.entry_points", lambda group: [other] if group == other.group else [])
    assert Registry[object]("thing", "mimia.things", {"good": "json:dumps"})["other"] is json.loads
    with pytest.raises(MimiaError, match="Two packages register the thing 'other'"):
        list(Registry[object]("thing", "mimia.things", {"other": "json:dumps"}))
