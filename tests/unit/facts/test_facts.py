"""Facts against what machines said: cases/<machine>/<fact>.txt, and expected.json beside."""

# ruff: noqa: E501 (outputs of machines have long lines)

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from core.facts.fact import Fact, ask, clean, mask, parsed
from migrate.discover import FACTS
from tests.fakes.host import HANGS, FakeHost, answer

CASES = Path(__file__).parent / "cases"
BY_NAME = {fact.name: fact for fact in FACTS}
MACHINES = sorted(path.name for path in CASES.iterdir())


def plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return value


def read(machine: str) -> dict[str, object]:
    paths = sorted((CASES / machine).glob("*.txt"))
    replies = {path.stem: parsed(BY_NAME[path.stem], mask(path.read_text())) for path in paths}
    return {name: reply.missing or plain(reply.value) for name, reply in replies.items()}


@pytest.mark.parametrize("machine", MACHINES)
def test_what_a_machine_said_is_understood(machine: str) -> None:
    expected = json.loads((CASES / machine / "expected.json").read_text())
    assert read(machine) == expected


def test_every_fact_has_a_case() -> None:
    covered = {path.stem for path in CASES.glob("*/*.txt")}
    assert set(BY_NAME) - covered <= {"modules"}  # a list of names, like drivers


HOSTILE = {
    "uname": ["", "Linux a b", "Linux ../../etc 2.6 x86_64", "Linux \x1b[31mred 2.6 x86_64"],
    "release": ["", "\0\1\2\3", "==> /etc/redhat-release <==\n\n"],
    "cpu": ["", "processor : x\n", "processor : 0\n" * 5000],
    "memory": ["", "MemTotal: -5 kB\nMemFree: 1 kB", "MemTotal: " + "9" * 400 + " kB", "MemTotal: 0 kB\nMemFree: 0 kB"],
    "firmware": ["coreboot", "bios\nuefi"],
    "disks": ["", "sda\tsize\t99999999999999999999", "../../etc\tsize\t1", "sda size 1", "sda\tsize\t0x10"],
    "partitions": ["sda1\tdisk\tsda\nsda1\tstart\t-1\nsda1\tsize\t5", "sdax\tdisk\tsda\nsdax\tstart\t1\nsdax\tsize\t5"],
    "volume_groups": ["vg|1|2", "vg one|1|2|wz--n-", "vg|1e30|2|wz--n-"],
    "logical_volumes": ["vg|../../x|1|-wi-ao", "vg|$(id)|1|-wi-ao"],
    "multipath": ["mpatha: 0 1 multipath", "table\tmpatha: 0 x multipath 8:16", "table\tm", "device\ta b\t8:0"],
    "wwids": ["sda 3600508b4000971ca", "../x\t3600508b4000971ca"],
    "md": ["md0 : active raid1 ../../etc/passwd[0]", "md$(id) : active raid1 sda1[0]", "md0 : active raid1 sda1[99999999]"],
    "boot_code": ["sda sdb", "$(id)"],
    "mounts": ["", "/dev/sda1 /../../etc ext4 rw", "/dev/sda1 / ext4", "/dev/sda1 /a\\033[31m ext4 rw 0 0"],
    "space": ["", "Filesystem\n/dev/sda1 many 1 1 1% /", "x\n/dev/sda1 1 1 1 1% relative"],
    "swaps": ["Filename\n../../swap file 1 1 1"],
    "interfaces": ["", "eth0\taddress\tnot-a-mac\neth0\ttype\t1", "eth0\taddress\t00:11:22:33:44:55\neth0\ttype\t1\neth0\tmtu\t99999999999"],
    "addresses": ["", "2: eth0 inet 300.1.1.1/24", "2: eth0; inet 10.1.1.1/24"],
    "gateway": ["Iface\neth0 00000000 ZZZZZZZZ 0003 0 0 0 00000000"],
    "nameservers": ["nameserver <script>"],
    "sockets": ["tcp 0: xyz 0:0 0A", "tcp 0: 0100007F:0CEA", "tcp6 0: 00:0050 00:0000 0A"],
    "pci": ["0000:00:00.0\tclass\tzz\n0000:00:00.0\tvendor\t1\n0000:00:00.0\tdevice\t1", "a b\tclass\t0"],
    "services": ["", "a;b\tstate\trunning"],
    "processes": ["", "PID USER COMMAND\nabc root x"],
    "sessions": ["relative/sess_1", "/tmp/../etc/shadow"],
    "databases": ["-1\t/var/lib/mysql", "5\t/var/../etc"],
    "clock": ["", "yesterday", "9" * 30],
    "disk_errors": ["", "none"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in HOSTILE.items() for text in texts]
)
def test_nonsense_is_missing_with_a_reason(name: str, text: str) -> None:
    reply = parsed(BY_NAME[name], text)
    assert reply.value is None
    assert reply.missing.startswith("can't be understood: ")
    assert reply.missing.isprintable()


