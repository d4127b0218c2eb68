"""The public names, and that they cost nothing until they are used."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pipeline_runs import FinishedRun

import hcs_nuclei
from hcs_nuclei.outputs import read_level

#: Each of them takes longer to import than a command that does not need it should take at all.
HEAVY = {
    "bokeh", "dask", "distributed", "fastapi", "keras", "matplotlib", "pandas", "prefect", "pyarrow", "scipy",
    "skimage", "tensorflow", "zarr",
}  # fmt: skip

SIGNATURES = {
    "load_model": "(model: 'str' = 'default') -> 'Segmenter'",
    "open_plate": (
        "(directory: 'Path | str', *, pattern: 'str | None' = None, plate_name: 'str | None' = None) -> 'Plate'"
    ),
    "process_plate": (
        "(plate: 'Path | str', out: 'Path | str', settings: 'Settings | None' = None, *, cluster: 'str' = 'local', "
        "workers: 'int | None' = None, overwrite: 'bool' = False, retry_failed: 'bool' = False, on_progress:"
    ),
    "read_fields": (
        "(path: 'Paths', *, columns: 'Sequence[str] | None' = None, wells: 'Collection[str] | None' = None) -> "
        "'pd.DataFrame'"
    ),
    "read_nuclei": (
        "(path: 'Paths', *, columns: 'Sequence[str] | None' = None, wells: 'Collection[str] | None' = None, units: "
        "\"Literal['px', 'um']\" = 'px') -> 'pd.DataFrame'"
    ),
    "read_treatments": "(path: 'Paths', *, readouts: 'Sequence[str] | None' = None) -> 'pd.DataFrame'",
    "read_wells": (
        "(path: 'Paths', *, columns: 'Sequence[str] | None' = None, wells: 'Collection[str] | None' = None) -> "
        "'pd.DataFrame'"
    ),
    "segment": (
        "(image: 'npt.NDArray[Any]', *, model: 'str' = 'default', diameter_px: 'float | None' = None, minimum_area_px:"
    ),
}


def test_the_public_names_are_these_and_no_others() -> None:
    assert sorted(hcs_nuclei.__all__) == sorted(SIGNATURES)


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_public_name_takes_what_it_took_and_is_documented(name: str) -> None:
    function = getattr(hcs_nuclei, name)
    assert str(inspect.signature(function)).startswith(SIGNATURES[name])
    assert len(inspect.getdoc(function) or "") > 40


def test_another_name_is_an_ordinary_mistake() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'process'"):
        hcs_nuclei.process  # noqa: B018


def modules_after(code: str) -> set[str]:
    """Top-level modules that a new process has loaded after `code`."""
    code = f"import sys\n{code}\nprint('\\n'.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = modules_after("import hcs_nuclei")
    assert "hcs_nuclei" in loaded
    assert loaded & (HEAVY | {"numpy", "pydantic"}) == set()


def test_importing_the_readers_loads_nothing_heavy() -> None:
    assert modules_after("import hcs_nuclei.sources, hcs_nuclei.plate, hcs_nuclei.errors") & HEAVY == set()


def test_segment_gives_a_label_image_of_the_image(finished: FinishedRun, tmp_path: Path) -> None:
    code = f"""
        import numpy as np, tifffile
        from hcs_nuclei import load_model, segment
        image = tifffile.imread({str(finished.plate / "TimePoint_1" / "SIM-0001_B02_s1_w1.TIF")!r})
        labels = segment(image, diameter_px=22)
        assert (labels.shape, labels.dtype) == (image.shape, np.uint32)
        assert np.unique(labels).tolist() == list(range(labels.max() + 1)) and labels.max() > 0
        assert np.array_equal(labels, segment(image, diameter_px=22))
        assert np.array_equal(labels, load_model()(image, diameter_px=22).labels)
        colour = np.stack([image] * 3, axis=2)
        assert np.array_equal(labels, segment(colour, diameter_px=22))
        try:
            segment(np.zeros((2, 3, 4, 5)))
        except ValueError as error:
            print(error)
        np.save({str(tmp_path / "labels.npy")!r}, labels)
    """
    import textwrap

    program = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "its shape is (2, 3, 4, 5); expected (y, x) or colour (y, x, 3)\n"), (
        done
    )
    stored = read_level(finished.run / "plate.ome.zarr", "B02", 1, labels=True)[0]
    assert abs(int(stored.max()) - int(np.load(tmp_path / "labels.npy").max())) <= 2
