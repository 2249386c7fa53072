"""Formulas of Office (OMML) as one line of text."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from rlm_ray.sandbox.inside.parsers.packages import child, local, value_of


def linear(element: Element) -> str:
    """Return a formula as text: fractions as `(a)/(b)`, powers as `a^(b)`, roots as `√(a)`."""
    kind = local(element.tag)
    if kind in ("t", "delText"):
        return "" if kind == "delText" else element.text or ""
    if kind in ("rPr", "ctrlPr", "del", "moveFrom", "instrText") or (kind.endswith("Pr") and kind != "Pr"):
        return ""
    part = {name: _joined(child(element, name)) for name in ("num", "den", "e", "sup", "sub", "deg", "fName", "lim")}
    properties = child(element, f"{kind}Pr")
    if kind == "f":
        return f"{_grouped(part['num'])}/{_grouped(part['den'])}"
    if kind == "sSup":
        return f"{part['e']}^{_grouped(part['sup'])}"
    if kind == "sSub":
        return f"{part['e']}_{_grouped(part['sub'])}"
    if kind == "sSubSup":
        return f"{part['e']}_{_grouped(part['sub'])}^{_grouped(part['sup'])}"
    if kind == "sPre":
        return f"_{_grouped(part['sub'])}^{_grouped(part['sup'])}{part['e']}"
    if kind == "rad":
        return f"{part['deg']}√({part['e']})"
    if kind == "nary":
        sign = value_of(child(properties, "chr"), default="∫")
        below = f"_{_grouped(part['sub'])}" if part["sub"] else ""
        above = f"^{_grouped(part['sup'])}" if part["sup"] else ""
        return f"{sign}{below}{above} {part['e']}"
    if kind == "d":
        begin, end = value_of(child(properties, "begChr"), default="("), value_of(child(properties, "endChr"), default=")")
        between = value_of(child(properties, "sepChr"), default="|")
        begin = "" if properties is not None and child(properties, "begChr") is not None and not begin else begin
        return begin + between.join(_joined(item) for item in element if local(item.tag) == "e") + end
    if kind == "func":
        return f"{part['fName']} {part['e']}"
    if kind in ("limLow", "limUpp"):
        return f"{part['e']}{'_' if kind == 'limLow' else '^'}{_grouped(part['lim'])}"
    if kind in ("m", "eqArr"):
        rows = [item for item in element if local(item.tag) in ("mr", "e")]
        return "; ".join(", ".join(map(_joined, row)) if local(row.tag) == "mr" else _joined(row) for row in rows)
    return _joined(element)


def _joined(element: Element | None) -> str:
    return "" if element is None else "".join(map(linear, element))


def _grouped(text: str) -> str:
    return text if len(text) == 1 or text.isalnum() else f"({text})"
