"""``segment`` and ``evaluate``: single images, and how well a model does on annotated ones."""

from __future__ import annotations

import csv
import io
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hcs_nuclei.cli.arguments import JsonOption, ReportOption, check_json, write_json
from hcs_nuclei.errors import OutputError, PlaneError, RunFailedError, listed
from hcs_nuclei.files import replace_file

if TYPE_CHECKING:
    from hcs_nuclei.segmentation.predict import Segmentation, Segmenter

SkipFaultyOption = Annotated[
    bool, typer.Option("--skip-faulty", help="Go on without images that cannot be used; each is named.")
]
#: By which a label image is known to be one of ours.
_SOFTWARE = "hcs-nuclei segment"
ModelOption = Annotated[
    str,
    typer.Option(metavar="ID|DIR", envvar="HCS_NUCLEI_MODEL", help="Identifier, name or directory of a model."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(segment)
    app.command()(evaluate)


def segment(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="TIFF or PNG images.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where <stem>.tif label images are written.")],
    model: ModelOption = "default",
    diameter: Annotated[
        float | None, typer.Option(min=2, help="Median nucleus diameter, px; left out, estimated on each image.")
    ] = None,
    page: Annotated[
        int | None, typer.Option(min=1, help="Of files with several pages (channels, planes), which, from 1.")
    ] = None,
    nuclei: Annotated[
        Literal["bright", "dark"] | None,
        typer.Option(help="Whether nuclei are brighter or darker than around them; left out, told by the light."),
    ] = None,
) -> None:
    """Write a uint32 label image for each image; one CSV row an image on stdout."""
    from hcs_nuclei.cli.progress import show_images
    from hcs_nuclei.models.loading import load_model

    stems = [image.stem for image in images]
    double = sorted({stem for stem in stems if stems.count(stem) > 1})
    if double:
        raise OutputError(f"Several images are named {', '.join(double)}: their label images would share a file.")
    own = [image for image in images if (out / f"{image.stem}.tif").resolve() == image.resolve()]
    if own:
        raise OutputError(f"The label image of {own[0]} would take its place. Choose another --out.")
    others = [target for stem in stems if (target := out / f"{stem}.tif").exists() and not _is_ours(target)]
    if others:
        raise OutputError(
            f"{listed(others)}: there already, and not written by hcs-nuclei segment. Choose another --out, or remove "
            "what is to be replaced."
        )
    segmenter = load_model(model)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The output {out} cannot be made: {error.strerror}. Choose another --out.") from None
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["image", "labels", "height", "width", "nuclei", "diameter_px", "mean_confidence", "error"])
    failed = False
    with ExitStack() as stack:
        # On a terminal the rows themselves say how far it is.
        show = (lambda _: None) if sys.stdout.isatty() else stack.enter_context(show_images(len(images)))
        for done, image in enumerate(images, start=1):
            row = _segmented(image, out / f"{image.stem}.tif", segmenter, diameter, page, nuclei)
            failed |= bool(row[-1])
            rows.writerow(row)
            sys.stdout.flush()
            show(done)
    if failed:
        raise typer.Exit(3)


def evaluate(
    data: Annotated[Path, typer.Option(metavar="DATASET", help="DSB2018 folder or zip, or images/ and labels/.")],
    split: Annotated[str, typer.Option(help="train, val, test ..., or all.")] = "test",
    modality: Annotated[str | None, typer.Option(help="fluorescence, histology, brightfield; left out, all.")] = None,
    model: ModelOption = "default",
    skip_faulty: SkipFaultyOption = False,
    json_to: JsonOption = None,
    report_to: ReportOption = None,
) -> None:
    """Segment annotated images and compare: AP, Kaggle's score, counts, merges and splits, pixels, confidence."""
    from dataclasses import asdict
    from functools import partial

    from hcs_nuclei.cli.progress import show_images
    from hcs_nuclei.models.loading import load_segmenter
    from hcs_nuclei.models.store import resolve_model
    from hcs_nuclei.segmentation.diameter import segment_any_size
    from hcs_nuclei.segmentation.network import build_network
    from hcs_nuclei.training.annotations import data_hash, read_annotations
    from hcs_nuclei.training.evaluation import evaluate as evaluate_images
    from hcs_nuclei.training.evaluation import field_seconds
    from hcs_nuclei.training.report import check_report, write_report

    check_json(json_to)
    if report_to is not None:
        check_report(report_to)
    annotated = read_annotations(
        data, split=None if split == "all" else split, modality=modality, skip_faulty=skip_faulty
    )
    directory, card = resolve_model(model)
    segmenter = load_segmenter(directory, card.sha256)
    with show_images(len(annotated)) as done:
        evaluation = evaluate_images(annotated, partial(segment_any_size, segmenter), done=done)
    if report_to is not None:
        chosen = {"Split": split, "Modality": modality}
        write_report(
            report_to,
            card,
            evaluation,
            network=build_network(card.architecture),
            data={"Data set": data.name, **{name: words for name, words in chosen.items() if words is not None}}
            | {"SHA-256": data_hash(annotated)},
            seconds_per_field=field_seconds(segmenter, annotated[0].image),
        )
    if json_to is not None:
        write_json(json_to, {**evaluation.figures, "per_image": [asdict(figures) for figures in evaluation.images]})
    if json_to != "-":
        typer.echo(figures_text(evaluation.figures))


