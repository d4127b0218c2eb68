"""A Harmony index in, the flat-field polynomials that the instrument's software found for each channel out.

Up to V5 an ``Entry`` of ``Maps/Map`` holds the profile as one text in Acapella's notation::

    {Background: {…, Mean: 373.7, …, Profile: {Coefficients: [[1.13], [-0.02, 0.03], …], Dims: [1080, 1080],
     Origin: [539.5, 539.5], Scale: [0.000926, 0.000926], Type: Polynomial}, …}, …, Foreground: {…, Profile: {…}}, …}

From V6 on the same names are elements. Row n of the coefficients has those of xⁿ, xⁿ⁻¹y, … yⁿ, where x and y are pixels
less `Origin`, times `Scale`.
"""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from hcs_nuclei.errors import ProfileError
from hcs_nuclei.sources.metadata_xml import children, elements, local

_HIGHEST_DEGREE = 10
_LONGEST = 50_000


class HarmonyFlatField(NamedTuple):
    """One channel's profile: what the specimen's light and what the background looks like over the field.

    Polynomials in x and y from -0.5 to 0.5 across the field: coefficients of 1, x, y, x², xy, y² …; about 1 on average.
    `background_counts` is the background's average in camera counts, 0 where the index does not say.
    """

    foreground: tuple[float, ...]
    background: tuple[float, ...]
    background_counts: float


def read_flat_fields(path: Path) -> dict[int, HarmonyFlatField | ProfileError]:
    """The profile of each channel number that has one in the index at `path`; an error where it cannot be understood.

    Raises:
        NotAPlateError: the index is damaged.
    """
    found: dict[int, HarmonyFlatField | ProfileError] = {}
    for name, element in elements(path, {"Entry", "Image"}):
        if name == "Image":
            if found and "URL" in children(element):  # profiles stand before the images, of which there are millions
                break
            continue
        profile = next((child for child in element if local(child.tag) == "FlatfieldProfile"), None)
        channel = element.get("ChannelID", "")
        if profile is None or not channel.isdigit():
            continue
        try:
            flat_field = _flat_field(_nested(profile) if len(profile) else profile.text or "")
        except (ValueError, TypeError, SyntaxError, OverflowError, RecursionError, MemoryError) as error:
            found[int(channel)] = ProfileError(f"it cannot be understood ({error})")
            continue
        if flat_field is not None:
            found[int(channel)] = flat_field
    return found


def _nested(element: Element) -> str:
    """Elements in Acapella's notation: ``<Mean>3</Mean>`` is ``Mean: 3``."""
    if not len(element):
        return (element.text or "").strip()
    return "{" + ", ".join(f"{local(child.tag)}: {_nested(child)}" for child in element) + "}"


def _flat_field(text: str) -> HarmonyFlatField | None:
    """The profile in Acapella's notation; None where it says that the field is flat."""
    if len(text) > _LONGEST:
        raise ValueError(f"{len(text):,} letters")
    foreground, background = _section(text, "Foreground"), _section(text, "Background")
    if "Coefficients" not in foreground:
        if "Profile" in foreground:
            raise ValueError("a profile without coefficients")
        return None
    mean = re.search(r"\bMean:\s*([-+.\deE]+)", background)
    counts = float(mean[1]) if mean else 0.0
    if "Coefficients" not in background or not math.isfinite(counts) or counts <= 0:
        return HarmonyFlatField(_polynomial(foreground), (1.0,), 0.0)
    return HarmonyFlatField(_polynomial(foreground), _polynomial(background), counts)


def _section(text: str, name: str) -> str:
    """What stands between the braces after `name`, empty where it does not stand there."""
    start = re.search(rf"\b{name}:\s*\{{", text)
    if start is None:
        return ""
    depth = 1
    for at in range(start.end(), len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start.end() : at]
    raise ValueError(f"{name} does not end")


def _polynomial(section: str) -> tuple[float, ...]:
    kind = re.search(r"\bType:\s*(\w+)", section)
    if kind is not None and kind[1] != "Polynomial":
        raise ValueError(f"a profile of the type {kind[1]}; Polynomial is known")
    rows = _list(section, "Coefficients")
    if len(rows) > _HIGHEST_DEGREE + 1 or [len(row) for row in rows] != list(range(1, len(rows) + 1)):
        raise ValueError("rows of coefficients that are not 1, 2, 3 … long")
    (ax, bx), (ay, by) = (
        (edge * scale, (edge / 2 - 0.5 - origin) * scale)
        for edge, origin, scale in zip(*(_list(section, name) for name in ("Dims", "Origin", "Scale")), strict=True)
    )
    return _over_field([float(c) for row in rows for c in row], (ax, bx), (ay, by))


def _list(section: str, name: str) -> list[Any]:
    match = re.search(rf"\b{name}:\s*(\[[-+.,\s\deE\[\]]*\])", section)
    if match is None:
        raise ValueError(f"no {name}")
    value = ast.literal_eval(match[1])
    assert isinstance(value, list)
    return value


def _over_field(coefficients: list[float], x: tuple[float, float], y: tuple[float, float]) -> tuple[float, ...]:
    """The polynomial in u and v, where its x is a·u + b and its y likewise, by the binomial theorem."""
    degree = math.isqrt(2 * len(coefficients)) - 1
    powers = [(n - j, j) for n in range(degree + 1) for j in range(n + 1)]
    expanded = dict.fromkeys(powers, 0.0)
    for coefficient, (p, q) in zip(coefficients, powers, strict=True):
        for i in range(p + 1):
            for j in range(q + 1):
                of_x = math.comb(p, i) * x[0] ** i * x[1] ** (p - i)
                of_y = math.comb(q, j) * y[0] ** j * y[1] ** (q - j)
                expanded[i, j] += coefficient * of_x * of_y
    return tuple(expanded.values())
