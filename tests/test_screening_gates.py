"""Gates: a fixed cut or a quantile of the negative controls, who is positive, and when there is no cut."""

from __future__ import annotations

import numpy as np
import pytest

from hcs_nuclei.errors import SettingsError
from hcs_nuclei.screening.gates import Gate, make_gate
from hcs_nuclei.settings import load_settings
from hcs_nuclei.settings.aggregation import GateSettings

FEATURE = "Nuclei_Intensity_MeanIntensity_FITC"
VALUES = np.array([1.0, 2.0, np.nan, 3.0])


@pytest.mark.parametrize(
    ("side", "expected"), [("above", [False, False, None, True]), ("below", [True, False, None, False])]
)
def test_positive_lies_beyond_the_cut_and_not_on_it(side: str, expected: list[bool | None]) -> None:
    gate = make_gate("edu", GateSettings(feature=FEATURE, **{side: 2.0}), np.empty(0), 0)
    assert (gate.cut, gate.side, gate.origin) == (2.0, side, "the recipe")
    assert gate.positive(VALUES).tolist() == expected


def test_a_quantile_of_the_controls_is_positive_in_that_share_of_them() -> None:
    controls = np.append(np.random.default_rng(0).lognormal(5, 1, 2000), np.nan)
    above = make_gate("edu", GateSettings(feature=FEATURE, above_quantile=0.95), controls, 16)
    below = make_gate("edu", GateSettings(feature=FEATURE, below_quantile=0.05), controls, 16)
    assert above.positive(controls).sum() == below.positive(controls).sum() == 100
    assert above.origin == "quantile 0.95 of 2000 nuclei in 16 negative controls"
    assert above.cut == np.quantile(controls[:-1], 0.95)


def test_without_enough_controls_nobody_is_called() -> None:
    gate = make_gate("edu", GateSettings(feature=FEATURE, above_quantile=0.95), np.arange(49.0), 2)
    assert gate.cut is None
    assert gate.reason == "49 nuclei in 2 valid negative controls; a quantile needs 50"
    assert gate.positive(VALUES).tolist() == [None] * 4
    assert Gate("x", FEATURE, "above", None, "").positive(np.empty(0)).tolist() == []


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        ({"edu": {"feature": FEATURE}}, "exactly one of above, below"),
        ({"edu": {"feature": FEATURE, "above": 1, "below_quantile": 0.1}}, "exactly one of above, below"),
        ({"edu": {"feature": FEATURE, "above_quantile": 95}}, "less than 1"),
        ({"edu+": {"feature": FEATURE, "above": 1}}, r"edu\+: a gate is named by a letter"),
        ({"EdU": {"feature": FEATURE, "above": 1}, "edu": {"feature": FEATURE, "above": 2}}, "but for its case"),
    ],
)
def test_gates_that_make_no_sense_are_refused_in_the_recipe(gates: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings(options={"gates": gates}, environ={})
