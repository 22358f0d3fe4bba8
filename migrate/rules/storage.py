"""Disks, volumes, file systems, and the room they need on both sides."""

from collections.abc import Iterable

from core.quantities import MIB, size
from core.rules import Outcome, Rule, Severity, failed, passed
from migrate.reading import reading
from migrate.rules.subject import Subject, each, needs, needs_target
from migrate.rules.system import VIRTIO

# What virt-v2v asks for before it starts, file system by file system.
FREE = {"/": 100 * MIB, "/boot": 50 * MIB}
FREE_ELSEWHERE = 10 * MIB
INODES = 100
EXT = ("ext2", "ext3", "ext4")
# The reader knows which blocks of these are used; of others it copies all that is not zero.
MAPPED = (*EXT, "xfs", "vfat")
READABLE = (*MAPPED, "btrfs", "jfs", "reiserfs", "iso9660", "squashfs", "udf")
CLUSTER = ("gfs", "gfs2", "ocfs2", "gpfs", "vxfs", "lustre")
RESERVE = 1.1  # replica plus what the overlay grows by


@needs("disks")
def _count(subject: Subject) -> Outcome:
    disks, limits = len(reading(subject.host).units), subject.target.limits
    cards = sum(card.kind == "hardware" for card in subject.host.interfaces)
    if not all(name in subject.host.kernel_drivers for name in VIRTIO):
        seen = f"{disks} disks; without virtio a domain has {limits.ide_disks}"
        return failed(seen) if disks > limits.ide_disks else passed(seen)
    seen = f"{disks} disks and {cards} network cards; a domain has {limits.pci_slots} slots"
    return failed(seen) if disks + cards > limits.pci_slots else passed(seen)


@needs("disks")
def _large(subject: Subject) -> Iterable[Outcome]:
    most = subject.target.limits.disk
    return each((size(d.size), d.path) for d in subject.host.disks if d.size > most)


@needs("disks")
def _sector(subject: Subject) -> Iterable[Outcome]:
    most = subject.target.limits.sector
    return each(
        (f"{disk.sector}-byte sectors", disk.path)
        for disk in subject.host.disks
        if disk.sector > most
    )


@needs("disks")
def _removable(subject: Subject) -> Iterable[Outcome]:
    return each((d.model or size(d.size), d.path) for d in subject.host.disks if d.removable)


@needs("volume_groups")
def _lvm(subject: Subject) -> Iterable[Outcome]:
    return each(
        (("a physical volume is missing" if group.partial else "clustered"), group.name)
        for group in subject.host.volume_groups
        if group.partial or group.clustered
    )


@needs("logical_volumes")
def _special_volumes(subject: Subject) -> Iterable[Outcome]:
    kinds = {"s": "snapshot", "S": "snapshot", "V": "thin volume", "t": "thin pool",
             "m": "mirror", "M": "mirror"}  # fmt: skip
    return each(
        (kinds[volume.kind], volume.path)
        for volume in subject.host.logical_volumes
        if volume.kind in kinds
    )


@needs("volume_groups")
def _snapshot_room(subject: Subject) -> Iterable[Outcome]:
    return each(
        (f"{size(group.free)} of {size(group.size)} free", group.name)
        for group in subject.host.volume_groups
        if group.free < group.size * 0.05
    )


@needs("mounts")
def _kinds(subject: Subject) -> Iterable[Outcome]:
    return each(
        (f"{fs.kind} on {fs.device}", fs.mountpoint)
        for fs in subject.host.filesystems
        if not fs.remote and fs.kind not in (*READABLE, *CLUSTER)
    )


@needs("mounts")
def _unmapped(subject: Subject) -> Iterable[Outcome]:
    return each(
        (f"{fs.kind}, {size(fs.size)}", fs.mountpoint)
        for fs in subject.host.filesystems
        if not fs.remote and fs.kind in READABLE and fs.kind not in MAPPED
    )


@needs("mounts")
def _cluster(subject: Subject) -> Iterable[Outcome]:
    return each((fs.kind, fs.mountpoint) for fs in subject.host.filesystems if fs.kind in CLUSTER)


@needs("mounts")
def _read_only(subject: Subject) -> Iterable[Outcome]:
    return each(
        (f"{fs.device} is mounted read-only", fs.mountpoint)
        for fs in subject.host.filesystems
        if not fs.remote and fs.kind in (*EXT, "xfs") and "ro" in fs.options
    )


@needs("mounts", "space")
def _free(subject: Subject) -> Iterable[Outcome]:
    return each(
        (f"{size(fs.available)} free, {size(FREE.get(fs.mountpoint, FREE_ELSEWHERE))} needed",
         fs.mountpoint)
        for fs in subject.host.filesystems
        if not fs.remote and fs.size and "ro" not in fs.options
        and fs.available < FREE.get(fs.mountpoint, FREE_ELSEWHERE)
    )  # fmt: skip


