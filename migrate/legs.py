"""A leg of a mirror that travels alone. It must be in step when it is copied, and its arrays must
have run without the other legs once before virt-v2v looks for a system on it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from core.errors import Blocked, OutsideFailed
from core.facts import sets
from core.facts.fact import ask
from core.ports import Host
from migrate.plan import DiskPlan, Plan
from migrate.reading import on

PATIENCE = 900.0  # seconds; an emulated appliance on a busy machine
# libguestfs does not start an array that lacks legs it had when it ran last, and finds no system
# then. Run once, writably, the array itself says that it has one leg from now on. The domain's
# own kernel would do the same at its first start. (guestfish takes no apostrophe in here.)
START = """
arrays=
for m in /sys/block/md*/md; do
  n=${m#/sys/block/}; n=${n%/md}
  read version < $m/metadata_version
  read state < $m/array_state
  case $version in external*) continue ;; esac
  arrays="$arrays $n"
  test $state != inactive && continue
  mdadm --run /dev/$n && mdadm --readwrite /dev/$n || exit 1
done
lvm vgchange -an >/dev/null 2>&1
for n in $arrays; do mdadm --stop /dev/$n || exit 1; done
"""


def check(source: Host, plan: Plan, *, rescue: bool = False) -> None:
    """See that what was read is what the server's arrays hold. Raises Blocked when a leg that is
    read without the others fell out of step, or when that can't be seen."""
    legs = [disk for disk in plan.disks if disk.leg]
    if not legs:
        return
    reply = ask(source, sets.md, 60)
    if reply.value is None:
        raise Blocked(f"its arrays can't be seen: {reply.missing}", where=source.name)
    for leg in legs:
        states = {
            f"{array.name} is {'' if array.active else 'not running, '}{member.state} there"
            for array in reply.value
            for member in array.members
            if on(member.path, leg.source) and (member.state != "in_sync" or not array.active)
        }
        there = any(on(m.path, leg.source) for array in reply.value for m in array.members)
        if states or not there:
            raise Blocked(
                f"{leg.source} is no leg in step: "
                + (", ".join(sorted(states)) or "no array on it is assembled"),
                hint="`mdadm --assemble --scan --readonly` in the rescue system, then again"
                if rescue
                else "bring the arrays into step, then discover, assess and plan anew",
                where=source.name,
            )


def start(
    local: Host, around: Sequence[str], disks: Iterable[DiskPlan], overlays: Sequence[Path]
) -> bool:
    """Have the arrays of lone legs run once, in the overlays; ``around`` is what programs of a
    conversion are called with. False when there are none."""
    if not any(disk.leg for disk in disks):
        return False
    added = [word for path in overlays for word in ("--format=qcow2", "-a", str(path))]
    argv = (*around, "guestfish", *added, "run", ":", "debug", "sh", START)
    done = local.run(argv, timeout=PATIENCE)
    if done.code:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        raise OutsideFailed(
            f"the arrays on one leg can't be started: {said[-1][:300] if said else done.code}",
            hint="`leg:` in plan.yml says that the other legs are not read; is that so?",
            where=local.name,
        )
    return True
