"""What is read of a server's disks: each LUN once, one leg of a mirror; in doubt everything."""

from collections.abc import Iterable
from typing import Any

from core.facts.sets import md
from migrate.plan import draft, text
from migrate.reading import on, reading, unsettled
from migrate.source import SourceHost
from tests.unit.rules.healthy import HOST, subject

GIB = 1024**3
WWID = "3600508b4000971ca0000f00010650000"
OTHER = "3600508b4000971ca0000f00010660000"


def disk(name: str, **more: object) -> dict[str, object]:
    path = f"/dev/{name.replace('!', '/')}"
    return {"name": name, "path": path, "size": 10 * GIB, **more}


def parts(name: str, *numbers: int, size: int = GIB) -> list[dict[str, object]]:
    middle = "p" if name[-1].isdigit() else ""
    path = f"/dev/{name.replace('!', '/')}{middle}"
    return [
        {"disk": name, "path": f"{path}{n}", "number": n, "start": n * GIB, "size": size}
        for n in numbers
    ]


def server(**fields: Any) -> SourceHost:
    return subject(host=fields).host


def mirrored(*lines: str, disks: Iterable[dict[str, object]] = (), **more: Any) -> SourceHost:
    """sda and sdb with two partitions each; the arrays as /proc/mdstat tells."""
    reply = md.parse("\n".join(lines))
    return server(
        disks=list(disks) or [disk("sda", boots=True), disk("sdb", boots=True)],
        partitions=more.pop("partitions", [*parts("sda", 1, 2), *parts("sdb", 1, 2)]),
        md_arrays=[array.model_dump() for array in reply],
        **more,
    )


def raid1(name: str, *members: str, up: str = "UU", level: str = "raid1") -> str:
    return f"{name} : active {level} {' '.join(members)}\n      511936 blocks [2/2] [{up}]"


BOTH = (raid1("md0", "sdb1[1]", "sda1[0]"), raid1("md1", "sdb2[1]", "sda2[0]"))


def read(host: SourceHost) -> list[str]:
    return [unit.source for unit in reading(host).units]


def left(host: SourceHost) -> list[tuple[str, str]]:
    return [(leg.left.source, leg.kept.source) for leg in reading(host).legs]


def why(host: SourceHost) -> list[tuple[str, str]]:
    return list(unsettled(host, reading(host)))


def test_a_map_is_read_once_by_its_name() -> None:
    disks = [disk("sda"), disk("sdb", wwid=WWID), disk("sdc", wwid=WWID)]
    maps = [{"name": "mpath0", "wwid": WWID, "size": 10 * GIB, "disks": ["sdb", "sdc"]}]
    host = server(disks=disks, multipaths=maps)
    assert read(host) == ["/dev/sda", "/dev/mapper/mpath0"]
    assert reading(host).doubts == ()


def test_a_path_that_fell_out_of_its_map_is_no_disk_of_its_own() -> None:
    disks = [disk("sdb", wwid=WWID), disk("sdc", wwid=WWID), disk("sdd", wwid=OTHER)]
    maps = [{"name": "mpath0", "wwid": WWID, "size": 10 * GIB, "disks": ["sdc"]}]
    assert read(server(disks=disks, multipaths=maps)) == ["/dev/mapper/mpath0", "/dev/sdd"]


def test_a_disk_that_does_not_fit_its_map_is_read_too() -> None:
    """Whoever waives the doubt, for one name of two disks, loses none of them."""
    disks = [disk("sdb", wwid=WWID, size=20 * GIB), disk("sdc", wwid=WWID), disk("sdd", wwid=WWID)]
    maps = [{"name": "mpath0", "wwid": WWID, "size": 10 * GIB, "disks": ["sdc", "sdd"]}]
    host = server(disks=disks, multipaths=maps)
    assert read(host) == ["/dev/sdb", "/dev/mapper/mpath0"]
    assert len(reading(host).doubts) == 1


def test_without_wwids_the_map_alone_tells_its_paths() -> None:
    disks = [disk("sdb"), disk("sdc")]
    maps = [{"name": "mpath0", "size": 10 * GIB, "disks": ["sdb", "sdc"]}]
    assert read(server(disks=disks, multipaths=maps)) == ["/dev/mapper/mpath0"]


def test_without_a_map_one_wwid_is_one_disk_by_its_first_path() -> None:
    host = server(disks=[disk("sda", wwid=WWID), disk("sdb", wwid=WWID), disk("sdc", wwid=OTHER)])
    assert read(host) == ["/dev/sda", "/dev/sdc"]


def test_of_paths_without_a_map_the_one_in_use_is_read() -> None:
    """A passive path answers reads with errors."""
    disks = [disk("sda", wwid=WWID), disk("sdb", wwid=WWID), disk("sdc", wwid=WWID)]
    host = server(disks=disks, partitions=parts("sdb", 1))
    assert read(host) == ["/dev/sdb"]
    used = {"partitions": [*parts("sdb", 1), *parts("sdc", 1)], "swaps": ["/dev/sdc1"]}
    assert read(server(disks=disks, **used)) == ["/dev/sdc"]