JUNK = st.one_of(
    st.text(max_size=400),
    st.binary(max_size=400).map(lambda data: data.decode("utf-8", "backslashreplace")),
)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.name)
@settings(max_examples=60, deadline=None)
@given(junk=JUNK, data=st.data())
@example(junk="\0", data=None)
def test_no_output_whatever_breaks_a_parser(fact: Fact[object], junk: str, data: object) -> None:
    reply = parsed(fact, junk)
    assert (reply.value is None) == bool(reply.missing)


@pytest.mark.parametrize("name", sorted({p.stem for p in CASES.glob("*/*.txt")}))
@settings(max_examples=40, deadline=None)
@given(seed=st.randoms(use_true_random=False))
def test_damaged_true_outputs_never_break_a_parser(name: str, seed: object) -> None:
    text = next(CASES.glob(f"*/{name}.txt")).read_text()
    for _ in range(seed.randint(1, 5)):
        at, end = sorted((seed.randint(0, len(text)), seed.randint(0, len(text))))
        text = (
            text[:at] + seed.choice(["", "\0", "\x1b[2J", "-1", "|", "\t", "9" * 40]) + text[end:]
        )
    reply = parsed(BY_NAME[name], text)
    assert (reply.value is None) == bool(reply.missing)


def test_a_flood_is_no_answer() -> None:
    host = FakeHost(answers={"cat": answer(b"x" * 2_000_000)})
    reply = ask(host, BY_NAME["fstab"], 5)
    assert (reply.value, reply.output) == (None, "")
    assert "2000000 bytes" in reply.missing


def test_a_refused_command_is_missing_and_an_absent_tool_can_be_an_answer() -> None:
    refused = FakeHost(answers={"vgs": answer(code=5, stderr="  Permission denied\n")})
    assert ask(refused, BY_NAME["volume_groups"], 5).missing == "exit code 5: Permission denied"
    assert ask(FakeHost(), BY_NAME["volume_groups"], 5).value == ()


def test_a_command_that_hangs_is_missing_while_the_host_lives() -> None:
    host = FakeHost(answers={"ip": answer(code=HANGS), "true": answer()})
    assert "did not end" in ask(host, BY_NAME["addresses"], 5).missing


@pytest.mark.parametrize(
    "text",
    [
        "java -Ddb.password=hunter2 -jar x",
        "mysqldump -u root -phunter2 shop",
        "curl http://app:hunter2@10.0.0.1/",
        "app --api-key hunter2",
        "DB_PASSWD='hunter2'",
        "token: hunter2",
        "sshpass --password hunter2 ssh x",
    ],
)
def test_passwords_are_starred_out(text: str) -> None:
    assert "hunter2" not in mask(text)
    assert "****" in mask(text)


def test_masking_leaves_what_is_no_secret() -> None:
    for text in (
        "yppasswdd\tenabled\tenabled",
        "/usr/sbin/sshd -D",
        "systemd-ask-password.service",
    ):
        assert mask(text) == text


@settings(deadline=1000)
@given(st.text(alphabet="pasword:=-/@mysqlt \n", max_size=2000))
def test_masking_twice_is_masking_once(text: str) -> None:
    assert mask(mask(text)) == mask(text)


def test_masking_a_long_line_is_quick() -> None:
    mask("password" * 60_000)
    mask("mysql " * 80_000)
    mask("://" + "a:" * 200_000)


def test_cleaned_text_is_one_printable_line() -> None:
    assert clean("a\x1b[31mb\nc\u202ed") == "a [31mb c d"
    assert len(clean("x" * 10_000)) == 200
