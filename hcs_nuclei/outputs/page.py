"""A template and its values in, a page out: one HTML file that needs no other, and by its policy lets no other in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any


def render_page(
    room: str,
    template: str,
    *,
    css: str,
    js: str = "",
    filters: Mapping[str, Callable[..., Any]] | None = None,
    **values: Any,
) -> str:
    """The page that a template makes, which extends ``page.html`` of this package with its title and body.

    All values are escaped, and none may be left undefined.

    Args:
        room: package of hcs_nuclei that has the template.
        template: its file name there.
        css: the page's styles.
        js: its script, a module; "" for a page without one.
        filters: of the template, by name.
        values: what it is filled with.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader("hcs_nuclei", name) for name in (room, "outputs")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"csp_hash": _csp_hash, **(filters or {})}
    return environment.get_template(template).render(**values, css=css, js=js)


def _csp_hash(text: str) -> str:
    """As a content security policy names an inline style or script.

    By these the page's own are let in, and nothing that a plate's or an image's name might smuggle in.
    """
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
