import subprocess
import sys
from typing import Any

import pytest

from mimia import attacks
from mimia.attacks.base import Attack
from mimia.attacks.registry import ATTACKS, make_attack
from mimia.attacks.selection import ThreatModel, select
from mimia.runtime.errors import MimiaError
from mimia.signals.registry import SIGNALS

EVERYTHING = ThreatModel(access="decoder", shadows=8, online=8, family="mae", fitting=True)


def test_names_stand_for_different_attacks_on_registered_signals() -> None:
    made = {name: make_attack(name) for name in ATTACKS}
    assert len({repr(attack) for attack in made.values()}) == len(made)
    for name, attack in made.items():
        assert attack.name == name
        assert attack.paper
        assert {*attack.requirements.signals} <= {*SIGNALS}


def test_hyper_parameters_are_shown_and_the_default_name_is_that_of_the_class() -> None:
    assert repr(attacks.LiRA(online=True)) == "LiRA(online=True, pooled=True)"
    assert attacks.LiRA().name == "LiRA"


@pytest.mark.parametrize(
    ("name", "options", "shown"),
    [
        ("rmia", {"temperature": 2}, "RMIA(online=False, gamma=1.0, temperature=2.0)"),
        ("lira-online", {"pooled": True}, "LiRA(online=True, pooled=True)"),
        ("ensemble", {"signals": ["gradients"]}, "Ensemble(signals=('gradients',), regularisation=1.0)"),
        ("calibrated-difference", {"scale": "ratio"}, "Calibrated(signal='reconstruction', scale='ratio')"),
    ],
)
def test_options_change_hyper_parameters(name: str, options: dict[str, Any], shown: str) -> None:
    assert repr(make_attack(name, options)) == shown
    assert repr(select((name,), EVERYTHING, {name: options})[0][name]) == shown


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("guess", {}, "There is no attack 'guess': `mimia attacks` lists"),
        ("lira", {"gamma": 1}, "'lira' has no hyper-parameter 'gamma': it has online, pooled"),
        ("base", {"gamma": 1}, "'base' has no hyper-parameter 'gamma': it has none"),
        ("quantile", {"trees": 0}, "'trees' of the attack 'quantile' cannot be 0: .* greater than 0.* trees, seed"),
        ("encodermi-s", {"variant": "bag"}, "'variant' of the attack 'encodermi-s' cannot be 'bag'"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MimiaError, match=message):
        make_attack(name, options)
    with pytest.raises(MimiaError, match=message):
        select(("threshold",), EVERYTHING, {name: options})


def test_classes_are_exported_and_imported_when_used() -> None:
    classes = {type(make_attack(name)) for name in ATTACKS}
    assert {getattr(attacks, name) for name in attacks.__all__} == {*classes, Attack, make_attack}
    with pytest.raises(AttributeError, match="no attribute 'Guess'"):
        _ = attacks.Guess
    code = "import sys, mimia.attacks; print('torch' in sys.modules, 'sklearn' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
