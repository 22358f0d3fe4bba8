"""Documents: frozen pydantic models, and YAML whose every fault has a place.

All faults are reported at once as ``file:line:column: path: what``; a repeated key is a fault.
"""

import errno
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import BadDocument

LIMIT = 8 * 1024 * 1024  # longer is no document a person wrote
DEPTH = 64
SHOWN = 80  # characters of a wrong value


class Document(BaseModel):
    """The base of every document: frozen, and a field nobody knows is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)
Place = tuple[int, int]
Path_ = tuple[str | int, ...]


def read_bounded(path: Path, limit: int) -> bytes:
    """A file's content. Raises OSError, for one of more than ``limit`` bytes as well: /dev/zero
    and a wrongly named image are files, too."""
    with path.open("rb") as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise OSError(errno.EFBIG, f"it is longer than {limit} bytes", str(path))
    return raw


def load(path: Path, model: type[Model]) -> Model:
    """Read a YAML (or JSON) file as ``model``. Raises BadDocument with every fault in it."""
    try:
        raw = read_bounded(path, LIMIT)
    except OSError as fault:
        raise BadDocument(
            f"it can't be read: {fault.strerror}", hint="check the path", where=str(path)
        ) from fault
    return parse(raw, model, str(path))


def parse(raw: bytes, model: type[Model], name: str) -> Model:
    """As ``load``, for bytes; ``name`` stands in the places of faults."""
    if len(raw) > LIMIT:
        raise BadDocument(f"{len(raw)} bytes is too long for a document", where=name)
    reader = _Reader(name)
    try:
        _check_depth(raw)
        data = reader.read(yaml.compose(raw, Loader=yaml.CSafeLoader), ())
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark
        at = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise _bad(name, [f"{at}: {fault.problem}"]) from fault
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as fault:
        raise _bad(name, [f"{name}:1:1: not readable as YAML: {fault}"]) from fault
    faults = reader.faults
    try:
        document = model.model_validate(data)
    except ValidationError as fault:
        errors = fault.errors()
        within = {error["loc"][:end] for error in errors for end in range(len(error["loc"]))}
        for error in errors:
            # Pydantic counts the items that are good: a list whose only item is bad is not short.
            if error["type"] == "too_short" and error["loc"] in within:
                continue
            line, column = _nearest(error["loc"], reader.places)
            path = ".".join(str(part) for part in error["loc"]) or "document"
            faults.append(f"{name}:{line}:{column}: {path}: {_message(error)}")
        raise _bad(name, faults) from fault
    if faults:
        raise _bad(name, faults)
    return document


def _check_depth(raw: bytes) -> None:
    """The C composer calls itself for each level: a file of brackets would overflow its stack."""
    depth = 0
    for event in yaml.parse(raw, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH:
            raise ValueError(f"more than {DEPTH} levels")


def _bad(name: str, faults: list[str]) -> BadDocument:
    count = f"{len(faults)} fault" + ("s" if len(faults) != 1 else "")
    return BadDocument(
        f"{count} in {name}", errors=faults, hint="correct the lines named above and run again"
    )


def _message(error: Any) -> str:
    text = str(error["msg"]).removeprefix("Value error, ")
    if not isinstance(error["input"], str | int):
        return text
    found = repr(error["input"])
    return f"{text} (found {found if len(found) <= SHOWN else found[:SHOWN] + '…'})"


def _nearest(path: Path_, places: dict[Path_, Place]) -> Place:
    for end in range(len(path), -1, -1):
        if path[:end] in places:
            return places[path[:end]]
    return (1, 1)


class _Reader:
    """Turns YAML nodes into data and notes where each value stands."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[Path_, Place] = {}
        self.faults: list[str] = []
        self._seen: set[int] = set()

    def fault(self, node: yaml.Node, text: str) -> None:
        line, column = _place(node)
        self.faults.append(f"{self.name}:{line}:{column}: {text}")

    def read(self, node: yaml.Node | None, path: Path_) -> Any:
        """The value of ``node``. Aliases are refused: nothing here needs them, and they are how a
        small file becomes a huge one."""
        if node is None:
            return None
        if id(node) in self._seen:
            self.fault(node, "an alias (*name) is not allowed here")
            return None
        self._seen.add(id(node))
        self.places.setdefault(path, _place(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.fault(key_node, "a key must be a plain word")
                continue
            key = _scalar(key_node)
            if key in result:
                self.fault(key_node, f"{key}: the key is written twice")
                continue
            if not isinstance(value_node, yaml.ScalarNode):  # a block starts at its key
                self.places[(*path, key)] = _place(key_node)
            result[key] = self.read(value_node, (*path, key))
        return result


def _place(node: yaml.Node) -> Place:
    return (node.start_mark.line + 1, node.start_mark.column + 1)


def _scalar(node: yaml.Node) -> Any:
    return yaml.SafeLoader("").construct_object(node, deep=True)
