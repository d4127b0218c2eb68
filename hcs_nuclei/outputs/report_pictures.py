"""A plate's store in, pictures of its fields with outlines of nuclei out, encoded so that an HTML file can hold them.

All pictures of a plate have one contrast and, per size, one magnification: what looks dimmer or smaller is. A picture
is a window of the field and not the whole of it, where the whole would make nuclei too small to judge their outlines.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from hcs_nuclei.outputs.ome_zarr import level_count
from hcs_nuclei.plate import parse_well, row_name

#: Wells that are looked at for the plate's contrast, evenly spaced.
_SAMPLE = 32
#: What is shown as white and black: percentiles of pixels inside and outside nuclei. Percentiles of all pixels would
#: make white of the noise on a plate of dead wells. Mitotic and dying nuclei, the brightest, may be cut off.
_WHITE_PERCENTILE, _BLACK_PERCENTILE = 95.0, 2.0
_QUALITIES = (80, 60, 35, 15)


@dataclass(frozen=True, slots=True)
class Size:
    """A size of pictures: edge in px, width in px that the plate's median nucleus has at least, and bytes at most."""

    edge: int
    nucleus: float
    bytes: int


SMALL = Size(edge=224, nucleus=9, bytes=7_000)
LARGE = Size(edge=512, nucleus=24, bytes=27_000)
#: Of a single nucleus: as wide at least in its picture, which is so many median nuclei wide.
_PORTRAIT_NUCLEUS, _PORTRAIT_WIDTH, _PORTRAIT_BYTES = 32, 2.2, 3_000
#: White of single nuclei: mitotic and dying ones are to show their texture, and those between divisions may be grey.
PORTRAIT_WHITE = 99.8


@dataclass(frozen=True, slots=True)
class Shot:
    """A field of a well at a time point (index on the store's t axis)."""

    well: str
    field: int
    timepoint: int


@dataclass(frozen=True, slots=True)
class Nucleus:
    """Its value in the label image and its centre in the field, in pixels."""

    label: int
    y: float
    x: float


@dataclass(frozen=True, slots=True)
class Picture:
    """One window of a field: image (WebP) and outlines (PNG) in base64, of the same `width` × `height` px.

    `reduction` is how many pixels of the camera make one of the picture, along an edge; `bar` is a scale bar as
    (length in px, label), None where the pixel size is unknown.
    """

    image: str
    outlines: str
    width: int
    height: int
    reduction: int
    bar: tuple[float, str] | None

    @property
    def characters(self) -> int:
        """What it takes of an HTML file."""
        return len(self.image) + len(self.outlines)


@dataclass(frozen=True, slots=True)
class Look:
    """How every field of a plate is looked at.

    `contrast` is what is shown as black and white in camera counts; `diameter_px` is the plate's median nucleus, None
    where it has none; `pixel_size_um` is None where unknown.
    """

    store: Path
    contrast: tuple[float, float]
    diameter_px: float | None
    pixel_size_um: float | None


def look_at(
    store: Path,
    shots: Sequence[Shot],
    diameter_px: float | None,
    pixel_size_um: float | None,
    white: float = _WHITE_PERCENTILE,
) -> Look:
    """One look for all of `shots`, which are in the store: their contrast is found on a sample of them.

    `white` is the percentile of nuclear pixels that is shown as white.
    """
    return Look(store, _contrast(store, shots, white), diameter_px, pixel_size_um)


def take_pictures(look: Look, shot: Shot, sizes: Sequence[Size]) -> list[Picture]:
    """The field in each of `sizes`; one field is in memory at a time."""
    centre = _centre(look.store, shot) if sizes else (0.5, 0.5)
    return [_picture(look, shot, size, centre) for size in sizes]


def take_portrait(look: Look, shot: Shot, nucleus: Nucleus) -> Picture:
    """One nucleus of the field in the middle of its picture, or beside it at the field's edge; it alone is outlined.

    All nuclei that are looked at in one way have the same magnification and window.
    """
    level = _level(level_count(look.store, shot.well, shot.field), _PORTRAIT_NUCLEUS, look.diameter_px)
    edge = round(portrait_width(look) / 2**level)
    height, width = _array(look.store, shot, 0, labels=True).shape[-2:]
    window = (((nucleus.y + 0.5) / height, (nucleus.x + 0.5) / width), edge)
    labels = _read(look.store, shot, level, labels=True, window=window)
    pixels = _read(look.store, shot, level, labels=False, window=window)
    return _encoded(look, pixels, outlines(labels) & (labels == nucleus.label), level, _PORTRAIT_BYTES)


def portrait_width(look: Look) -> int:
    """Edge of what the picture of a single nucleus shows, in pixels of the camera."""
    return max(round(_PORTRAIT_WIDTH * (look.diameter_px or 0)), _PORTRAIT_NUCLEUS)


