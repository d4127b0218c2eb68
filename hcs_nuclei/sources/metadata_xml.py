"""A vendor's XML file in, its elements out, one by one; hostile or damaged XML is refused in words."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from hcs_nuclei.errors import NotAPlateError


def local(tag: str) -> str:
    """A tag or attribute name without its namespace."""
    return tag.rpartition("}")[2]


def attributes(element: Element) -> dict[str, str]:
    """Attributes of `element` without their namespaces."""
    return {local(name): value for name, value in element.attrib.items()}


def children(element: Element) -> dict[str, str]:
    """Text of each child of `element`, by its name without namespace (that of `element` itself)."""
    cut = element.tag.rfind("}") + 1  # once, not for each of the millions of children of an index
    return {child.tag[cut:]: (child.text or "").strip() for child in element}


def root_tag(path: Path) -> str:
    """Tag of the root element with its namespace, having seen that no DTD stands before it.

    Raises:
        NotAPlateError: the file cannot be read, is not XML, or declares a document type or entities.
    """
    try:
        # forbid_dtd: no vendor writes one, and entities can be declared nowhere else.
        with path.open("rb") as file:
            for _, element in defusedxml.ElementTree.iterparse(file, events=("start",), forbid_dtd=True):
                return str(element.tag)
    except DefusedXmlException:
        raise NotAPlateError(
            f"{path} declares a document type or entities, which no instrument does; it is not read."
        ) from None
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise _damaged(path, error) from None
    raise NotAPlateError(f"{path} holds no XML element. Copy it again from the instrument.")


def elements(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, Element]]:
    """(name, element) of every element called one of `wanted` in the root's namespace, with its children, in order.

    defusedxml parses up to the root element; the rest, where XML allows no declarations, is left to the standard
    library's parser in C, since a plate's index has millions of elements (about half the time, measured).

    Raises:
        NotAPlateError: as :func:`root_tag`, or the file is cut short.
    """
    namespace = root_tag(path).rpartition("}")
    tags = {"".join(namespace[:2]) + name: name for name in wanted}
    try:
        with path.open("rb") as file:
            for _, element in ElementTree.iterparse(file, events=("end",)):
                if element.tag in tags:
                    yield tags[element.tag], element
                    element.clear()
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> NotAPlateError:
    what = "is empty" if path.is_file() and path.stat().st_size == 0 else f"is not complete XML ({error})"
    return NotAPlateError(
        f"{path} {what}. It says which images the plate has: copy it again from the instrument, "
        "or read the images by their names with a pattern."
    )
