"""Shared fixtures: where the real sample data are, if they are there."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

# A busy machine is slow now and then, and that is no fault of the code.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real plates and annotated images that lies beside some checkouts; skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real sample data are not beside this checkout (../shared/data)")
    return folder