def test_one_wwid_with_two_sizes_is_a_doubt_and_both_are_read() -> None:
    host = server(disks=[disk("sda", wwid=WWID), disk("sdb", wwid=WWID, size=20 * GIB)])
    assert read(host) == ["/dev/sda", "/dev/sdb"]
    assert reading(host).doubts == (
        ("sizes of 10737418240, 21474836480 bytes", "/dev/sda, /dev/sdb"),
    )


def test_one_wwid_with_two_tables_or_in_one_array_is_a_doubt() -> None:
    disks = [disk("sda", wwid=WWID), disk("sdb", wwid=WWID)]
    host = server(disks=disks, partitions=[*parts("sda", 1), *parts("sdb", 1, 2)])
    assert (read(host), reading(host).doubts[0][0]) == (
        ["/dev/sda", "/dev/sdb"],
        "different partitions",
    )
    host = mirrored(raid1("md0", "sda1[0]", "sdb1[1]"), disks=disks)
    assert reading(host).doubts[0][0] == "both in md0"


def test_disks_without_a_wwid_are_disks_of_their_own() -> None:
    assert read(server(disks=[disk("sda"), disk("sdb")])) == ["/dev/sda", "/dev/sdb"]


def test_a_map_gets_a_file_name_of_its_name_and_fits_the_plan() -> None:
    maps = [{"name": "ora+data:1", "size": 10 * GIB, "disks": ["sdb"]}]
    plan = draft(subject(host={"disks": [disk("sdb")], "multipaths": maps}), "ab" * 32)
    (planned,) = plan.disks
    assert planned.source == "/dev/mapper/ora+data:1"
    assert planned.replica == "web1-ora-data-1.replica.raw"
    assert "leg" not in text(plan)


def test_of_two_legs_in_step_the_first_is_read() -> None:
    host = mirrored(*BOTH)
    assert (read(host), left(host)) == (["/dev/sda"], [("/dev/sdb", "/dev/sda")])
    assert reading(host).legs[0].arrays == ("md0", "md1")
    assert why(host) == []


def test_the_plan_knows_that_a_leg_travels_alone() -> None:
    fields = mirrored(*BOTH).model_dump()
    plan = draft(subject(host=fields), "ab" * 32)
    assert [(disk.source, disk.leg) for disk in plan.disks] == [("/dev/sda", True)]
    assert "  leg: true" in text(plan)


def test_the_leg_with_the_boot_loader_is_read() -> None:
    host = mirrored(*BOTH, disks=[disk("sda"), disk("sdb", boots=True)])
    assert left(host) == [("/dev/sda", "/dev/sdb")]


def test_a_stale_leg_is_never_read_for_the_other() -> None:
    for marked in ("sda2[0](F)", "sda2[2](S)"):
        host = mirrored(BOTH[0], raid1("md1", "sdb2[1]", marked, up="_U"))
        assert left(host) == [("/dev/sda", "/dev/sdb")]


def test_a_leg_that_is_being_rebuilt_is_never_read_for_the_other() -> None:
    busy = "\n      [=>....]  recovery =  7.6% (3/4) finish=62.5min"
    array = raid1("md1", "sdb2[2]", "sda2[0]", up="U_") + busy
    states = "\n".join(
        f"/sys/block/md1/md/dev-{name}/state {state}"
        for name, state in (("sda2", "in_sync"), ("sdb2", "spare"))
    )
    assert left(mirrored(BOTH[0], array, states)) == [("/dev/sdb", "/dev/sda")]
    assert left(mirrored(BOTH[0], array)) == []  # before 2.6.18 nobody tells which one it is


def test_legs_that_are_stale_in_turn_are_both_read() -> None:
    host = mirrored(
        raid1("md0", "sdb1[1](F)", "sda1[0]", up="U_"),
        raid1("md1", "sdb2[1]", "sda2[0](F)", up="_U"),
    )
    assert (read(host), left(host)) == (["/dev/sda", "/dev/sdb"], [])
    assert why(host)[0] == ("md1 has no leg in step on /dev/sda", "md0")


def test_an_array_that_is_not_yet_in_step_keeps_both() -> None:
    host = mirrored(BOTH[0], BOTH[1] + "\n      [>...]  resync =  1.0% (1/2) finish=2min")
    assert read(host) == ["/dev/sda", "/dev/sdb"]
    assert why(host)[1] == ("resync is under way", "md1")
    checked = mirrored(BOTH[0], BOTH[1] + "\n      [>...]  check =  1.0% (1/2) finish=2min")
    assert read(checked) == ["/dev/sda"]


