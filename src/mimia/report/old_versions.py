"""Reports of earlier schema versions, translated key by key.

Version 1 had no validity checks and no bound on ε. These cannot be made up afterwards, so it is not read.
"""

from collections.abc import Mapping
from typing import Any

from mimia.runtime.errors import MimiaError

_RENAMED_IN_3 = {
    "apart": "blind_separates",
    "area": "auc",
    "corrected": "p_value_holm",
    "false_rate": "fpr",
    "known non-members": "population",
    "masks": "query_id",
    "measured": "validity",
    "true_rate": "tpr",
    "twins": "near_duplicates",
}
_RENAMED_IN_4 = {"strongest": "deciding"}
_SETTINGS_IN_3 = {"crop_area": "crop_scale", "n_known": "n_population"}
_DEFENCES_IN_3 = {
    "patience": ("early_stopping", "patience"),
    "cross_fits": ("cross_fitting", "pairs"),
    "dp_epsilon": ("dp_sgd", "epsilon"),
    "dp_delta": ("dp_sgd", "delta"),
    "dp_clip": ("dp_sgd", "clip"),
}
_BY_NAME = {"comparisons", "utility"}  # mappings whose keys are names of attacks or of features


def translated(report: dict[str, Any], current: int) -> dict[str, Any]:
    """Return the content of a ``report.json`` with the keys of the current schema version.

    Args:
        report: Of any version.
        current: The current version.

    Raises:
        MimiaError: The version is newer than the current one, or too old to be translated.

    >>> translated({"twins": [], "run": {"schema_version": 2, "masks": "1f"}}, 4)
    {'near_duplicates': [], 'run': {'query_id': '1f'}, 'schema_version': 4}
    """
    run = report.get("run")
    before_3 = run.get("schema_version") if isinstance(run, dict) else None
    version = report.get("schema_version", before_3)
    if version == current or not isinstance(version, int):  # the latter is for the schema to refuse
        return report
    if version > current:
        raise MimiaError(
            f"it has schema version {version}, and this version of mimia reads versions up to {current}: upgrade mimia"
        )
    if version == 1:
        raise MimiaError("it has schema version 1, from before the validity checks: repeat the run to write it anew")
    try:
        return _from_3(_from_2(report) if version == 2 else report)
    except (AttributeError, KeyError, TypeError) as error:
        raise MimiaError(f"it says schema version {version}, but lacks parts of it: repeat the run") from error


def _from_3(report: dict[str, Any]) -> dict[str, Any]:
    return {_RENAMED_IN_4.get(key, key): value for key, value in report.items()} | {"schema_version": 4}


def _from_2(report: dict[str, Any]) -> dict[str, Any]:
    run = dict(report["run"])
    del run["schema_version"]
    settings = {"settings": settings_from_2(run.pop("settings"))} if "settings" in run else {}
    found: dict[str, Any] = _renamed(report | {"run": run})
    return found | {"run": found["run"] | settings, "schema_version": 3}


def settings_from_2(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with the keys of version 3, in which each defence is a table of its own.

    >>> settings_from_2({"split": {"n_known": 5}, "recipe": {"patience": 15, "cross_fits": 0}})
    {'split': {'n_population': 5}, 'recipe': {'defences': {'early_stopping': {'patience': 15}}}}
    """
    found: dict[str, Any] = {
        key: {_SETTINGS_IN_3.get(name, name): each for name, each in value.items()}
        if isinstance(value, Mapping)
        else value
        for key, value in settings.items()
    }
    if "recipe" in found:
        found["recipe"] = _with_defences(found["recipe"])
    return found


def _with_defences(recipe: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in recipe.items() if key not in (*_DEFENCES_IN_3, "deduplicate")}
    defences: dict[str, Any] = {"deduplicate": {}} if recipe.get("deduplicate") else {}
    for key, (name, setting) in _DEFENCES_IN_3.items():
        if recipe.get(key) and (name != "dp_sgd" or recipe.get("dp_epsilon")):
            defences.setdefault(name, {})[setting] = recipe[key]
    return kept | ({"defences": defences} if defences else {})


def _renamed(value: Any, *, names: bool = False) -> Any:
    if isinstance(value, list):
        return [_renamed(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key if names else _RENAMED_IN_3.get(key, key): _renamed(each, names=key in _BY_NAME)
        for key, each in value.items()
    }
