"""Fields that overlap: what the well's figures are made of, where a nucleus lies in two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from outputs_samples import MEASURED, field_row, make_plate, nuclei

from hcs_nuclei import read_nuclei, read_wells
from hcs_nuclei.layouts import Layout
from hcs_nuclei.outputs import finish_tables, write_well
from hcs_nuclei.outputs.calls import CallRules, read_calls
from hcs_nuclei.outputs.tables import well_table_path
from hcs_nuclei.screening.exclusions import Exclusion, Exclusions
from hcs_nuclei.screening.validity import Flags
from hcs_nuclei.settings import GateSettings

SIZE, PIXEL, RADIUS = 400, 0.5, 10
AREA, MEAN = "Nuclei_AreaShape_Area", "Nuclei_Intensity_MeanIntensity_DAPI"
STAIN = "Nuclei_Intensity_IntegratedIntensityBackgroundSubtracted_DAPI"
MEAN_LEFT = "Nuclei_Intensity_MeanIntensityBackgroundSubtracted_DAPI"


@dataclass(frozen=True)
class Cells:
    """A well's nuclei: (n,) centre px, area px², integrated stain in counts."""

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    area: npt.NDArray[np.float64]
    stain: npt.NDArray[np.float64]


def cells_of(seed: int, number: int = 2500) -> Cells:
    """Cells over 1000 px, those to the right larger: who counts these twice finds another median."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 1000, (2, number))
    stain = 10_000 * 2 ** rng.normal(0, 0.08, number) * np.where(x > 400, 2.0, 1.0)
    return Cells(x, y, 200 + 0.4 * x, stain)


def seen(cells: Cells, left: float, plate: Any, field: int, known: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows of nuclei, and the field row, of a field of 400 px whose left edge is at `left` px."""
    x, y = cells.x - left, cells.y
    inside = (x > -RADIUS) & (x < SIZE + RADIUS) & (y > -RADIUS) & (y < SIZE + RADIUS)
    x, y = x[inside], y[inside]
    low = {"Left": x - RADIUS, "Top": y - RADIUS}
    high = {"Right": x + RADIUS, "Bottom": y + RADIUS}
    box = {f"Metadata_BoundingBox_{n}": np.clip(np.floor(v), 0, SIZE - 1) for n, v in {**low, **high}.items()}
    edges = [box[f"Metadata_BoundingBox_{n}"] for n in (*low, *high)]
    touches = np.any([edges[0] == 0, edges[1] == 0, edges[2] == SIZE - 1, edges[3] == SIZE - 1], axis=0)
    table = nuclei(plate, "B03", field, int(inside.sum()), **box, Metadata_QC_TouchesEdge=touches)
    table |= {AREA: cells.area[inside], STAIN: cells.stain[inside], MEAN: cells.x[inside]}
    table |= {MEAN_LEFT: np.full(x.shape, 500.0), "Nuclei_AreaShape_Solidity": np.full(x.shape, 0.99)}
    row = field_row(plate, "B03", field, int(inside.sum()), Metadata_PixelSize_um=PIXEL)
    row |= {"Metadata_Height": SIZE, "Metadata_Width": SIZE}
    row |= {"Metadata_Position_X": (left + SIZE / 2) * PIXEL if known else None, "Metadata_Position_Y": 0.0}
    return table, row


def make_run(
    run: Path, lefts: Sequence[float], *, known: bool = True, rules: CallRules | None = None, seed: int = 0
) -> Cells:
    """A finished run of one well, a negative control, with fields at `lefts`; its cells."""
    plate, cells = make_plate(fields=len(lefts)), cells_of(seed)
    parts = [seen(cells, left, plate, number, known) for number, left in enumerate(lefts, start=1)]
    path = well_table_path(run, "B03")
    path.parent.mkdir(parents=True)
    tables, rows = [part[0] for part in parts], [part[1] for part in parts]
    write_well(path, nuclei=tables, fields=rows, fingerprint="f", measured=MEASURED)
    gates = {"large": GateSettings(feature=AREA, above_quantile=0.9)}
    layout = Layout("layout.csv", "file", (), {"B03": {"Metadata_control_type": "negcon"}})
    finish_tables(run, plate, MEASURED, layout, rules=rules or CallRules(gates=gates))
    return cells