def test_swap_beside_the_arrays_keeps_both() -> None:
    partitions = [*parts("sda", 1, 2, 3), *parts("sdb", 1, 2, 3)]
    host = mirrored(*BOTH, partitions=partitions, swaps=["/dev/sda3", "/dev/sdb3"])
    assert read(host) == ["/dev/sda", "/dev/sdb"]
    assert why(host)[0] == ("/dev/sdb3 is swap in use", "md0")


def test_any_other_partition_keeps_both_but_an_extended_ones_shell() -> None:
    partitions = [*parts("sda", 1, 2), *parts("sdb", 1, 2, 3)]
    host = mirrored(*BOTH, partitions=partitions)
    assert left(host) == [("/dev/sda", "/dev/sdb")]  # all on sda is on sdb too
    partitions = [*parts("sda", 1, 2, 3), *parts("sdb", 1, 2, 3)]
    assert left(mirrored(*BOTH, partitions=partitions)) == []
    partitions = [*parts("sda", 1, 2), *parts("sdb", 1, 2), *parts("sdb", 4, size=1024)]
    assert left(mirrored(*BOTH, partitions=partitions)) == [("/dev/sdb", "/dev/sda")]


def test_other_levels_need_all_their_disks() -> None:
    for level in ("raid0", "raid5", "raid6", "raid10", "linear"):
        host = mirrored(BOTH[0], raid1("md1", "sdb2[1]", "sda2[0]", level=level))
        assert read(host) == ["/dev/sda", "/dev/sdb"]
        assert why(host)[1] == (f"{level}, all members are needed", "md1")


def test_three_legs_are_one_disk() -> None:
    host = mirrored(
        raid1("md0", "sdc1[2]", "sdb1[1]", "sda1[0]", up="UUU"),
        disks=[disk("sda", boots=True), disk("sdb"), disk("sdc")],
        partitions=[*parts("sda", 1), *parts("sdb", 1), *parts("sdc", 1)],
    )
    assert left(host) == [("/dev/sdb", "/dev/sda"), ("/dev/sdc", "/dev/sda")]


def test_whole_disks_and_controller_names_are_legs_too() -> None:
    names = ["cciss!c0d0", "cciss!c0d1"]
    host = mirrored(
        raid1("md0", "cciss/c0d1p1[1]", "cciss/c0d0p1[0]"),
        disks=[disk(name) for name in names],
        partitions=[*parts(names[0], 1), *parts(names[1], 1)],
    )
    assert left(host) == [("/dev/cciss/c0d1", "/dev/cciss/c0d0")]
    host = mirrored(raid1("md_d0", "sdb[1]", "sda[0]"))  # their partitions are the array's
    assert left(host) == [("/dev/sdb", "/dev/sda")]


def test_what_is_not_known_leaves_nothing_out() -> None:
    for fact in ("md", "partitions"):
        host = mirrored(*BOTH).model_copy(update={"missing": {fact: "no answer"}})
        assert read(host) == ["/dev/sda", "/dev/sdb"]
    assert read(mirrored(*BOTH, partitions=[])) == ["/dev/sda", "/dev/sdb"]


def test_arrays_of_a_firmware_or_that_do_not_run_keep_their_disks() -> None:
    inactive = "md127 : inactive sdb[1](S) sda[0](S)\n      4514 blocks super external:imsm"
    host = mirrored("md126 : active raid1 sda[1] sdb[0]\n      1 blocks super external:/md127/0 "
                    "[2/2] [UU]", inactive)  # fmt: skip
    assert read(host) == ["/dev/sda", "/dev/sdb"]
    assert why(host) == [("a firmware describes it", "md126"), ("it does not run", "md127")]


def test_a_mirror_of_two_luns_keeps_both() -> None:
    maps = [
        {"name": "a", "wwid": WWID, "size": 10 * GIB, "disks": ["sda"]},
        {"name": "b", "wwid": OTHER, "size": 10 * GIB, "disks": ["sdb"]},
    ]
    host = mirrored(raid1("md0", "dm-3[1]", "dm-2[0]"), multipaths=maps)
    assert read(host) == ["/dev/mapper/a", "/dev/mapper/b"]
    assert why(host) == [("its members are no disks or partitions", "md0")]


def test_a_partition_belongs_to_the_disk_of_its_name() -> None:
    assert on("/dev/sda1", "/dev/sda")
    assert on("/dev/cciss/c0d0p2", "/dev/cciss/c0d0")
    assert on("/dev/nvme0n1p12", "/dev/nvme0n1")
    assert not on("/dev/sdaa1", "/dev/sda")
    assert not on("/dev/cciss/c0d01", "/dev/cciss/c0d0")
    assert not on("/dev/cciss/c0d10p1", "/dev/cciss/c0d1")


def test_a_plain_server_is_read_as_it_was() -> None:
    assert read(HOST) == ["/dev/sda"]