def outlines(labels: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.bool_]:
    """Pixels of nuclei that have a 4-neighbour of another label, (y, x): touching nuclei stay two outlines.

    The edge of the window is no outline: nuclei go on behind it.
    """
    drawn = np.zeros(labels.shape, dtype=bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    drawn[1:] |= down
    drawn[:-1] |= down
    drawn[:, 1:] |= right
    drawn[:, :-1] |= right
    return drawn & (labels > 0)


def in_store(store: Path, shot: Shot) -> bool:
    """Whether the store holds the field."""
    try:
        return level_count(store, shot.well, shot.field) > 0
    except FileNotFoundError:
        return False


def _picture(look: Look, shot: Shot, size: Size, centre: tuple[float, float]) -> Picture:
    level = _level(level_count(look.store, shot.well, shot.field), size.nucleus, look.diameter_px)
    pixels = _read(look.store, shot, level, labels=False, window=(centre, size.edge))
    labels = _read(look.store, shot, level, labels=True, window=(centre, size.edge))
    return _encoded(look, pixels, outlines(labels), level, size.bytes)


def _encoded(look: Look, pixels: npt.NDArray[Any], drawn: npt.NDArray[np.bool_], level: int, most: int) -> Picture:
    """Camera counts as they are looked at, in `most` bytes, and what is drawn over them."""
    black, white = look.contrast
    shown = np.clip((pixels.astype(np.float32) - black) * (255 / (white - black)), 0, 255)
    height, width = drawn.shape
    reduction = 2**level
    return Picture(
        image=_base64(_webp(np.rint(shown).astype(np.uint8), most)),
        outlines=_base64(_png(drawn)),
        width=width,
        height=height,
        reduction=reduction,
        bar=None if look.pixel_size_um is None else _scale_bar(width, look.pixel_size_um * reduction),
    )


def _level(levels: int, nucleus: float, diameter_px: float | None) -> int:
    """The smallest image in which the plate's median nucleus is `nucleus` px wide; the first without a nucleus."""
    if diameter_px is None:
        return 0
    wanted = math.floor(math.log2(max(diameter_px / nucleus, 1)))
    return min(wanted, levels - 1)


def _contrast(store: Path, shots: Sequence[Shot], white_percentile: float) -> tuple[float, float]:
    """(black, white) in camera counts, from the smallest images of a sample of wells."""
    chosen = sorted({round(i) for i in np.linspace(0, len(shots) - 1, min(len(shots), _SAMPLE))}) if shots else []
    inside, outside = [np.zeros(0)], [np.zeros(0)]
    for shot in (shots[i] for i in chosen):
        level = level_count(store, shot.well, shot.field) - 1
        pixels, nuclei = _read(store, shot, level, labels=False), _read(store, shot, level, labels=True) > 0
        inside.append(pixels[nuclei])
        outside.append(pixels[~nuclei])
    nuclear, background = np.concatenate(inside), np.concatenate(outside)
    everything = np.concatenate([nuclear, background])
    if not everything.size:
        return 0.0, 1.0
    black = float(np.percentile(background if background.size else everything, _BLACK_PERCENTILE))
    white = float(np.percentile(nuclear, white_percentile) if nuclear.size else everything.max())
    return black, max(white, black + 1)


def _centre(store: Path, shot: Shot) -> tuple[float, float]:
    """Centre (y, x) of the well's windows as shares of height and width: the field's own, or a nucleus near it.

    A field with few nuclei would else be shown by a window without any, which looks like a wrong count.
    """
    labels = _read(store, shot, level_count(store, shot.well, shot.field) - 1, labels=True)
    height, width = labels.shape
    rows, columns = np.nonzero(labels)
    if not rows.size:
        return 0.5, 0.5
    y, x = (rows + 0.5) / height, (columns + 0.5) / width
    distance = np.maximum(np.abs(y - 0.5), np.abs(x - 0.5))
    # A tenth of the field around its centre is in every window but those of very large fields.
    if distance.min() <= 0.1:
        return 0.5, 0.5
    nearest = int(np.argmin(distance))
    return float(y[nearest]), float(x[nearest])


def _read(
    store: Path,
    shot: Shot,
    level: int,
    *,
    labels: bool,
    window: tuple[tuple[float, float], int] | None = None,
) -> npt.NDArray[Any]:
    """(y, x) of a level at the shot's time point: the whole, or the `edge` px around `centre` that the image has."""
    array = _array(store, shot, level, labels=labels)
    # Axes are (t)cyx and (t)yx. One time point is read: a movie of large fields does not fit into memory.
    times = array.ndim == (3 if labels else 4)
    index: list[Any] = [shot.timepoint] * times + [0] * (not labels)
    centre, edge = window or ((0.5, 0.5), max(array.shape))
    index += [_span(size, share, edge) for size, share in zip(array.shape[-2:], centre, strict=True)]
    return np.asarray(array[tuple(index)])


def _array(store: Path, shot: Shot, level: int, *, labels: bool) -> Any:
    import zarr

    row, column = parse_well(shot.well)
    group = store / row_name(row) / f"{column:02d}" / str(shot.field)
    return zarr.open_array((group / "labels" / "nuclei" if labels else group) / str(level), mode="r")


def _span(size: int, share: float, edge: int) -> slice:
    start = min(max(round(share * size - edge / 2), 0), max(size - edge, 0))
    return slice(start, min(start + edge, size))


def _scale_bar(width: int, pixel_um: float) -> tuple[float, str]:
    """The longest of 1, 2, 5 × 10ⁿ µm that takes at most a third of the picture."""
    most = width * pixel_um / 3
    power = 10.0 ** math.floor(math.log10(most))
    length = next(power * factor for factor in (5, 2, 1) if power * factor <= most * 1.001)
    return length / pixel_um, f"{length:g} µm"


def _webp(grey: npt.NDArray[np.uint8], most: int) -> bytes:
    """The image in at most `most` bytes: at the best quality that fits, with half as many pixels where none does.

    Noise, of which there is much on a plate without nuclei, takes ten times the bytes of nuclei and shows nothing.
    """
    image = Image.fromarray(grey)
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", quality=quality, method=2)
            if buffer.tell() <= most:
                return buffer.getvalue()
        image = image.reduce(2)


def _png(mask: npt.NDArray[np.bool_]) -> bytes:
    """A mask as one bit a pixel: clear, or the colour of outlines (amber, light on tissue and on black)."""
    height, width = mask.shape
    image = Image.frombytes("P", (width, height), mask.tobytes())
    image.putpalette([0, 0, 0, 255, 176, 0])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=1, transparency=0)
    return buffer.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
