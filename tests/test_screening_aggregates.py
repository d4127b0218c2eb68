"""Aggregates are NumPy's and pandas', whatever is missing and in whatever order the nuclei come."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hcs_nuclei.columns import AGGREGATES
from hcs_nuclei.screening.aggregates import aggregate


@pytest.mark.parametrize("n", [1, 2, 3, 20, 501])
def test_as_pandas_has_them(n: int) -> None:
    values = np.random.default_rng(n).lognormal(3, 1, (6, n))
    values[1, ::2] = np.nan
    values[2] = np.nan
    found = aggregate(values)
    assert list(found) == list(AGGREGATES)
    frame = pd.DataFrame(values.T)
    expected = {
        "Median_": frame.median(),
        "MAD_": (frame - frame.median()).abs().median(),
        "Mean_": frame.mean(),
        "Std_": frame.std(),
        "P05_": frame.quantile(0.05),
        "P95_": frame.quantile(0.95),
    }
    for name, values_of in expected.items():
        np.testing.assert_allclose(found[name], values_of, rtol=1e-12, err_msg=name)
    shuffled = aggregate(np.random.default_rng(0).permuted(values, axis=1))
    for name in AGGREGATES:
        np.testing.assert_array_equal(found[name], shuffled[name])


def test_no_nuclei_have_no_figures() -> None:
    assert all(np.isnan(values).tolist() == [True] * 3 for values in aggregate(np.empty((3, 0))).values())
