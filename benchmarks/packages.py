"""Many packages in CentOS 6's shape, quickly: rpm 4.8's headers, V3 signatures, no newer digests.

rpmbuild would take minutes for thousands of packages, and today's adds a payload digest that CentOS
6's packages do not have. What is written here is judged by rpmkeys and read by createrepo_c.
"""

import gzip
import hashlib
import os
import struct
import subprocess
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CHAR, INT16, INT32, STRING, BINARY, STRINGS, I18N = 1, 3, 4, 6, 7, 8, 9
WHEN = 1341569670
FILES = 30  # of a package, as on CentOS 6.3's DVDs on average


@dataclass(frozen=True)
class Signer:
    """An RSA key out of gpg, which would sign a few packages a second."""

    private: bytes
    key_id: bytes

    def packet(self, data: bytes) -> bytes:
        """A V3 signature with SHA-256 over ``data``."""
        numbers = [int.from_bytes(part, "big") for part in _parts(self.private)]
        n, e, d, p, q = numbers
        public = rsa.RSAPublicNumbers(e, n)
        key = rsa.RSAPrivateNumbers(
            p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), public
        ).private_key(unsafe_skip_rsa_key_validation=True)
        hashed = struct.pack(">BI", 0, WHEN)
        digest = hashlib.sha256(data + hashed).digest()
        value = key.sign(data + hashed, padding.PKCS1v15(), hashes.SHA256()).lstrip(b"\0")
        bits = int.from_bytes(value, "big").bit_length()
        body = b"\3\5" + hashed + self.key_id + b"\1\10" + digest[:2] + struct.pack(">H", bits)
        return b"\x89" + struct.pack(">H", len(body + value)) + body + value


