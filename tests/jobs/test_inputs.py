"""What a job is given: settings in each form, and arguments that come on top of them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimia.config.settings import Settings, read_settings
from mimia.jobs.audit import audit
from mimia.jobs.inputs import job_inputs, sources_of
from mimia.runtime.arrays import Floats, Pixels
from mimia.runtime.errors import MimiaError

PIXELS = np.zeros((3, 8, 8), np.uint8)


def function(pixels: Pixels) -> Floats:
    vectors: Floats = pixels.mean(axis=(1, 3), dtype=np.float64)
    return vectors


def test_settings_come_as_values_as_an_object_or_as_a_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('store = "here"\n[shadows]\ncount = 3\n')
    values: dict[str, Any] = {"store": "here", "shadows": {"count": 3}}
    expected = read_settings(None, values)
    forms: list[Any] = [values, expected, file, str(file)]
    for form in forms:
        assert job_inputs(form).settings == expected
        changed = job_inputs(form, target="model", members=PIXELS).settings
        assert (changed.target, changed.store, changed.shadows.count) == ("model", "here", 3)
    assert job_inputs(None).settings == Settings()


def test_arguments_replace_settings_and_other_sides_stay() -> None:
    inputs = job_inputs(
        {"target": "old", "data": {"members": "a", "nonmembers": "b"}}, target="new", members=PIXELS, nonmembers=None
    )
    assert inputs.settings.target == "new"
    assert inputs.settings.data.nonmembers == "b"
    resolved = inputs.resolve(sources_of(inputs.settings))
    assert resolved["members"] is PIXELS
    assert resolved["nonmembers"] == "b"


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/embed", function])
def test_functions_and_addresses_are_embeddings(target: Any) -> None:
    settings = job_inputs(None, target=target).settings
    assert settings.target is None
    assert settings.embeddings is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (3, "settings is 3: pass nested values, Settings, or the path of a TOML file"),
        ({"data": "digits"}, "Setting data is a table"),
        ({"data": {"source": "digits", "members": "a"}}, "One source for all sides|not for the nonmembers|members"),
    ],
)
def test_settings_of_another_form_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(MimiaError, match=message):
        sources_of(job_inputs(settings, members=PIXELS).settings)


@pytest.mark.usefixtures("quick_network")
def test_near_duplicates_are_counted_or_removed(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (300, 8, 8), dtype=np.uint8)
    members, others = images[:40].copy(), images[40:]
    copies = np.concatenate([members[:3], others[:2]])  # of members among the others, and of others among themselves
    copies[:, 0, 0] ^= 1
    nonmembers = np.concatenate([others, copies])

    def run(what: str) -> tuple[list[int], str]:
        settings = {
            "store": str(tmp_path),
            "data": {"near_duplicates": what},
            "attacks": {"names": ["similarity"]},
            "recipe": {"preset": "mae-nano", "epochs": 1},
            "compute": {"device": "cpu", "threads": 1},
        }
        report = audit(function, members=members, nonmembers=nonmembers, settings=settings).report
        check = next(check for check in report.verdict.checks if check.name == "near-duplicates")
        return [report.run.counts["members"], report.run.counts["non-members"]], check.finding

    counted, finding = run("keep")
    assert re.match(r"\d of 40 members ha(s|ve) a near-duplicate among the non-members", finding)
    removed, finding = run("remove")
    assert finding.startswith("None was found")
    assert removed[0] == counted[0]
    assert removed[1] < counted[1]