def _segmented(
    image: Path, target: Path, segmenter: Segmenter, diameter: float | None, page: int | None, nuclei: Any
) -> list[object]:
    """Write the label image of one image; returns its row, whose last cell says what is wrong with the image."""
    import numpy as np
    import tifffile

    from hcs_nuclei.segmentation.diameter import estimate_diameter
    from hcs_nuclei.segmentation.normalise import to_grey

    try:
        pixels = to_grey(_read(image, page), nuclei=nuclei)
    except (PlaneError, ValueError) as error:
        print(f"hcs-nuclei: {image}: {error}", file=sys.stderr)
        return [image, "", "", "", "", "", "", str(error)]
    used = diameter or estimate_diameter(segmenter, [pixels])
    result = segmenter(pixels, diameter_px=used)
    if diameter is None:
        result = _without_dust(image, result)
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, result.labels, compression="zlib", software=_SOFTWARE)
    try:
        replace_file(target, tiff.getvalue())
    except OSError as error:
        raise RunFailedError(f"The label image {target} cannot be written: {error.strerror}.") from None
    count = result.confidence.size
    mean = f"{float(np.mean(result.confidence)):.3f}" if count else ""
    return [image, target, *pixels.shape, count, used or "", mean, ""]


def _read(path: Path, page: int | None) -> Any:
    from hcs_nuclei.sources import decode_image

    if path.is_dir():
        raise PlaneError("is a directory; expected a TIFF or PNG image. For a plate there is hcs-nuclei process.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PlaneError(f"cannot be read: {error.strerror}.", fault="missing") from None
    return decode_image(data, path.name, page=page)


def _without_dust(image: Path, found: Segmentation) -> Segmentation:
    from hcs_nuclei.segmentation.diameter import median_diameter, without_dust

    nuclei = without_dust(found)
    if dropped := found.confidence.size - nuclei.confidence.size:
        size, _ = median_diameter(found.labels)
        print(
            f"hcs-nuclei: {image}: all that is there are {dropped} specks of {size:.1f} px, taken for dust and left "
            f"out. If they are nuclei, say so with --diameter {size:.0f}.",
            file=sys.stderr,
        )
    return nuclei


def _is_ours(path: Path) -> bool:
    """Whether a former call wrote this label image, so that it may be written again."""
    from hcs_nuclei.sources.tiff import opened_tiff

    try:
        with opened_tiff(path) as tiff:
            return str(tiff.pages.first.software).startswith(_SOFTWARE)
    except Exception:  # whatever it is, it is not ours
        return False


def figures_text(figures: dict[str, Any]) -> str:
    """The figures of all images, then a block for each modality where there are several."""
    pooled, pixels, ece = figures["pooled_ap"], figures["pixels"], figures["confidence"]["ece"]
    lines = [
        f"{figures['images']} images, {figures['nuclei']:,} annotated nuclei, {figures['predicted']:,} found",
        "pooled AP    "
        + "  ".join(f"{t} {pooled[t]:.3f}" for t in ("0.50", "0.70", "0.80", "0.90"))
        + f"  mean {figures['pooled_ap_mean']:.3f}",
        f"per-image AP 0.50 {figures['per_image_ap_50']:.3f}   F1 0.70 {figures['f1_70']:.3f}   "
        f"Kaggle mAP {figures['kaggle_map']:.3f}   count error {100 * figures['count_error']:.1f} %   "
        f"merges {figures['merges']}, splits {figures['splits']}",
        f"pixels       accuracy {pixels['accuracy']:.3f}  precision {pixels['precision']:.3f}  "
        f"recall {pixels['recall']:.3f}  F1 {pixels['f1']:.3f}  IoU {pixels['iou']:.3f}  "
        f"(support: nucleus {pixels['support_nucleus']:,}, background {pixels['support_background']:,})",
        "confidence   " + ("nothing found" if ece is None else f"expected calibration error {ece:.3f}"),
    ]
    for name, of_modality in figures.get("modalities", {}).items():
        lines += ["", f"{name}: {figures_text(of_modality)}"]
    return "\n".join(lines)