def _parts(raw: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack_from(">H", raw, at)
        found.append(raw[at + 2 : at + 2 + length])
        at += 2 + length
    return found


def signer(home: Path, key_id: str) -> Signer:
    """The key of a gpg home without a passphrase (RFC 4880, 5.5.3)."""
    gpg = ("gpg", "--homedir", str(home), "--batch", "-q", "--export-secret-keys", key_id)
    raw = subprocess.run(gpg, capture_output=True, check=True).stdout
    assert raw[0] in (0x95, 0x94), "a secret key with a length of one or two bytes"
    at = 3 + 6 if raw[0] == 0x95 else 2 + 6  # behind version, time and algorithm
    numbers = []
    for number in range(5):  # n, e, then d, p, q behind the octet that says: not encrypted
        if number == 2:
            assert raw[at] == 0
            at += 1
        (bits,) = struct.unpack_from(">H", raw, at)
        length = (bits + 7) // 8
        numbers.append(raw[at + 2 : at + 2 + length])
        at += 2 + length
    packed = b"".join(struct.pack(">H", len(number)) + number for number in numbers)
    return Signer(packed, bytes.fromhex(key_id[-16:]))


def _header(region: int, tags: dict[int, tuple[int, object]]) -> bytes:
    """A header with its region, as rpm signs it."""
    entries, store = [], b""
    for tag, (kind, value) in sorted(tags.items()):
        store += bytes(-len(store) % {INT16: 2, INT32: 4}.get(kind, 1))
        raw, count = _value(kind, value)
        entries.append(struct.pack(">IIII", tag, kind, len(store), count))
        store += raw
    size = 16 * (len(entries) + 1)
    entries.insert(0, struct.pack(">IIII", region, BINARY, len(store), 16))
    store += struct.pack(">IIiI", region, BINARY, -size, 16)
    return b"\x8e\xad\xe8\1\0\0\0\0" + struct.pack(">II", size // 16, len(store)) + b"".join(
        entries
    ) + store  # fmt: skip


def _value(kind: int, value: object) -> tuple[bytes, int]:
    if kind in (STRING, I18N):
        return str(value).encode() + b"\0", 1
    if kind == BINARY:
        assert isinstance(value, bytes)
        return value, len(value)
    assert isinstance(value, list)
    if kind == STRINGS:
        return b"".join(str(text).encode() + b"\0" for text in value), len(value)
    letter = {INT16: "H", INT32: "I"}[kind]
    return struct.pack(f">{len(value)}{letter}", *value), len(value)


def package(number: int, count: int, size: int) -> tuple[bytes, bytes]:
    """Header and payload of one package, which requires another one."""
    name = f"package-{number:05d}"
    paths = [f"file-{index:02d}.so" for index in range(FILES)]
    content = os.urandom(size // FILES)
    cpio = b""
    for index, path in enumerate(paths):
        cpio += _entry(f"./usr/lib64/{name}/{path}", content, index + 1)
    cpio += _entry("TRAILER!!!", b"", 0)
    packed = gzip.compress(cpio, 0, mtime=0)
    provided, needed = [name, f"lib{name}.so.1()(64bit)"], (number * 7 + 1) % count
    many = len(paths)
    header = _header(63, {
        1000: (STRING, name), 1001: (STRING, "1.0"), 1002: (STRING, "1.el6"),
        1004: (I18N, "A package"), 1005: (I18N, "A package of the benchmark.\n" * 8),
        1006: (INT32, [WHEN]), 1007: (STRING, "builder"), 1009: (INT32, [many * len(content)]),
        1014: (STRING, "GPLv2"), 1016: (I18N, "System"), 1021: (STRING, "linux"),
        1022: (STRING, "x86_64"), 1044: (STRING, f"{name}-1.0-1.el6.src.rpm"),
        1028: (INT32, [len(content)] * many), 1030: (INT16, [0o100755] * many),
        1033: (INT16, [0] * many), 1034: (INT32, [WHEN] * many),
        1035: (STRINGS, [hashlib.sha256(content).hexdigest()] * many),
        1036: (STRINGS, [""] * many), 1037: (INT32, [0] * many),
        1039: (STRINGS, ["root"] * many), 1040: (STRINGS, ["root"] * many),
        1045: (INT32, [0xFFFFFFFF] * many), 1047: (STRINGS, provided),
        1048: (INT32, [0, 0x1000008, 0x1000008]),
        1049: (STRINGS, [f"libpackage-{needed:05d}.so.1()(64bit)",
                         "rpmlib(CompressedFileNames)", "rpmlib(FileDigests)"]),
        1050: (STRINGS, ["", "3.0.4-1", "4.6.0-1"]),
        1080: (INT32, [WHEN - 86400 * day for day in range(10)]),
        1081: (STRINGS, ["Somebody <somebody@example.invalid> 1.0-1"] * 10),
        1082: (STRINGS, ["- rebuild it with the newer compiler"] * 10),
        1095: (INT32, [1] * many), 1096: (INT32, list(range(1, many + 1))),
        1097: (STRINGS, [""] * many), 1112: (INT32, [8, 0]),
        1113: (STRINGS, ["1.0-1.el6", ""]), 1116: (INT32, [0] * many), 1117: (STRINGS, paths),
        1118: (STRINGS, [f"/usr/lib64/{name}/"]), 1124: (STRING, "cpio"),
        1125: (STRING, "gzip"), 1126: (STRING, "9"), 5011: (INT32, [8]),
    })  # fmt: skip
    return header, packed


def _entry(path: str, content: bytes, inode: int) -> bytes:
    mode, name = (0o100755 if inode else 0), path.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, WHEN, len(content), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    head += bytes(-len(head) % 4)
    return head + content + bytes(-len(content) % 4)


def write(directory: Path, key: Signer, count: int, size: int, number: int) -> None:
    """One signed file."""
    header, payload = package(number, count, size)
    both = header + payload
    signature = _header(62, {
        268: (BINARY, key.packet(header)), 269: (STRING, hashlib.sha1(header).hexdigest()),
        1000: (INT32, [len(both)]), 1002: (BINARY, key.packet(both)),
        1004: (BINARY, hashlib.md5(both).digest()), 1007: (INT32, [len(payload)]),
    })  # fmt: skip
    name = f"package-{number:05d}-1.0-1.el6"
    lead = struct.pack(">4sBBHH66sHH16x", b"\xed\xab\xee\xdb", 3, 0, 0, 1, name.encode(), 1, 5)
    with (directory / f"{name}.x86_64.rpm").open("wb") as file:
        file.write(lead + signature + bytes(-len(signature) % 8) + both)


def write_all(directories: tuple[Path, ...], key: Signer, count: int, size: int) -> None:
    """``count`` packages of about ``size`` bytes, spread over the directories."""
    with ProcessPoolExecutor() as pool:
        for part, directory in enumerate(directories):
            numbers = range(part, count, len(directories))
            work = partial(write, directory, key, count, size)
            list(pool.map(work, numbers, chunksize=50))
