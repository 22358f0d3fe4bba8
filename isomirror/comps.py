"""The groups of several media as one list: united by id, each entry once.

The comps file of a disc lists some packages twice within a group; yum shows them twice.
"""

import xml.etree.ElementTree as Tree
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import Blocked

HEAD = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<!DOCTYPE comps PUBLIC "-//CentOS//DTD Comps info//EN" "comps.dtd">\n'
)
STRENGTH = ("optional", "default", "mandatory")
KINDS = ("group", "category", "environment")
DEPTH = 8  # comps, group, packagelist, packagereq: four are in use


class BadGroups(Blocked):
    """The groups of a medium (its comps file) can't be read."""


def unite(files: Sequence[tuple[str, bytes]]) -> bytes:
    """One comps file of several, each given with the name of its medium. The first to name a group
    decides what it is called; later ones add packages. Raises BadGroups."""
    root = Tree.Element("comps")
    known: dict[tuple[str, str], Tree.Element] = {}
    for where, raw in files:
        for element in _read(where, raw):
            name = (element.findtext("id") or "").strip()
            same = known.get((element.tag, name)) if name else None
            if element.tag not in KINDS or same is None:
                root.append(element)
                known[element.tag, name] = element
            else:
                _add(same, element)
    for element in root:
        for part in element:
            _once(part)
    text: bytes = Tree.tostring(root, encoding="utf-8")
    return HEAD + text.split(b"?>\n", 1)[-1] + b"\n"


def _read(where: str, raw: bytes) -> Tree.Element:
    if b"<!ENTITY" in raw or b"\0" in raw:  # entities grow without end; no comps file needs one
        raise _bad("the comps file defines entities, or is no UTF-8", where)
    try:
        root = Tree.fromstring(raw)  # noqa: S314
    except Tree.ParseError as fault:
        raise _bad(f"the comps file is no XML: {fault}", where) from fault
    level = [root]
    for _ in range(DEPTH):
        level = [child for element in level for child in element]
    if level:  # who writes it calls itself for each level
        raise _bad(f"the comps file is nested deeper than {DEPTH}", where)
    if root.tag != "comps":
        raise _bad(f"the comps file starts with <{root.tag[:40]}>", where)
    return root


def _bad(text: str, where: str) -> BadGroups:
    return BadGroups(text, where=where, hint="take an original medium, or one without groups")


def _add(same: Tree.Element, other: Tree.Element) -> None:
    for part in other:
        if not len(part):
            continue  # names and flags: the first medium's count
        mine = same.find(part.tag)
        if mine is None:
            same.append(part)
        else:
            mine.extend(part)


def _once(part: Tree.Element) -> None:
    """Drop the later of two entries of one package, and keep the stronger of their types. Entries
    under different conditions are different."""
    seen: dict[tuple[str, str, str], Tree.Element] = {}
    for entry in list(part):
        key = (entry.tag, (entry.text or "").strip(), entry.get("requires", ""))
        first = seen.setdefault(key, entry)
        if first is entry:
            continue
        kind = entry.get("type", "")
        if kind in STRENGTH and _strength(first) < STRENGTH.index(kind):
            first.set("type", kind)
        part.remove(entry)


def _strength(entry: Tree.Element) -> int:
    kind = entry.get("type", "")
    return STRENGTH.index(kind) if kind in STRENGTH else len(STRENGTH)


@dataclass(frozen=True, slots=True)
class Group:
    """A group's members: ``required`` are its mandatory ones; ``conditional`` pairs a package with
    the one that calls for it."""

    required: tuple[str, ...]
    default: tuple[str, ...]
    conditional: tuple[tuple[str, str], ...]


def groups(raw: bytes, where: str) -> dict[str, Group]:
    """The groups of a comps file by id. Raises BadGroups."""
    found = {}
    for element in _read(where, raw):
        if element.tag != "group":
            continue
        members: dict[str, list[str]] = {}
        conditional = []
        for entry in element.iter("packagereq"):
            name, kind = (entry.text or "").strip(), entry.get("type", "")
            members.setdefault(kind, []).append(name)
            if kind == "conditional" and entry.get("requires"):
                conditional.append((name, entry.get("requires", "").strip()))
        found[(element.findtext("id") or "").strip()] = Group(
            tuple(members.get("mandatory", ())), tuple(members.get("default", ())),
            tuple(conditional),
        )  # fmt: skip
    return found
