"""The report of a model: its numbers are the evaluation's, its outlines the label images', its layers the network's."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from segmentation_samples import crowded_scene, disks

from hcs_nuclei.cli import main
from hcs_nuclei.errors import OutputError
from hcs_nuclei.models.card import ModelCard, Weights, write_card, write_weights
from hcs_nuclei.segmentation.instances import InstanceSettings
from hcs_nuclei.segmentation.network import ARCHITECTURES, unet
from hcs_nuclei.segmentation.predict import Segmentation
from hcs_nuclei.training.annotations import AnnotatedImage
from hcs_nuclei.training.evaluation import Evaluation, evaluate
from hcs_nuclei.training.matching import THRESHOLDS
from hcs_nuclei.training.report import check_report, write_report

NAME = "<b>M&1"
CARD = ModelCard(
    name=NAME,
    description="tiny trained on 2 <i>images</i>",
    architecture="tiny",
    weights=Weights(file="weights.safetensors", sha256="ab" * 32, size_bytes=1_250_000),
    training_diameter_px=21.5,
    instances=InstanceSettings(seed=0.35),
    flops_per_pixel=45_678.0,
    parameters=4321,
    training={"images": 2, "data_sha256": "cd" * 32, "settings": {"epochs": 2, "precision": "float32"}, "parent": None},
)
HISTORY = [
    {"epoch": 1, "loss": 2.0, "nucleus_accuracy": 0.8, "val_loss": 3.0, "val_nucleus_accuracy": 0.7},
    {"epoch": 2, "loss": 1.0, "nucleus_accuracy": 0.9, "val_loss": 2.5, "val_nucleus_accuracy": 0.85},
]
VOID = {"meta", "link", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """A page whose elements all end where they should: attributes by tag, text by id, rows of tables by id."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, str] = {}
        self.rows: dict[str, list[list[str]]] = {}
        self.words = ""
        self._open: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        assert len(attributes) == len(attrs), f"<{tag}> has an attribute twice"
        self.tags.append((tag, attributes))
        table = next((name for kind, name in self._open if kind == "table"), "")
        if tag == "tr":
            self.rows.setdefault(table, []).append([])
        if tag in ("td", "th"):
            self.rows[table][-1].append("")
        if tag not in VOID:
            self._open.append((tag, attributes.get("id", "")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop()[0] == tag, f"</{tag}> at {self.getpos()} closes another element"

    def handle_data(self, data: str) -> None:
        self.words += data
        for _, name in self._open:
            if name:
                self.text[name] = self.text.get(name, "") + data
        if self._open and self._open[-1][0] in ("td", "th"):
            table = next(name for kind, name in self._open if kind == "table")
            self.rows[table][-1][-1] += data

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for kind, attributes in self.tags if kind == tag]


def _pairs(images: int) -> list[AnnotatedImage]:
    scenes = [crowded_scene(np.random.default_rng(seed), (96, 128), (5, 9), 12) for seed in range(images)]
    names = [f"<script>{i}" for i in range(images)]
    modalities = ["fluorescence", "histology"] * images
    return [
        AnnotatedImage(name, (labels > 0) * 900 + 100, labels, "val", modality)
        for name, labels, modality in zip(names, scenes, modalities, strict=False)
    ]


def _evaluate(pairs: list[AnnotatedImage]) -> Evaluation:
    """A model that misses more nuclei from image to image, and is the surer the lower a nucleus lies."""
    answers = iter(range(len(pairs)))
    truths = {id(pair.image): pair.labels for pair in pairs}

    def segment(image: npt.NDArray[Any]) -> Segmentation:
        labels = truths[id(image)]
        kept = np.unique(labels)[1 : 12 - next(answers)]
        found = np.searchsorted(kept, labels, side="left") + 1
        found = np.where(np.isin(labels, kept), found, 0).astype(np.uint32)
        return Segmentation(found, np.linspace(0.31, 0.99, kept.size).astype(np.float32))

    return evaluate(pairs, segment)


@cache
def _network() -> Any:
    return unet((4, 8, 12), 4)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return _evaluate(_pairs(8))


@pytest.fixture(scope="module")
def report(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    data = {"Split": "val", "SHA-256": "ef" * 32}
    write_report(path, CARD, evaluation, network=_network(), data=data, seconds_per_field=1.234, history=HISTORY)
    return path


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page(report.read_text(encoding="utf-8"))


def test_no_request_leaves_the_page_and_nothing_runs_in_it(report: Path, page: Page) -> None:
    addresses = [a[name] for _, a in page.tags for name in ("src", "href", "srcset", "data") if name in a]
    assert len(addresses) > 16
    assert all(address.startswith(("data:image/png;base64,", "data:,")) for address in addresses)
    assert not re.search(r"https?://|@import|url\((?!#)", report.read_text(encoding="utf-8"))
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "object", "embed", "base", "form"}
    # The policy forbids them, so they would do nothing.
    assert not [name for _, a in page.tags for name in a if name == "style" or name.startswith("on")]
    (policy,) = (a for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_totals_and_tables_are_the_figures_of_the_evaluation(page: Page, evaluation: Evaluation) -> None:
    figures = evaluation.figures
    assert page.text["ap-50"] == f"{figures['pooled_ap']['0.50']:.3f}"
    assert page.text["ap-mean"] == f"{figures['pooled_ap_mean']:.3f}"
    assert page.text["kaggle"] == f"{figures['kaggle_map']:.3f}"
    assert page.text["ece"] == f"{figures['confidence']['ece']:.3f}"
    assert (page.text["flops"], page.text["weights"], page.text["seconds"]) == ("45.7 kFLOP/px", "1.25 MB", "1.23 s")
    rows = page.rows["ap"][1:]
    keys = ("pooled_ap", "per_image_ap", "f1")
    expected = [[t, *(f"{figures[key][t]:.3f}" for key in keys)] for t in (f"{t:.2f}" for t in THRESHOLDS)]
    assert rows[:-1] == expected
    means = [float(np.mean(list(figures[key].values()))) for key in keys]
    assert rows[-1] == ["mean", *(f"{mean:.3f}" for mean in means)]
    assert [row[0] for row in page.rows["modalities"]] == ["modality", "all", "fluorescence", "histology"]
    assert page.rows["modalities"][3][1:4] == [
        str(figures["modalities"]["histology"][key]) for key in ("images", "nuclei", "predicted")
    ]
    assert [row[0] for row in page.rows["images"][1:]] == [image.name for image in evaluation.images]


def test_pixels_are_reported_by_class_as_scikit_learn_does(page: Page, evaluation: Evaluation) -> None:
    pixels = evaluation.figures["pixels"]
    rows = {row[0]: row[1:] for row in page.rows["pixels"]}
    assert list(rows) == ["class", "nucleus", "background", "mean of both", "accuracy"]
    for name, suffix in (("nucleus", ""), ("background", "_background")):
        values = [f"{pixels[key + suffix]:.3f}" for key in ("precision", "recall", "f1", "iou")]
        assert rows[name] == [*values, f"{pixels['support_' + name]:,}"]
    assert rows["mean of both"][0] == f"{(pixels['precision'] + pixels['precision_background']) / 2:.3f}"
    assert rows["accuracy"] == ["", "", f"{pixels['accuracy']:.3f}", "", f"{8 * 96 * 128:,}"]


def test_what_was_trained_on_what_stands_in_it(page: Page) -> None:
    for words in (NAME, CARD.description, "ab" * 32, "cd" * 32, "ef" * 32, "precision: float32", "21.5 px", "numpy 2"):
        assert words in page.words, words
    assert "Parent" in page.words
    assert "seed: 0.35" in page.words
    assert "Training of a nucleus model" in page.words


def test_a_report_without_epochs_is_one_of_an_evaluation(tmp_path: Path) -> None:
    (pair,) = pairs = _pairs(1)
    evaluation = evaluate(pairs, lambda image: Segmentation(np.zeros(image.shape, np.uint32), np.zeros(0, np.float32)))
    write_report(tmp_path / "e.html", CARD, evaluation, network=_network(), data={}, seconds_per_field=0.5)
    page = Page((tmp_path / "e.html").read_text(encoding="utf-8"))

    assert "Evaluation of a nucleus model" in page.words
    assert "Last epoch" not in page.words
    assert (page.text["ap-50"], page.text["ece"]) == ("0.000", "–")
    assert "modalities" not in page.rows
    assert len(page.of("img")) == 2
    assert pair.name in [image["alt"] for image in page.of("img")]


def test_pictures_are_the_worst_and_the_best_with_their_figures(page: Page, evaluation: Evaluation) -> None:
    shown = [*evaluation.worst, *evaluation.best]
    assert len(shown) == 8
    bases = [image for image in page.of("img") if image["class"] == "base"]
    assert [image["alt"] for image in bases] == [one.figures.name for one in shown]
    first = evaluation.worst[0].figures
    assert f"AP {first.ap_50:.3f} at 0.50, {first.ap_mean:.3f} mean · {first.nuclei} nuclei, " in page.words
    assert {(image["width"], image["height"]) for image in bases} == {("128", "96")}


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(tmp_path: Path) -> None:
    check_report(tmp_path / "report.html")
    for path in (tmp_path, tmp_path / "absent" / "report.html"):
        with pytest.raises(OutputError, match="cannot be written"):
            check_report(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with an untrained network of the architecture "small"."""
    directory = tmp_path_factory.mktemp("model")
    weights = write_weights(unet((4, 8), 4), directory / "weights.safetensors")
    write_card(directory, CARD.model_copy(update={"architecture": "small", "weights": weights}))
    return directory


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two annotated images of two modalities as a data set."""
    root = tmp_path_factory.mktemp("annotated")
    rows = ["name,split,modality"]
    for name, modality in (("a", "fluorescence"), ("b", "histology")):
        for part, dtype in (("images", np.uint16), ("labels", np.uint16)):
            (root / part).mkdir(exist_ok=True)
            labels = disks((64, 64), [(20, 20, 8), (44, 40, 9)])
            tifffile.imwrite(root / part / f"{name}.tif", labels.astype(dtype) * (100 if part == "images" else 1))
        rows.append(f"{name},test,{modality}")
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    return root


def test_evaluate_says_and_reports_what_each_modality_reaches(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(ARCHITECTURES, "small", lambda *, folded=False: unet((4, 8), 4, folded=folded))
    report, answer = tmp_path / "r.html", tmp_path / "figures.json"
    arguments = ["--data", str(folder), "--model", str(model), "--report", str(report), "--json", str(answer)]
    assert main(["evaluate", *arguments]) == 0
    said = capsys.readouterr()

    figures = json.loads(answer.read_text())
    assert [row["name"] for row in figures["per_image"]] == ["a", "b"]
    assert said.err == ""
    blocks = said.out.split("\n\n")
    assert [block.partition(" annotated")[0] for block in blocks] == [
        "2 images, 4",
        "fluorescence: 1 images, 2",
        "histology: 1 images, 2",
    ]
    assert f"IoU {figures['modalities']['histology']['pixels']['iou']:.3f}" in blocks[2]
    page = Page(report.read_text(encoding="utf-8"))
    assert page.text["ap-50"] == f"{figures['pooled_ap']['0.50']:.3f}"
    assert float(page.text["seconds"].removesuffix(" s")) > 0
    assert f"Evaluated on data set {folder.name}, split test" in " ".join(page.words.split())


def test_evaluate_refuses_a_report_that_it_could_not_write(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(folder), "--model", str(model), "--report", str(tmp_path / "absent" / "r.html")]
    assert main(["evaluate", *arguments]) == 2
    said = capsys.readouterr()
    assert "r.html cannot be written" in said.err
    assert said.out == ""


@pytest.mark.browser
def test_page_is_shown_by_a_browser_under_its_own_policy(report: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    command = [
        chromium,
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"),
        *("--enable-logging=stderr", "--dump-dom"),
        report.as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    # What the policy refuses is said there: the style's hash is right.
    assert not re.findall(r"CONSOLE.*", shown.stderr)
    assert Page(shown.stdout.strip()).text["ap-50"] == Page(report.read_text(encoding="utf-8")).text["ap-50"]