def whole_in_any(cells: Cells, lefts: Sequence[float]) -> npt.NDArray[np.bool_]:
    """(n,) which cells at least one of the fields shows whole."""
    low, high = RADIUS + 1, SIZE - RADIUS - 1
    inside = [(cells.x - left >= low) & (cells.x - left < high) for left in lefts]
    return np.any(inside, axis=0) & (cells.y >= low) & (cells.y < high)


OVERLAPPING = [(0, 300), (0, 300, 600), (0, 0), (300, 0)]


@pytest.mark.parametrize("lefts", OVERLAPPING, ids=str)
def test_figures_are_of_each_nucleus_once(lefts: tuple[float, ...], tmp_path: Path) -> None:
    cells = make_run(tmp_path, lefts)
    found, well = read_nuclei(tmp_path), read_wells(tmp_path).iloc[0]
    truth = whole_in_any(cells, lefts)
    used = found[found.Metadata_Aggregated]
    assert sorted(used[MEAN]) == sorted(cells.x[truth])
    assert well.Metadata_Count_Aggregated == truth.sum() == len(used)
    assert well[f"Median_{AREA}"] == pytest.approx(np.median(cells.area[truth]), rel=1e-12)
    calls = read_calls(tmp_path)
    assert calls is not None
    assert calls.reference.nuclei == calls.dna.nuclei == truth.sum()
    assert calls.gates[0].cut == pytest.approx(np.quantile(cells.area[truth], 0.9), rel=1e-12)
    assert well.Metadata_Count_Gate_large == pytest.approx(0.1 * truth.sum(), abs=1)
    classes = [name for name in well.index if name.startswith("Metadata_Count_DNA_")]
    assert well[classes].sum() == used.Metadata_Class_DNA.notna().sum() > 0.9 * truth.sum()


@pytest.mark.parametrize("lefts", OVERLAPPING, ids=str)
def test_nothing_is_dropped_and_raw_counts_are_rows(lefts: tuple[float, ...], tmp_path: Path) -> None:
    make_run(tmp_path, lefts)
    found, well = read_nuclei(tmp_path), read_wells(tmp_path).iloc[0]
    assert well.Metadata_Object_Count == len(found)
    assert found.Metadata_Counted.dtype == bool
    assert found.Metadata_Counted.sum() < len(found)
    # A nucleus of the overlap is called in each field that shows it whole.
    whole = found[~found.Metadata_QC_TouchesEdge]
    assert whole.Metadata_Class_Nucleus.notna().all()
    assert (whole.groupby(MEAN).Metadata_Class_Nucleus.nunique() == 1).all()
    assert not (found.Metadata_Aggregated & ~found.Metadata_Counted).any()


def test_density_is_of_those_that_count(tmp_path: Path) -> None:
    make_run(tmp_path, (0, 300))
    counted = read_nuclei(tmp_path, columns=["Metadata_Counted"]).Metadata_Counted.sum()
    area = 700 * 400 * (PIXEL / 1000) ** 2
    assert read_wells(tmp_path).Metadata_Density_per_mm2.item() == pytest.approx(counted / area)


@pytest.mark.parametrize(
    ("lefts", "known"),
    [
        pytest.param((0, 400), True, id="side by side"),
        pytest.param((0, 600), True, id="apart"),
        pytest.param((0, 398), True, id="overlap within what a stage is exact to"),
        pytest.param((0, 300), False, id="no positions"),
    ],
)
def test_without_overlap_every_whole_nucleus_is_aggregated(
    lefts: tuple[float, ...], known: bool, tmp_path: Path
) -> None:
    make_run(tmp_path, lefts, known=known)
    found = read_nuclei(tmp_path)
    assert found.Metadata_Aggregated.tolist() == (~found.Metadata_QC_TouchesEdge).tolist()
    last = found[["Metadata_BoundingBox_Right", "Metadata_BoundingBox_Bottom"]].max(axis=1) == SIZE - 1
    assert found.Metadata_Counted.tolist() == (~last).tolist()


def test_a_field_that_does_not_count_takes_no_nucleus_from_another(tmp_path: Path) -> None:
    exclusions = Exclusions("e.csv", "", (Exclusion("B03", 1, "bubble"),))
    cells = make_run(tmp_path, (0, 300), rules=CallRules(flags=Flags(), exclusions=exclusions))
    found = read_nuclei(tmp_path)
    assert sorted(found[found.Metadata_Aggregated][MEAN]) == sorted(cells.x[whole_in_any(cells, (300,))])
    assert not found[found.Metadata_Field == 1].Metadata_Counted.any()
