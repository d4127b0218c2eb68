"""Settings: which source wins, what is refused and how it is named, and what the fingerprint stands for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcs_nuclei.errors import SettingsError
from hcs_nuclei.settings import (
    NO_RESULT,
    FeatureGroup,
    MeasurementSettings,
    OutputSettings,
    SegmentationSettings,
    Settings,
    load_settings,
)

NOTHING: dict[str, str] = {}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "assay.yaml"
    path.write_text("channel: FromRecipe\nz: 2\nsegmentation:\n  diameter_px: 20\n  minimum_area_px: 30\n")
    return path


def test_without_anything_the_defaults_hold() -> None:
    assert load_settings(environ=NOTHING) == Settings()


def test_a_recipe_beats_the_defaults(recipe: Path) -> None:
    settings = load_settings(recipe, environ=NOTHING)

    assert (settings.channel, settings.z, settings.output.image) == ("FromRecipe", 2, True)
    assert settings.segmentation == SegmentationSettings(diameter_px=20, minimum_area_px=30)


def test_a_variable_beats_the_recipe_in_that_one_setting(recipe: Path) -> None:
    environ = {"HCS_NUCLEI_CHANNEL": "FromVariable", "HCS_NUCLEI_SEGMENTATION__DIAMETER_PX": "41.5"}
    settings = load_settings(recipe, environ=environ)

    assert (settings.channel, settings.z) == ("FromVariable", 2)
    assert settings.segmentation == SegmentationSettings(diameter_px=41.5, minimum_area_px=30)


def test_an_option_beats_them_all_and_none_is_not_asked(recipe: Path) -> None:
    environ = {"HCS_NUCLEI_CHANNEL": "FromVariable", "HCS_NUCLEI_Z": "max"}
    options = {"channel": "FromOption", "z": None, "segmentation": {"diameter_px": None, "minimum_area_px": 5}}
    settings = load_settings(recipe, options, environ)

    assert (settings.channel, settings.z) == ("FromOption", "max")
    assert settings.segmentation == SegmentationSettings(diameter_px=20, minimum_area_px=5)


def test_the_processs_own_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCS_NUCLEI_PLATE_NAME", "P1")
    monkeypatch.setenv("HCS_NUCLEI_HOME", "/somewhere")
    monkeypatch.setenv("HCS_NUCLEI_ALLOW_PLAIN_TCP", "1")

    assert load_settings() == Settings(plate_name="P1")


def test_no_variable_of_ours_is_taken_for_a_setting() -> None:
    root = Path(__file__).resolve().parents[1]
    code = [
        path.read_text(encoding="utf-8") for name in ("hcs_nuclei", "flows") for path in (root / name).rglob("*.py")
    ]
    names = {name for text in code for name in re.findall(r'"(HCS_NUCLEI_[A-Z_]+[A-Z])"', text)}

    assert {"HCS_NUCLEI_HOME", "HCS_NUCLEI_METRICS_FILE"} <= set(names)
    names -= {"HCS_NUCLEI_MODEL", "HCS_NUCLEI_PATTERN"}  # settings, which commands without a recipe heed as well
    assert load_settings(environ=dict.fromkeys(names, "x")) == Settings()


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("HCS_NUCLEI_Z", "3", Settings(z=3)),
        ("HCS_NUCLEI_OUTPUT__IMAGE", "off", Settings(output=OutputSettings(image=False))),
        ("HCS_NUCLEI_CHANNEL", "405", Settings(channel="405")),
        ("HCS_NUCLEI_CHANNEL", "no", Settings(channel="no")),
        (
            "HCS_NUCLEI_PATTERN",
            "(?P<well>[A-P]\\d+)_(?P<channel>.)",
            Settings(pattern="(?P<well>[A-P]\\d+)_(?P<channel>.)"),
        ),
        ("HCS_NUCLEI_SEGMENTATION__DIAMETER_PX", "", Settings()),
        (
            "HCS_NUCLEI_SEGMENTATION",
            "{diameter_px: 9}",
            Settings(segmentation=SegmentationSettings(diameter_px=9)),
        ),
    ],
)
def test_a_variable_reads_as_the_same_words_in_a_recipe(variable: str, text: str, expected: Settings) -> None:
    assert load_settings(environ={variable: text}) == expected


def test_an_empty_recipe_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")

    assert load_settings(tmp_path / "empty.yaml", environ=NOTHING) == Settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chanel: DAPI", ["chanel: no such setting"]),
        ("segmentation: {diameter: 20}", ["segmentation.diameter: no such setting"]),
        ("segmentation: {diameter_px: 1}", ["segmentation.diameter_px: ", "greater than 2", "(found 1)"]),
        ("segmentation: {minimum_area_px: many}", ["segmentation.minimum_area_px: ", "(found 'many')"]),
        ("segmentation: 20", ["segmentation: ", "(found 20)"]),
        ("z: middle", ["z.", "'auto' or 'max'", "(found 'middle')"]),
        ("channel: 1\nz: []", ["channel: ", "z."]),
        ("output: {image: perhaps}", ["output.image: "]),
        ("plate_name: ''", ["plate_name: "]),
        ("1: 2", ["1: "]),
    ],
)
def test_a_wrong_recipe_is_refused_by_the_place_of_every_fault(tmp_path: Path, text: str, said: list[str]) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)

    with pytest.raises(SettingsError, match="The settings are not valid") as caught:
        load_settings(path, environ=NOTHING)
    assert [part for part in (*said, str(path)) if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"channel: [DAPI", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"- DAPI\n- FITC\n", "holds a list; expected names with values"),
        (b"DAPI", "holds a str; expected names with values"),
    ],
)
def test_what_is_no_recipe_is_refused_by_its_path(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)

    with pytest.raises(SettingsError, match=said) as caught:
        load_settings(path, environ=NOTHING)
    assert str(path) in str(caught.value)


def test_a_recipe_that_is_not_there_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml cannot be read: No such file"):
        load_settings(tmp_path / "none.yaml", environ=NOTHING)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"HCS_NUCLEI_CHANEL": "DAPI"}, "HCS_NUCLEI_CHANEL names no setting; expected .*CHANNEL"),
        ({"HCS_NUCLEI_": "DAPI"}, "names no setting"),
        ({"HCS_NUCLEI_SEGMENTATION__DIAMETER": "20"}, "segmentation.diameter: no such setting"),
        ({"HCS_NUCLEI_SEGMENTATION__DIAMETER_PX": "wide"}, "segmentation.diameter_px: .*found 'wide'"),
        ({"HCS_NUCLEI_Z": "[1"}, r"HCS_NUCLEI_Z is '\[1', which is no value"),
        (
            {"HCS_NUCLEI_SEGMENTATION": "20", "HCS_NUCLEI_SEGMENTATION__DIAMETER_PX": "20"},
            "HCS_NUCLEI_SEGMENTATION__DIAMETER_PX sets a part of segmentation",
        ),
        ({"HCS_NUCLEI_CHANNEL": "DAPI", "HCS_NUCLEI_CHANNEL__NAME": "DAPI"}, "HCS_NUCLEI_CHANNEL__NAME sets a part"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings(environ=environ)


def test_a_wrong_option_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"segmentation\.minimum_area_px"):
        load_settings(options={"segmentation": {"minimum_area_px": 0}}, environ=NOTHING)


TEXT = st.none() | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
ANY = st.builds(
    Settings,
    channel=TEXT,
    z=st.sampled_from(["auto", "max"]) | st.integers(0, 99),
    plate_name=TEXT,
    pattern=TEXT,
    segmentation=st.builds(
        SegmentationSettings,
        diameter_px=st.none() | st.floats(2, 500, exclude_min=True),
        minimum_area_px=st.integers(1, 10**6),
    ),
    measurement=st.builds(MeasurementSettings, features=st.lists(st.sampled_from(get_args(FeatureGroup))).map(tuple)),
    output=st.builds(OutputSettings, image=st.booleans()),
)


@given(ANY)
def test_settings_written_as_a_recipe_are_read_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, settings: Settings
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    path.write_text(settings.to_yaml(), encoding="utf-8")
    again = load_settings(path, environ=NOTHING)

    assert again == settings
    assert again.fingerprint() == settings.fingerprint()


CHANGES: list[dict[str, Any]] = [
    {"channel": "DAPI"},
    {"z": "max"},
    {"z": 1},
    {"pattern": "(?P<well>.*)"},
    {"pixel_size_um": 0.65},
    {"segmentation": {"diameter_px": 20}},
    {"segmentation": {"minimum_area_px": 21}},
    {"illumination": {"method": "off"}},
    {"measurement": {"features": ["texture"]}},
    {"output": {"image": False}},
]


def test_each_setting_that_changes_results_changes_the_fingerprint() -> None:
    changed = {Settings.model_validate(change).fingerprint() for change in [{}, *CHANGES]}

    assert len(changed) == len(CHANGES) + 1
    settings = set(Settings.model_fields) - NO_RESULT
    assert {name for change in CHANGES for name in change} == settings  # a new setting needs a line above


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"plate_name": "P1"},
        {"layout": "plates.csv"},
        {"barcodes": "screen.txt"},
        {"qc": {"robust_z": 4}},
        {"statistics": {"b_score": True}},
    ],
)
def test_names_the_model_and_what_is_applied_at_the_end_stand_elsewhere(change: dict[str, Any]) -> None:
    assert Settings.model_validate(change).fingerprint() == Settings().fingerprint()


def test_files_are_named_from_where_they_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    recipe = tmp_path / "recipes" / "assay.yaml"
    recipe.write_text("layout: layout.csv\nbarcodes: ../screen.txt\n")
    monkeypatch.chdir(tmp_path)

    settings = load_settings(Path("recipes/assay.yaml"), environ=NOTHING)
    assert (settings.layout, settings.barcodes) == (
        str(tmp_path / "recipes" / "layout.csv"),
        str(tmp_path / "screen.txt"),
    )
    assert load_settings(recipe, {"layout": "other.csv"}, NOTHING).layout == str(tmp_path / "other.csv")
    assert load_settings(environ={"HCS_NUCLEI_LAYOUT": "007.csv"}).layout == str(tmp_path / "007.csv")


@pytest.mark.parametrize("word", ["auto", "none"])
def test_the_words_for_a_layout_are_no_files(word: str) -> None:
    assert load_settings(options={"layout": word}, environ=NOTHING).layout == word


def test_20_and_20_0_are_the_same_diameter() -> None:
    whole, broken = (Settings.model_validate({"segmentation": {"diameter_px": d}}) for d in (20, 20.0))

    assert whole.fingerprint() == broken.fingerprint()


def test_another_process_gives_the_same_fingerprint() -> None:
    code = "from hcs_nuclei.settings import Settings; print(Settings(channel='Höchst', z=3).fingerprint())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == Settings(channel="Höchst", z=3).fingerprint()


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("segmentation: {diameter_px: 20}\nsegmentation: {minimum_area_px: 50}\n")
    with pytest.raises(SettingsError, match="'segmentation' stands there twice"):
        load_settings(tmp_path / "r.yaml", environ={})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("segmentation: {diameter_px: 1:30}", "segmentation.diameter_px"),
        ("segmentation: {minimum_area_px: yes}", "yes, no, on and off are neither"),
        ("z: on", "z: "),
        ("qc: {robust_z: .inf}", "qc.robust_z"),
        ("segmentation: {diameter_px: .nan}", "segmentation.diameter_px"),
    ],
)
def test_what_yaml_would_make_of_a_slip_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(SettingsError, match=re.escape(said)):
        load_settings(tmp_path / "r.yaml", environ={})


def test_numbers_are_decimal_and_dates_are_texts(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("plate_name: 2024-31-12\nsegmentation: {diameter_px: 010}\n")
    settings = load_settings(tmp_path / "r.yaml", environ={})
    assert (settings.plate_name, settings.segmentation.diameter_px) == ("2024-31-12", 10)
    environ = {"HCS_NUCLEI_SEGMENTATION__DIAMETER_PX": "2.5e1", "HCS_NUCLEI_MEASUREMENT__FEATURES": "texture,radial"}
    settings = load_settings(environ=environ)
    assert (settings.segmentation.diameter_px, settings.measurement.features) == (25, ("radial", "texture"))


@pytest.mark.parametrize("method", ["off", "estimate", "vendor"])
def test_another_way_with_the_light_wins_over_the_recipes_images(method: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("illumination: {method: file, flat_field: {DAPI: flat.tif}, dark: {DAPI: 100}}\n")
    settings = load_settings(tmp_path / "r.yaml", {"illumination": {"method": method}}, environ={})
    assert (settings.illumination.method, settings.illumination.flat_field, settings.illumination.dark) == (
        method,
        {},
        {},
    )


def test_a_variable_reaches_a_gate_whatever_its_letters(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("gates: {Positive: {feature: Nuclei_AreaShape_Area, above: 500}}\n")
    settings = load_settings(tmp_path / "r.yaml", environ={"HCS_NUCLEI_GATES__POSITIVE__ABOVE": "10"})
    assert [(name, gate.above) for name, gate in settings.gates.items()] == [("Positive", 10)]


def test_groups_may_share_what_they_have_in_common(tmp_path: Path) -> None:
    gates = "{A: &a {feature: Nuclei_AreaShape_Area, above: 500}, B: {<<: *a, above: 10}}"
    (tmp_path / "r.yaml").write_text(f"gates: {gates}\n")
    assert [gate.above for gate in load_settings(tmp_path / "r.yaml", environ={}).gates.values()] == [500, 10]


def test_a_group_in_other_letters_is_no_setting(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("segmentation: {diameter_px: 20}\nSegmentation: {diameter_px: 30}\n")
    with pytest.raises(SettingsError, match="Segmentation: no such setting"):
        load_settings(tmp_path / "r.yaml", environ={})
