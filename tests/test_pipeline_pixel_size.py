"""The size of a pixel: the vendor's, else the recipe's; two that differ are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pipeline_runs import FinishedRun

from hcs_nuclei.errors import RunConflictError, SettingsError
from hcs_nuclei.pipeline import prepare_plate
from hcs_nuclei.pipeline.pixel_size import with_pixel_size
from hcs_nuclei.plate import Plate
from hcs_nuclei.settings import Settings
from hcs_nuclei.simulate import simulate_plate

CASES = {
    "neither says": (None, None, None),
    "the vendor alone": (0.65, None, 0.65),
    "the recipe alone": (None, 0.325, 0.325),
    "both the same": (0.65, 0.65, 0.65),
    "rounded by 1 %: the vendor's": (0.65, 0.6545, 0.65),
}


def plate_of(pixel_size_um: float | None) -> Plate:
    return Plate(Path("/plates/P1"), "imagexpress", "", "P1", "", (), (), pixel_size_um=pixel_size_um)


@pytest.mark.parametrize(("vendor", "recipe", "wanted"), CASES.values(), ids=CASES.keys())
def test_whose_pixel_size_is_used(vendor: float | None, recipe: float | None, wanted: float | None) -> None:
    assert with_pixel_size(plate_of(vendor), Settings(pixel_size_um=recipe)).pixel_size_um == wanted


@pytest.mark.parametrize("recipe", [0.325, 0.64, 0.66])
def test_a_plate_that_says_otherwise_is_refused_with_both_values(recipe: float) -> None:
    with pytest.raises(SettingsError, match=rf"pixel_size_um is {recipe:g} µm .* says 0\.65 µm"):
        with_pixel_size(plate_of(0.65), Settings(pixel_size_um=recipe))


def test_a_plate_of_a_vendor_without_pixel_size_is_processed_with_the_recipes(tmp_path: Path) -> None:
    made = simulate_plate(tmp_path / "plates", format="cellomics", wells=4, fields=1, size=64)
    recipe = Settings(channel="d0")
    without, _ = prepare_plate(made.directory, tmp_path / "out", recipe)
    assert without.context.pixel_size_um is None
    plan, _ = prepare_plate(made.directory, tmp_path / "out", recipe.model_copy(update={"pixel_size_um": 0.65}))
    assert plan.context.pixel_size_um == plan.plate.pixel_size_um == 0.65


def test_a_run_that_was_begun_without_is_not_gone_on_with_another(finished: FinishedRun) -> None:
    with pytest.raises(SettingsError, match="pixel_size_um is 3 µm"):
        prepare_plate(finished.plate, finished.out, Settings(pixel_size_um=3.0))
    same = prepare_plate(finished.plate, finished.out, Settings())[0].context.pixel_size_um
    assert same is not None
    with pytest.raises(RunConflictError, match=r"pixel_size_um: None before, 0\.65 now"):
        prepare_plate(finished.plate, finished.out, Settings(pixel_size_um=same))
