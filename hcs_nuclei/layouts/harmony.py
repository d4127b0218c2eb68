"""Harmony's ``Assaylayout/*.xml`` in, what it says of the wells out: a layer is a column."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from xml.etree.ElementTree import Element

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from hcs_nuclei.errors import LayoutError
from hcs_nuclei.layouts.layout import Entry, RawLayout
from hcs_nuclei.layouts.wells import read_column, read_row

#: A plate of 1536 wells with ten layers has 3 MB.
_MAX_BYTES = 100_000_000


def read_assay_layout(path: Path) -> tuple[RawLayout, dict[str, str]]:
    """What the layers of an assay layout say, and the unit of each layer that states one.

    Raises:
        LayoutError: the file cannot be read, is no assay layout, or is damaged.
    """
    root = _root(path)
    names: list[str] = []
    faults: list[str] = []
    entries: list[Entry] = []
    units: dict[str, str] = {}
    for layer in root:
        if _local(layer) != "Layer":
            continue
        texts = {_local(child): (child.text or "").strip() for child in layer}
        name = texts.get("Name") or f"Layer {len(names) + 1}"
        if name in names:
            faults.append(f"several layers are called {name!r}")
            continue
        names.append(name)
        if texts.get("Unit"):
            units[name] = texts["Unit"]
        for well in layer:
            cells = {_local(child): (child.text or "").strip() for child in well}
            if _local(well) != "Well" or not cells.get("Value"):
                continue
            try:
                position = read_row(cells.get("Row", "")), read_column(cells.get("Col", ""))
            except ValueError as error:
                faults.append(f"layer {name}: {error}")
                continue
            entries.append(Entry(f"layer {name}", position, {name: cells["Value"]}))
    return RawLayout(tuple(names), tuple(entries), tuple(faults)), units


def _root(path: Path) -> Element:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise LayoutError(f"The layout {path} has more than {_MAX_BYTES:,} bytes; it is not read.")
        root: Element = defusedxml.ElementTree.parse(path, forbid_dtd=True).getroot()
    except DefusedXmlException:
        raise LayoutError(f"{path} declares a document type or entities; it is not read.") from None
    except OSError as error:
        if isinstance(error, LayoutError):
            raise
        raise LayoutError(f"The layout {path} cannot be read: {error.strerror}.") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise LayoutError(f"The layout {path} is not complete XML ({error}).") from None
    if _local(root) != "AssayLayout":
        raise LayoutError(f"{path} holds {_local(root)}; expected Harmony's AssayLayout, or a CSV, TSV or XLSX file.")
    return root


def _local(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]
