"""What assessment rules judge: a source host, the site it goes to, and its neighbours."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps

from core.rules import Outcome, failed, passed, unknown
from deploy.site import Site
from deploy.site import Source as Described
from migrate.source import SourceHost
from migrate.target import Target

Judge = Callable[["Subject"], Outcome | Iterable[Outcome]]
MOST = 20


@dataclass(frozen=True, slots=True)
class Subject:
    """``described`` is what the site says of the host; ``others`` are hosts discovered earlier."""

    host: SourceHost
    site: Site
    described: Described
    target: Target
    others: tuple[SourceHost, ...] = ()


def needs(*facts: str) -> Callable[[Judge], Judge]:
    """A judge that answers unknown when one of these facts of the host is missing."""

    def wrap(judge: Judge) -> Judge:
        @wraps(judge)
        def asked(subject: Subject) -> Outcome | Iterable[Outcome]:
            for fact in facts:
                if fact in subject.host.missing:
                    return unknown(f"{fact} is not known: {subject.host.missing[fact]}")
            return judge(subject)

        return asked

    return wrap


def needs_target(*facts: str) -> Callable[[Judge], Judge]:
    """As ``needs``, for facts of the hypervisor."""

    def wrap(judge: Judge) -> Judge:
        @wraps(judge)
        def asked(subject: Subject) -> Outcome | Iterable[Outcome]:
            missing = subject.target.missing
            for fact in facts:
                if fact in missing:
                    return unknown(f"{fact} of {subject.target.node} is not known: {missing[fact]}")
            return judge(subject)

        return asked

    return wrap


def each(found: Iterable[tuple[str, str]]) -> tuple[Outcome, ...]:
    """A failure for each (evidence, place), or one pass; twenty say enough."""
    all_found = list(found)
    outcomes = [failed(evidence, where) for evidence, where in all_found[:MOST]]
    if len(all_found) > MOST:
        outcomes.append(failed(f"and {len(all_found) - MOST} more"))
    return tuple(outcomes) or (passed(),)


def one(found: Iterable[str]) -> Outcome:
    """One failure that lists everything found, or a pass."""
    every = list(dict.fromkeys(found))
    if not every:
        return passed()
    more = f" and {len(every) - MOST} more" if len(every) > MOST else ""
    return failed(", ".join(every[:MOST]) + more)
