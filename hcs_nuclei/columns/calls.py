"""What is said of fields, nuclei and wells when the plate is done: what counts, classes, gates."""

from __future__ import annotations

from collections.abc import Sequence

from hcs_nuclei.columns.column import Column

#: ``Metadata_Class_Nucleus``, and how a class ends a column of the well table.
NUCLEUS_CLASSES = {
    "interphase": "Interphase",
    "mitotic": "Mitotic",
    "apoptotic-like": "ApoptoticLike",
    "debris": "Debris",
}
#: ``Metadata_Class_DNA`` in order of content. What lies between 2N and 4N is not called S: that needs EdU or the like.
DNA_CLASSES = {"sub-G1": "DNA_SubG1", "2N": "DNA_2N", "2N-4N": "DNA_2N_4N", "4N": "DNA_4N", ">4N": "DNA_Over4N"}

_EXCLUDED = Column("Metadata_Excluded", "bool", "", "excluded by hand, the well or this field of it")

FIELD_CALLS = (
    _EXCLUDED,
    Column("Metadata_Exclusion_Reason", "string", "", "why it was excluded; empty where it was not"),
    Column("Metadata_Exclusion_Who", "string", "", "who excluded it; empty where nobody says"),
    Column("Metadata_Exclusion_When", "string", "", "when, in the words of the file; empty where nobody says"),
    Column("Metadata_Valid", "bool", "", "measured, not excluded, without a flag that --qc names: it counts"),
)

NUCLEUS_CALLS = (
    _EXCLUDED,
    Column(
        "Metadata_Counted",
        "bool",
        "",
        "its well counts it here: in the valid field that has the lower right corner of its bounding box, of fields "
        "that overlap in the one that shows most to its left and above; density is of these",
    ),
    Column("Metadata_Aggregated", "bool", "", "counted, whole and unflagged: wells' figures are of these"),
    Column("Metadata_Class_Nucleus", "string", "", f"{' | '.join(NUCLEUS_CLASSES)}; null: not called"),
    Column("Metadata_Class_DNA", "string", "", f"{' | '.join(DNA_CLASSES)}; null: not called"),
    Column("Metadata_DNAContent", "float64", "N", "DNA content; G1 of the negative controls is 2; null: not called"),
)


def nucleus_calls(gates: Sequence[str]) -> tuple[Column, ...]:
    """What ``read_nuclei`` adds to the nucleus table, for the names of the recipe's gates."""
    return (*NUCLEUS_CALLS, *(_gate(name) for name in gates))


def well_calls(gates: Sequence[str]) -> tuple[Column, ...]:
    """Numbers and fractions of the well table, for the names of the recipe's gates."""
    classes = [(f"Metadata_{kind}_{end}", f"called {name}") for name, end in NUCLEUS_CLASSES.items() for kind in _KINDS]
    classes += [(f"Metadata_{kind}_{end}", f"of DNA {name}") for name, end in DNA_CLASSES.items() for kind in _KINDS]
    classes += [(f"Metadata_{kind}_Gate_{name}", f"positive in gate {name}") for name in gates for kind in _KINDS]
    return tuple(
        Column(name, "int64", "", f"aggregated nuclei {what}; null: none is called")
        if name.startswith("Metadata_Count")
        else Column(name, "float64", "0-1", f"of the aggregated nuclei that could be called, those {what}")
        for name, what in classes
    )


_KINDS = ("Count", "Fraction")


def _gate(name: str) -> Column:
    return Column(f"Metadata_Gate_{name}", "bool", "", f"positive in the recipe's gate {name}; null: not known")
