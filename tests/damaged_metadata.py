"""Metadata with bytes changed at random, and what every reader owes to them."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from hcs_nuclei.errors import NotAPlateError
from hcs_nuclei.sources import inspection, open_plate, render_inspection


def change_bytes(path: Path, data: st.DataObject) -> None:
    """Change one to four bytes of the file at `path` to some that mean something in XML, or to none that do."""
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.sampled_from([*b'0123456789<>/"-. eETRUx', 0, 130, 255]))
    path.write_bytes(bytes(content))


def check_plate_or_reason(directory: Path) -> None:
    """`directory` opens as a plate that can be shown and has planes, or is refused in words."""
    try:
        plate = open_plate(directory)
    except NotAPlateError:
        return
    assert render_inspection(inspection(plate))
    assert plate.wells[0].fields[0].planes
