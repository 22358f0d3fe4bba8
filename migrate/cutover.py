"""Cutover: the source is switched off, the domain takes its place. Only with consent by name.

Until the source is fenced everything can be called off. Its disks stay as they are, so that even
after that the way back is: stop the domain, switch the source on.
"""

import contextlib
from collections.abc import Callable
from datetime import datetime

from core.documents import Document
from core.errors import Blocked, NoAnswer, OutsideFailed, PastReturn, TurnedAway, UsageProblem
from core.ports import Clock, Host, Hypervisor
from core.progress import Report, track
from core.rules import Finding
from migrate.plan import Plan
from migrate.quiesce import Quiesced, at_rest
from migrate.verify import UUID, alike

VERSION = 1
# Everything is synced and read-only by now; a clean shutdown would want to write. The command
# must return before the power goes, hence the background and the pause: sudo closes sessions, and
# an answer that does not come is taken for an order that was not heard. Where sudo wants a
# terminal, its end hangs up on all that was begun there: the trap must stand before the subshell.
POWER_OFF = (
    "sh", "-c",
    "trap '' 1; (sync; sleep 3; echo o > /proc/sysrq-trigger; sleep 5; poweroff -f) < /dev/null "
    "> /dev/null 2>&1 &",
)  # fmt: skip
GONE = 90.0
REST, REFUSALS = 5.0, 9  # seconds, and how often: accounts get locked
BY_HAND = (
    "two machines under one address harm both: switch the server off by hand, then run again with "
    "--off"
)


class Fenced(Document):
    """fenced.json: from here on the source must not come back by itself."""

    version: int = VERSION
    host: str
    consent: str
    when: datetime


class CutOver(Document):
    """cutover.json: the server runs in the cloud. ``downtime`` in seconds, quiesce to answers;
    ``forecast`` what was expected, if anything was."""

    version: int = VERSION
    host: str
    domain: str
    hypervisor: str
    address: str
    downtime: float
    forecast: float | None = None
    findings: tuple[Finding, ...]
    when: datetime


def consent(plan: Plan, name: str) -> None:
    """Raises UsageProblem unless ``name`` is the server's."""
    if name != plan.host:
        raise UsageProblem(
            f"cutting over switches {plan.host} ({plan.address}) off",
            hint=f"say --consent {plan.host} when its owner agrees",
        )


def still_source(plan: Plan, source: Host, held: Quiesced) -> bool:
    """Whether the server answers as its last pass left it; False when the domain answers instead.
    Raises Blocked when it went on working: what it wrote since would be lost."""
    if at_rest(source, held):
        return True
    with contextlib.suppress(ValueError):
        if alike(source.run(UUID).text, plan.uuid):
            return False
    raise Blocked(
        f"{plan.host} did not stay at rest since its last copy: it was rebooted, or its file "
        "systems are writable again",
        where=plan.host,
        hint=f"`groundlift migrate run {plan.host} --consent {plan.host}` copies anew",
    )


def fence(
    plan: Plan, source: Host, standing: Callable[[], bool], told: Callable[[], bool],
    heard: Callable[[], None], clock: Clock, report: Report, *, off: bool = False,
) -> None:  # fmt: skip
    """Switch the source off and wait until nothing is under its address.

    ``standing`` says whether what answers there is the source and not already the domain; ``told``
    whether it heard the order to switch off before, ``off`` that somebody saw that it is off;
    ``heard`` puts on record that it hears it now. Raises Blocked when silence may be the network's,
    TurnedAway when something is there that does not let us in.
    """
    before = off or told()
    with track(report, f"switch {plan.host} off") as meter:
        try:
            if not _ordered(source, standing, clock, off=off, before=before):
                return
            heard()
        except NoAnswer as fault:
            if not before:
                text = f"{plan.address} does not answer, and never heard that it is to be off"
                raise Blocked(text, where=plan.host, hint=BY_HAND) from fault
            meter.note(f"{plan.host} does not answer: it is off")
        if not _silent(plan, source, clock, off=off):
            meter.note(f"something answers for {plan.address} and is no server: taken for off")


def _ordered(
    source: Host, standing: Callable[[], bool], clock: Clock, *, off: bool, before: bool
) -> bool:
    """Whether the source has heard the order; False when the domain is there. Who goes down can't
    read keys any more, and turns us away for a moment."""
    end, refused = clock.monotonic() + GONE, 0
    while True:
        try:
            if not standing():
                return False
            source.run(POWER_OFF, timeout=20)
            return True
        except NoAnswer:
            raise
        except OutsideFailed as fault:  # going down, or cut off before it heard: what is there now?
            turned_away = isinstance(fault, TurnedAway)
            refused += turned_away
            if refused > (REFUSALS if before else 1) or clock.monotonic() > end:
                raise
            if off and not turned_away:  # as somebody said; whether it stays so is looked at next
                raise NoAnswer(fault.message) from fault
            source.close()
            clock.sleep(REST if turned_away else 1)


def _silent(plan: Plan, source: Host, clock: Clock, *, off: bool) -> bool:
    """Wait for it. False when somebody saw that the server is ``off`` and all that answers is on
    the way: a firewall's reset, a router's word. Raises Blocked when a machine is there."""
    end, silent, said, there, rest = clock.monotonic() + GONE, 0, "", False, 1.0
    while silent < 3:
        source.close()
        try:
            source.run(("true",), timeout=10)
            silent, said, there, rest = 0, "", True, 1.0
        except NoAnswer:
            silent, rest = silent + 1, 1.0
        except OutsideFailed as fault:
            there = isinstance(fault, TurnedAway)
            silent, said, rest = 0, f": {fault.message}", REST if there else 1.0
        if clock.monotonic() > end and not silent:
            if off and not there:
                return False
            raise Blocked(
                f"{plan.address} is not silent {GONE:.0f} s after it was told to switch off{said}",
                where=plan.host,
                hint="switch what is there off by hand, then run again with --off",
            )
        clock.sleep(rest)
    return True


def switch_on(plan: Plan, hypervisor: Hypervisor, report: Report) -> None:
    """Start the domain in the source's place, now and whenever its host starts."""
    with track(report, f"start domain {plan.domain}"):
        try:
            hypervisor.start(plan.domain)
            hypervisor.autostart(plan.domain)
        except OutsideFailed as problem:
            raise PastReturn(
                f"the source is off, and the domain does not start: {problem.message}",
                where=plan.host,
                hint="way back: switch the source on, it is as it was. "
                f"Or find out why, and run `groundlift migrate cutover {plan.host}` again",
            ) from problem
