"""What a fact is, and how one is asked. The answer comes from a machine nobody vouches for: sizes
are bounded, numbers are checked, text is cleaned, and what does not fit is missing, with a reason.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from core.errors import OutsideFailed
from core.ports import Completed, Host

Value = TypeVar("Value")

LINES = 20_000  # more is no fact about one machine
WORD = re.compile(r"[A-Za-z0-9._:+!@=-]{1,128}")
HEADING = re.compile(r"==> (/\S{1,256}) <==")
NAMED = r"(?:passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key)"
# Repetitions are bounded: the text comes from outside.
VALUE = rf"(?i)({NAMED}[a-z_-]{{0,40}}['\"]?(?:[ \t]*[=:][ \t]*| +))(?!\*{{4}})\S+"
LOGIN = r"(://[^/\s:@]{1,128}:)[^/\s@]{1,256}@"
MYSQL = r"(\b(?:mysql|mariadb)[a-z-]{0,20}\b[^\n|;&]{0,200}?\s-p)(?!\*{4})\S+"
SECRETS = (
    (re.compile(VALUE), r"\1****"),
    (re.compile(LOGIN), r"\1****@"),
    (re.compile(MYSQL), r"\1****"),
)


class Unreadable(ValueError):
    """The output does not say what it should."""


@dataclass(frozen=True, slots=True)
class Fact(Generic[Value]):
    """``question`` is what the command answers. Where its program is absent (exit code 127) the
    answer is ``without``, if that is a fact too: a machine without LVM's tools has no LVM."""

    name: str
    question: str
    argv: tuple[str, ...]
    parse: Callable[[str], Value]
    without: Value | None = None
    codes: tuple[int, ...] = (0,)
    limit: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply(Generic[Value]):
    """The value, or why there is none; ``output`` is the evidence, secrets masked."""

    fact: Fact[Value]
    value: Value | None
    missing: str
    output: str
    code: int = 0


def ask(host: Host, fact: Fact[Value], timeout: float) -> Reply[Value]:
    """Ask ``host``. Raises OutsideFailed only when the host itself is gone."""
    try:
        done = host.run(fact.argv, timeout=timeout)
    except OutsideFailed as problem:
        host.run(("true",), timeout=min(timeout, 20.0))
        return Reply(fact, None, problem.message, "", -1)
    return judged(fact, done)


def judged(fact: Fact[Value], done: Completed) -> Reply[Value]:
    """What a host answered as the fact's value, or why it is none."""
    if len(done.stdout) > fact.limit:
        return Reply(fact, None, f"{len(done.stdout)} bytes of output are no answer", "", done.code)
    text = mask(done.text)
    if done.code == 127 and fact.without is not None:
        return Reply(fact, fact.without, "", text, done.code)
    if done.code not in fact.codes:
        error = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
        why = clean(error[-1]) if error else "no output"
        return Reply(fact, None, f"exit code {done.code}: {why}", text, done.code)
    return parsed(fact, text, done.code)


def parsed(fact: Fact[Value], text: str, code: int = 0) -> Reply[Value]:
    """``text`` as the fact's value; whatever a parser trips over makes the fact missing."""
    try:
        if text.count("\n") > LINES:
            raise Unreadable(f"more than {LINES} lines")
        return Reply(fact, fact.parse(text), "", text, code)
    except (ValueError, KeyError, IndexError, TypeError, ArithmeticError) as fault:
        return Reply(fact, None, f"can't be understood: {clean(str(fault))}", text, code)


def mask(text: str) -> str:
    """``text`` with what looks like a password replaced by stars."""
    for pattern, kept in SECRETS:
        text = pattern.sub(kept, text)
    return text


def clean(text: str, limit: int = 200) -> str:
    """One printable line: no control characters, no escape sequences, no direction marks."""
    line = "".join(sign if sign.isprintable() else " " for sign in text[: limit * 4])
    return " ".join(line.split())[:limit]


def word(text: str) -> str:
    """A name as kernels and services give them. Raises Unreadable for anything else."""
    if not WORD.fullmatch(text):
        raise Unreadable(f"{clean(text)!r} is no name")
    return text


def path(text: str) -> str:
    """An absolute path without tricks."""
    if not text.startswith("/") or len(text) > 1024 or not text.isprintable():
        raise Unreadable(f"{clean(text)!r} is no absolute path")
    if ".." in text.split("/"):
        raise Unreadable(f"{clean(text)!r} leads elsewhere")
    return text


def number(text: str, most: int = 2**63 - 1) -> int:
    """A plain decimal between 0 and ``most``."""
    if not re.fullmatch(r"[0-9]{1,19}", text.strip(" ")) or int(text) > most:
        raise Unreadable(f"{clean(text)!r} is no number up to {most}")
    return int(text)


def rows(text: str) -> Iterable[list[str]]:
    """Lines as words, empty lines left out."""
    return (words for line in text.splitlines() if (words := line.split()))


def records(text: str) -> dict[str, dict[str, str]]:
    """Lines of name, key and value between tabs, as the scripts here print them."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        parts = line.split("\t", 2)
        if len(parts) != 3:
            raise Unreadable(f"{clean(line)!r} is no record")
        found.setdefault(word(parts[0]), {})[parts[1]] = parts[2].strip()
    return found


def files(text: str) -> dict[str, list[str]]:
    """What ``head`` prints for several files: a heading with the path, then the lines."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        heading = HEADING.fullmatch(line)
        if heading:
            lines = found.setdefault(path(heading[1]), [])
        else:
            lines.append(line)
    return found