@needs("mounts", "inodes")
def _inodes(subject: Subject) -> Iterable[Outcome]:
    return each(
        (f"{fs.inodes_free} inodes free, {INODES} needed", fs.mountpoint)
        for fs in subject.host.filesystems
        if fs.kind in EXT and fs.inodes_free < INODES
    )


@needs("mounts")
def _remote(subject: Subject) -> Iterable[Outcome]:
    return each(
        (f"{fs.kind} from {fs.device}", fs.mountpoint)
        for fs in subject.host.filesystems
        if fs.remote
    )


@needs("disk_errors")
def _errors(subject: Subject) -> Outcome:
    count = subject.host.disk_errors
    return failed(f"{count} lines of I/O errors in the kernel's log") if count else passed()


@needs("disks")
@needs_target("pool_free")
def _pool(subject: Subject) -> Outcome:
    need = int(sum(unit.size for unit in reading(subject.host).units) * RESERVE)
    have = subject.target.pool_free
    seen = f"{size(need)} needed at most, {size(have)} free in {subject.target.pool}"
    return passed(seen) if need <= have else failed(seen, subject.target.pool_path)


RULES: tuple[Rule[Subject], ...] = (
    Rule(
        "storage.disk_count",
        "It has more disks than a domain can have",
        Severity.BLOCKER,
        "Merge file systems onto fewer disks before the migration.",
        _count,
    ),
    Rule(
        "storage.disk_too_large",
        "A disk is larger than 2 TiB",
        Severity.WARNING,
        "Start the first copy days before the window, and check that this is not the boot disk.",
        _large,
    ),
    Rule(
        "storage.sector_size",
        "A disk has sectors larger than 512 bytes",
        Severity.BLOCKER,
        "Move its file systems to a disk with 512-byte sectors first: this platform's domains "
        "know no other, and partition tables would not fit.",
        _sector,
    ),
    Rule(
        "storage.removable",
        "A removable disk is attached",
        Severity.WARNING,
        "Take it off, or copy what is needed from it by hand: the plan leaves it out.",
        _removable,
    ),
    Rule(
        "storage.volume_group_incomplete",
        "A volume group is incomplete or clustered",
        Severity.BLOCKER,
        "Repair it (`vgreduce --removemissing` after a backup) or leave the cluster first.",
        _lvm,
    ),
    Rule(
        "storage.special_volumes",
        "There are LVM snapshots, mirrors or thin volumes",
        Severity.WARNING,
        "Remove old snapshots; rehearse the rest before promising a window.",
        _special_volumes,
    ),
    Rule(
        "storage.no_snapshot_room",
        "A volume group has no room for a snapshot",
        Severity.INFO,
        "Nothing must be done: the last pass stops the services and remounts read-only.",
        _snapshot_room,
    ),
    Rule(
        "storage.filesystem_unknown",
        "A file system is of a kind Groundlift does not know",
        Severity.BLOCKER,
        "Copy its data by the application's own means, unmount it, and discover again; or waive "
        "this and prove by rehearsal that it arrives.",
        _kinds,
    ),
    Rule(
        "storage.filesystem_unmapped",
        "A file system is copied whole",
        Severity.INFO,
        "Allow time for it: free space of this kind is told apart only by being zero.",
        _unmapped,
    ),
    Rule(
        "storage.cluster_filesystem",
        "A cluster file system is mounted",
        Severity.BLOCKER,
        "Migrate the cluster as a whole or move the data to a local file system first.",
        _cluster,
    ),
    Rule(
        "storage.read_only",
        "A file system that should be writable is mounted read-only",
        Severity.WARNING,
        "Find out whether an error did it (see the kernel's log); repair it before the migration.",
        _read_only,
    ),
    Rule(
        "storage.free_space",
        "A file system is too full for the conversion",
        Severity.BLOCKER,
        "Delete or move files there, then discover again.",
        _free,
    ),
    Rule(
        "storage.free_inodes",
        "A file system is nearly out of inodes",
        Severity.BLOCKER,
        "Delete small files there (old sessions, spools), then discover again.",
        _inodes,
    ),
    Rule(
        "storage.remote_mounts",
        "File systems of other servers are mounted",
        Severity.WARNING,
        "Make sure that each server stays reachable from the domain's network, or moves with it.",
        _remote,
    ),
    Rule(
        "storage.disk_errors",
        "The kernel has seen disk errors",
        Severity.BLOCKER,
        "Back up now, replace the disk or find the cause, and discover again after a reboot.",
        _errors,
    ),
    Rule(
        "storage.pool_room",
        "The pool has too little room",
        Severity.BLOCKER,
        "Free space in the pool, enlarge it, or choose another one in cloud.yml.",
        _pool,
    ),
)
