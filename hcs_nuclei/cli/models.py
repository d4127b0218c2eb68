"""``models``: those that can be used, how they differ, and which of them is the default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hcs_nuclei.cli.arguments import JsonOption, ReasonOption, ReportOption, check_json, write_json

ModelArgument = Annotated[str, typer.Argument(metavar="ID|DIR", help="Identifier, name or directory of a model.")]

models_app = typer.Typer(help="The models that can be used, and which is the default.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.add_typer(models_app, name="models")


@models_app.command("list")
def list_all(json_to: JsonOption = None) -> None:
    """The shipped model and those in the store; says which is the default."""
    from hcs_nuclei.errors import ModelError
    from hcs_nuclei.models.store import list_models, resolve_model

    check_json(json_to)
    fault: ModelError | None = None
    try:
        default = resolve_model()[1].sha256
    except ModelError as error:
        default, fault = "", error
    rows = [
        {"id": card.identifier, "name": card.name, "directory": str(place), "default": card.sha256 == default}
        for place, card in list_models()
    ]
    if json_to is not None:
        write_json(json_to, rows)
    if json_to != "-":
        for row in rows:
            typer.echo(f"{row['id']}  {row['name']}{'  (default)' if row['default'] else ''}")
    if fault is not None:
        raise fault


@models_app.command("show")
def show(model: ModelArgument = "default") -> None:
    """A model's card, as JSON."""
    from hcs_nuclei.models.store import resolve_model

    typer.echo(resolve_model(model)[1].model_dump_json(indent=2))


@models_app.command("diff")
def diff(first: ModelArgument, second: ModelArgument, json_to: JsonOption = None) -> None:
    """How two models' cards differ: network, thresholds, data and settings, figures."""
    from dataclasses import asdict

    from hcs_nuclei.models.difference import SECTIONS, card_differences
    from hcs_nuclei.models.store import resolve_model

    check_json(json_to)
    cards = [resolve_model(model)[1] for model in (first, second)]
    found = card_differences(cards[0], cards[1])
    if json_to is not None:
        models = [{"id": card.identifier, "name": card.name} for card in cards]
        write_json(json_to, {"models": models, "differences": [asdict(one) for one in found]})
    if json_to == "-":
        return
    typer.echo(" → ".join(f"{card.name} ({card.identifier})" for card in cards))
    if not found:
        typer.echo("no difference")
    for section in SECTIONS:
        of_section = [one for one in found if one.section == section]
        if of_section:
            typer.echo(f"\n{section}")
        width = max((len(one.name) for one in of_section), default=0)
        for one in of_section:
            typer.echo(f"  {one.name:{width}}  {_change(one.first, one.second)}")


@models_app.command("compare")
def compare(
    current: ModelArgument,
    candidate: ModelArgument,
    data: Annotated[
        list[Path], typer.Option(metavar="DATASET", help="Frozen sets: images that neither was trained on.")
    ],
    new: Annotated[
        list[Path] | None, typer.Option(metavar="DATASET", help="New annotations, of which the split was held back.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val, test ..., or all.")] = "test",
    modality: Annotated[str | None, typer.Option(help="Of the frozen sets; left out, all.")] = None,
    ap_loss: Annotated[float, typer.Option(min=0, help="Mean pooled AP may fall by so much on a frozen set.")] = 0.01,
    ap_gain: Annotated[float, typer.Option(help="It must rise by so much on new annotations.")] = 0.0,
    count_error_rise: Annotated[float, typer.Option(min=0, help="Mean count error may rise by this share.")] = 0.02,
    fewest_nuclei: Annotated[int, typer.Option(min=1, help="A set with fewer of them is no evidence.")] = 100,
    json_to: JsonOption = None,
    report_to: ReportOption = None,
) -> None:
    """Judge a candidate against the current model on the same images; the exit status is 2 where it is refused."""
    from hcs_nuclei.cli.progress import show_images
    from hcs_nuclei.models.store import resolve_model
    from hcs_nuclei.training.comparison import SetSource, compare_models, read_sets
    from hcs_nuclei.training.comparison_report import write_comparison
    from hcs_nuclei.training.gate import GateSettings
    from hcs_nuclei.training.report import check_report

    check_json(json_to)
    if report_to is not None:
        check_report(report_to)
    limits = {"ap_loss": ap_loss, "ap_gain": ap_gain, "count_error_rise": count_error_rise}
    gate = GateSettings(**limits, fewest_nuclei=fewest_nuclei)
    models = [resolve_model(model) for model in (current, candidate)]
    chosen = None if split == "all" else split
    sources = [SetSource(place, "frozen", chosen, modality) for place in data]
    sources += [SetSource(place, "new", chosen) for place in new or []]
    sets = read_sets([*sources, SetSource(None, "empty")])
    with show_images(2 * sum(len(one.images) for one in sets)) as done:
        comparison = compare_models(models[0], models[1], sets, gate=gate, done=done)
    if json_to != "-":
        typer.echo("\n".join(comparison.as_lines()))
    if json_to is not None:
        write_json(json_to, comparison.as_json())
    if report_to is not None:
        write_comparison(report_to, comparison)
    if not comparison.verdict.passed:
        raise typer.Exit(2)


@models_app.command("promote")
def promote(model: ModelArgument, reason: ReasonOption = "") -> None:
    """Make a model the default of runs that begin from now on; a directory is copied into the store first."""
    from hcs_nuclei.models.promotion import promote

    entry = promote(model, reason=reason)
    typer.echo(
        "It is the default already." if entry is None else f"The default was {entry.old}; now it is {entry.new}."
    )


@models_app.command("rollback")
def rollback(reason: ReasonOption = "") -> None:
    """Make the model the default again that was so before the last promotion."""
    from hcs_nuclei.models.promotion import rollback

    entry = rollback(reason=reason)
    typer.echo(f"The default was {entry.old}; now it is {entry.new}.")


def _change(first: Any, second: Any) -> str:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (first, second))
    change = f"  ({second - first:+,.4g})" if numbers else ""
    return f"{_words(first)} → {_words(second)}{change}"


def _words(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return "[" + ", ".join(map(_words, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
