"""Elements of HTML and SVG: every text is escaped by the standard library's tree, and shown as what it is."""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

Child = Element | str | None
# Neither XML nor a reader can take control characters, half surrogates and marks that turn the direction of a text.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def shown(text: str) -> str:
    """Return a text with characters that cannot be seen written as escapes."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def el(tag: str, /, *children: Child, **attributes: object) -> Element:
    """Return an element. `class_` is class, `aria_label` is aria-label; attributes that are None are left out."""
    made = Element(
        tag,
        {
            key.rstrip("_").replace("_", "-"): shown(str(value))
            for key, value in attributes.items()
            if value is not None
        },
    )
    for child in children:
        add(made, child)
    return made


def add(parent: Element, child: Child) -> None:
    """Append an element or a text."""
    if isinstance(child, Element):
        parent.append(child)
    elif child:
        text = shown(child)
        if len(parent):
            parent[-1].tail = (parent[-1].tail or "") + text
        else:
            parent.text = (parent.text or "") + text


def html(root: Element) -> str:
    """Return an element and what is in it as HTML: nothing in it may be of the kinds that have no end, like img.

    XML's rules escape more than those of HTML: no "<" of a text stands anywhere in the page.
    """
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def xml(root: Element) -> str:
    """Return an element and what is in it as XML: an SVG of its own."""
    return ElementTree.tostring(root, encoding="unicode")
