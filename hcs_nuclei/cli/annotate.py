"""``annotate``: fields of finished runs out to annotators, and their corrections back into a data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

annotate_app = typer.Typer(help="Fields for annotators, and their corrections back.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.add_typer(annotate_app, name="annotate")


@annotate_app.command("export")
def export(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR", help="Finished runs, or directories of runs.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the folder for annotators is made.")],
    fields: Annotated[int, typer.Option(min=1, help="How many fields.")] = 24,
) -> None:
    """Choose the fields worth annotating, and write images and label images to correct; one line a field on stdout."""
    from hcs_nuclei.training.annotation_export import export_fields

    for one in export_fields(runs, out, number=fields):
        row = one.candidate.row
        place = f"{one.candidate.run.name} {row['Metadata_Well']} f{row['Metadata_Field']} t{row['Metadata_Timepoint']}"
        typer.echo(f"{place}  {one.reason}")
    print(f"{out / 'README.txt'} says how to correct them.", file=sys.stderr)


@annotate_app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What annotators have handed back.")],
    into: Annotated[Path, typer.Option(metavar="DATASET", help="The data set they go into; made if it is not there.")],
    split: Annotated[str, typer.Option(help="train, val, test ..., or auto: by well, three fifths to train.")] = "auto",
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of other labels that it has of the same image.")
    ] = False,
) -> None:
    """Check corrected label images, and take them into a data set; nothing is taken while anything is wrong."""
    from hcs_nuclei.training.annotation_import import import_corrections

    done = import_corrections(folder, into, split=split, replace=replace)
    for remark in done.remarks:
        print(f"hcs-nuclei: {remark}", file=sys.stderr)
    typer.echo(
        f"{into}: {len(done.changed)} corrected and {len(done.confirmed)} confirmed label images taken, "
        f"{len(done.kept)} were there already"
    )
