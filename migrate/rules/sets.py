"""Disks that belong together: several paths to one LUN, members of RAID sets."""

from collections.abc import Iterable

from core.rules import Outcome, Rule, Severity
from migrate.reading import Unit, reading, unsettled
from migrate.rules.subject import Subject, each, needs


def _shown(unit: Unit) -> str:
    wwid = (unit.map.wwid if unit.map else "") or unit.disks[0].wwid
    names = ", ".join(sorted(disk.name for disk in unit.disks))
    paths = f"{names or 'no path that is listed'}; WWID {wwid or 'unknown'}"
    return paths if unit.map else f"{paths}; no map is active"


@needs("disks", "partitions", "multipath", "wwids")
def _multipath(subject: Subject) -> Iterable[Outcome]:
    return each(
        (_shown(unit), unit.source)
        for unit in reading(subject.host).units
        if unit.map or len(unit.disks) > 1
    )


@needs("disks", "partitions", "wwids")
def _doubtful(subject: Subject) -> Iterable[Outcome]:
    return each(reading(subject.host).doubts)


@needs("disks", "partitions", "md")
def _leg(subject: Subject) -> Iterable[Outcome]:
    return each(
        (f"all on it lies on {leg.kept.source} too: {', '.join(leg.arrays)}", leg.left.source)
        for leg in reading(subject.host).legs
    )


@needs("disks", "partitions", "md", "boot_code")
def _boot_code(subject: Subject) -> Iterable[Outcome]:
    return each(
        (f"only {leg.left.source} has one, which is left out", leg.kept.source)
        for leg in reading(subject.host).legs
        if leg.left.boots and not leg.kept.boots and subject.host.firmware != "uefi"
    )


@needs("disks", "partitions", "md")
def _md(subject: Subject) -> Iterable[Outcome]:
    return each(unsettled(subject.host, reading(subject.host)))


RULES: tuple[Rule[Subject], ...] = (
    Rule(
        "storage.multipath",
        "Several paths lead to one LUN",
        Severity.INFO,
        "Nothing must be done for the copy, it is read once. In the rehearsal see that `filter` in "
        "/etc/lvm/lvm.conf allows /dev/vda, and switch multipathd off after the cutover.",
        _multipath,
    ),
    Rule(
        "storage.multipath_doubtful",
        "Disks have one WWID and do not look like one LUN",
        Severity.BLOCKER,
        "Rescan the paths (`echo 1 > /sys/block/sdX/device/rescan`) and discover again. When they "
        "are different disks by one name, waive this: what has no map is planned disk by disk.",
        _doubtful,
    ),
    Rule(
        "storage.mirror_leg",
        "One leg of a RAID1 is left out",
        Severity.INFO,
        "Nothing must be done before. The domain's array is degraded: after the cutover "
        "`mdadm --grow /dev/mdX --raid-devices=1 --force` there, or add a second disk to it; the "
        "pool's storage protects it anyway.",
        _leg,
    ),
    Rule(
        "storage.leg_without_loader",
        "The leg that is read has no boot loader",
        Severity.WARNING,
        "Install it there too (`grub-install` with that disk) and discover again, or the domain "
        "does not start.",
        _boot_code,
    ),
    Rule(
        "storage.software_raid",
        "Software RAID goes along with all its disks",
        Severity.WARNING,
        "Rehearse its start. For one leg of a RAID1 instead: let the array come into step, take "
        "swap and other partitions beside the arrays out of use or mirror them, discover again.",
        _md,
    ),
)
