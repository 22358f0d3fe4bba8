"""A platform: bundles/<name>/bundle.yml, and the digest of what its phases consist of."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, StringConstraints

from core.documents import Document, load
from core.errors import UsageProblem

Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
Package = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,100}$")]


class Phase(Document):
    """One playbook of the same name, and the roles that it applies."""

    name: Word
    roles: tuple[Word, ...] = ()


class Bundle(Document):
    """bundle.yml."""

    contract: int = Field(ge=1, le=1)
    name: str
    version: str
    summary: str
    release: str
    arch: str
    phases: tuple[Phase, ...] = Field(min_length=1)
    packages: dict[Word, tuple[Package, ...]] = {}

    @property
    def roots(self) -> tuple[str, ...]:
        """Every package that is installed by name, once."""
        return tuple(dict.fromkeys(name for names in self.packages.values() for name in names))


@dataclass(frozen=True, slots=True)
class Content:
    """A bundle with the directory that holds its playbooks and roles."""

    bundle: Bundle
    root: Path

    def playbook(self, phase: Phase) -> Path:
        """The phase's playbook."""
        return self.root / "playbooks" / f"{phase.name}.yml"

    def number(self, phase: Phase) -> int:
        """The phase's place in the order, from 1."""
        return self.bundle.phases.index(phase) + 1

    def digest(self, phase: Phase) -> str:
        """What the phase consists of: a change of any file of it is a change of this."""
        shared = [self.root / "playbooks" / name for name in ("tasks", "templates")]
        roots = [self.playbook(phase), *(self.root / "roles" / role for role in phase.roles)]
        if not phase.roles:
            roots += shared
        digest = hashlib.sha256()
        for path in (file for root in roots for file in _files(root)):
            digest.update(f"{path.relative_to(self.root)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    return sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".md")


def open_bundle(root: Path, name: str) -> Content:
    """The bundle called ``name``. Raises UsageProblem when there is none, or a part is missing."""
    path = root / "bundles" / name / "bundle.yml"
    if not path.exists():
        known = ", ".join(sorted(entry.parent.name for entry in root.glob("bundles/*/bundle.yml")))
        raise UsageProblem(
            f"there is no bundle {name}", hint=f"write `bundle:` in cloud.yml as one of: {known}"
        )
    content = Content(load(path, Bundle), root)
    parts = [content.playbook(phase) for phase in content.bundle.phases]
    parts += [root / "roles" / role for phase in content.bundle.phases for role in phase.roles]
    missing = [str(part) for part in parts if not part.exists()]
    if missing:
        raise UsageProblem(
            f"the bundle {name} names what is not there: {', '.join(missing)}", where=str(path)
        )
    return content


def variables(content: Content) -> frozenset[str]:
    """Every variable that the bundle's roles have, as their argument_specs say."""
    roles = {role for phase in content.bundle.phases for role in phase.roles}
    found: set[str] = set()
    for role in roles:
        specs = yaml.safe_load(
            (content.root / "roles" / role / "meta" / "argument_specs.yml").read_bytes()
        )
        found.update(specs["argument_specs"]["main"]["options"])
    return frozenset(found)
