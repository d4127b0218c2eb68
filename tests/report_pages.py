"""A report in, its elements, values and pictures out; and a record of a run for it to tell of."""

from __future__ import annotations

import base64
import io
import json
import zlib
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from hcs_nuclei.outputs.provenance import (
    Calibration,
    ChannelRecord,
    ModelRecord,
    RunRecord,
    Source,
)
from hcs_nuclei.plate import Plate
from hcs_nuclei.settings import Settings

VOID = {"meta", "link", "img", "input", "br", "hr"}


def record(plate: Plate, **other: Any) -> RunRecord:
    """A record of a run of that plate, as it stands on a 24-well plate."""
    settings = Settings(channel="</pre>")
    content: dict[str, Any] = {
        "algorithm_version": 7,
        "hcs_nuclei_version": "0.1.0",
        "versions": {"numpy": "2.4"},
        "plate": plate.name,
        "acquisition": plate.acquisition,
        "source": Source(
            directory="/plates/P1",
            vendor="imagexpress",
            reason="P1.HTD",
            expected_from="metadata",
            metadata_files=("P1.HTD",),
            wells_in_format=24,
            wells=6,
            fields=12,
            timepoints=1,
            pixel_size_um=0.5,
        ),
        "channels": tuple(
            ChannelRecord(token=c.token, name=c.name, column=c.column_name, nuclear=c.name == "FITC")
            for c in plate.channels
        ),
        "settings": settings,
        "settings_fingerprint": settings.fingerprint(),
        "model": ModelRecord(name="nuclei-1", identifier="abcdef012345", sha256="abcdef" * 10, architecture="unet"),
        "calibration": Calibration(diameter_px=20.5, diameter_from="estimate", saturation=4095),
        "warnings": ("Channel <Cy5> is not there.",),
        "started": "2026-01-02T03:04:05Z",
    }
    return RunRecord(**{**content, **other})


@dataclass
class Element:
    """An element of the page: tag, attributes, and the text in it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    inside: list[Element] = field(default_factory=list)


class Page(HTMLParser):
    """A page whose elements all end where they should; `every` holds them in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.every: list[Element] = []
        self._open: list[Element] = []
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {[e.tag for e in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        for outer in self._open:
            outer.inside.append(element)
        self.every.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop().tag == tag, f"</{tag}> at {self.getpos()} closes another element"

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def of_id(self, name: str) -> Element:
        (found,) = (e for e in self.every if e.attributes.get("id") == name)
        return found

    def of_class(self, name: str, tag: str = "") -> list[Element]:
        return [e for e in self.every if name in e.attributes.get("class", "").split() and tag in ("", e.tag)]

    def well(self, name: str) -> Element:
        """The well's place on the plate map."""
        (found,) = (e for e in self.of_class("well", "a") if e.attributes["data-open"] == name)
        return found

    def data(self) -> dict[str, Any]:
        """What the page's script is given."""
        found: dict[str, Any] = json.loads(self.of_id("data").text)
        return found

    def values(self) -> dict[str, npt.NDArray[np.float32]]:
        """By column of the well table its values [time point, well], as the page's script unpacks them."""
        data = self.data()
        planes = np.frombuffer(zlib.decompress(base64.b64decode(self.of_id("values").text)), np.uint8)
        shape = (len(data["columns"]), len(data["timepoints"]), len(data["wells"]))
        values = np.ascontiguousarray(planes.reshape(4, -1).T).view("<f4").reshape(shape)
        return {column["name"]: of_column for column, of_column in zip(data["columns"], values, strict=True)}

    def pictures(self, well: str, kind: str) -> list[npt.NDArray[np.uint8]]:
        """The well's pictures, ``image`` or ``outlines``, of each field the small one first: (y, x, 4)."""
        held = [e for e in self.every if e.attributes.get("id") == f"pictures-{well}"]
        fields = json.loads(held[0].text) if held else []
        sizes = [field[size] for field in fields for size in ("small", "large") if field[size]]
        return [picture_of(size[kind], "RGBA") for size in sizes]


def picture_of(content: str, mode: str = "L") -> npt.NDArray[np.uint8]:
    """A picture from its base64."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert(mode))
