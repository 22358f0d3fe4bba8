"""As much OpenPGP as a signed RPM needs: RSA keys, V3 and V4 signatures (RFC 4880).

CentOS 6 signs with V3 packets and SHA-1, which today's libraries refuse. Here they are accepted,
but only from one key that is pinned by its fingerprint.
"""

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils

from core.errors import BadDocument

HASHES = {2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224"}
ALGORITHMS: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 (what CentOS 6 is signed with)
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
RSA = (1, 3)
SIGNATURE, PRIMARY, USER, SUBKEY = 2, 6, 13, 14  # packets
BINDS, REVOKES = 0x18, 0x28  # kinds of signatures over a subkey


class BadKey(BadDocument):
    """A key file is no OpenPGP public key, or not the key that is pinned."""


class Malformed(ValueError):
    """Bytes that are no OpenPGP packet."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature packet: what has to be hashed after the data, and the RSA number."""

    version: int
    hash: str
    key_id: str
    made: datetime
    trailer: bytes
    left: bytes
    value: bytes

    @property
    def kind(self) -> int:
        """What is signed: data, a key's name, a subkey (RFC 4880, section 5.2.1)."""
        return self.trailer[0 if self.version == 3 else 1]


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An RSA key or subkey; ``fingerprint`` is 40 upper-case hexadecimal digits."""

    fingerprint: str
    numbers: rsa.RSAPublicNumbers
    made: datetime

    @property
    def id(self) -> str:
        return self.fingerprint[-16:]


@dataclass(frozen=True, slots=True)
class KeyRing:
    """A primary key with the RSA subkeys that it vouches for. ``expires`` is None when the key
    never does."""

    primary: PublicKey
    keys: tuple[PublicKey, ...]
    expires: datetime | None
    user: str

    def expired(self, now: datetime) -> bool:
        """Whether the key's life is over; its signatures stay good."""
        return self.expires is not None and self.expires < now

    def verifies(self, signature: Signature, digest: bytes) -> bool:
        """Whether a key of this ring made ``signature`` over data whose digest this is."""
        for key in self.keys:
            if key.id == signature.key_id:
                return _rsa_verifies(key.numbers, signature, digest)
        return False


def _rsa_verifies(numbers: rsa.RSAPublicNumbers, signature: Signature, digest: bytes) -> bool:
    public = numbers.public_key()
    value = signature.value.rjust((public.key_size + 7) // 8, b"\0")
    algorithm = utils.Prehashed(ALGORITHMS[signature.hash])
    try:
        public.verify(value, digest, padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        return False
    return True


def read_key(raw: bytes, name: str) -> KeyRing:
    """An armoured or binary public key. Raises BadKey; ``name`` is the file's."""
    try:
        keys, expires, user = _read_key(dearmoured(raw))
    except (Malformed, ValueError, binascii.Error, OverflowError, OSError) as fault:
        raise BadKey(f"no OpenPGP public key: {fault}", where=name) from fault
    return KeyRing(keys[0], tuple(keys), expires, user)


def _read_key(raw: bytes) -> tuple[list[PublicKey], datetime | None, str]:
    blocks = bound_blocks(raw)
    keys = [key for block in blocks if (key := _public_key(block[0][1])) is not None]
    life, user = None, ""
    for tag, body in blocks[0]:
        if tag == USER and not user:
            user = "".join(c for c in body.decode("utf-8", "replace") if c.isprintable())
        elif tag == SIGNATURE and life is None:
            life = _lifetime(body)
    ends = keys[0].made.timestamp() + life if life else None
    return keys, datetime.fromtimestamp(ends, UTC) if ends else None, user


Block = list[tuple[int, bytes]]


def bound_blocks(raw: bytes) -> list[Block]:
    """The packets of the first key: the primary key with what belongs to it, then each subkey that
    it vouches for. Anybody can put a subkey of his own behind a key whose fingerprint is pinned;
    nobody but the key's owner can sign that it belongs there. Raises Malformed."""
    blocks: list[Block] = []
    for tag, body in packets(raw):
        if tag == PRIMARY and blocks:
            break  # a second key in the same file is not the pinned one
        if tag in (PRIMARY, SUBKEY):
            blocks.append([])
        if blocks:
            blocks[-1].append((tag, body))
    if not blocks or blocks[0][0][0] != PRIMARY:
        raise Malformed("no public key packet")
    body = blocks[0][0][1]
    primary = _public_key(body)
    if primary is None:
        raise Malformed("the primary key is no RSA key of version 4")
    return [blocks[0], *(block for block in blocks[1:] if _bound(primary, body, block))]


def _bound(primary: PublicKey, body: bytes, block: Block) -> bool:
    """Whether ``primary`` signed that the subkey of ``block`` is its own, and did not revoke it."""
    data = _framed(body) + _framed(block[0][1])
    kinds = set()
    for tag, packet in block[1:]:
        try:
            signature = _signature(packet) if tag == SIGNATURE else None
        except Malformed:
            continue
        if signature is None or signature.key_id not in ("", primary.id):
            continue
        digest = hashlib.new(signature.hash, data + signature.trailer, usedforsecurity=False)
        if _rsa_verifies(primary.numbers, signature, digest.digest()):
            kinds.add(signature.kind)
    return BINDS in kinds and REVOKES not in kinds


def _framed(body: bytes) -> bytes:
    """A key as it is hashed."""
    return b"\x99" + struct.pack(">H", len(body)) + body


def _public_key(body: bytes) -> PublicKey | None:
    if len(body) < 6 or body[0] != 4 or body[5] not in RSA:
        return None
    modulus, rest = _mpi(body[6:])
    exponent, _ = _mpi(rest)
    digest = hashlib.sha1(_framed(body)).hexdigest()  # noqa: S324
    made = datetime.fromtimestamp(struct.unpack_from(">I", body, 1)[0], UTC)
    numbers = rsa.RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big"))
    numbers.public_key()  # refuses numbers that are no key
    return PublicKey(digest.upper(), numbers, made)


def read_signature(raw: bytes) -> Signature:
    """The signature packet in ``raw``. Raises Malformed."""
    for tag, body in packets(raw):
        if tag == 2:
            return _signature(body)
    raise Malformed("no signature packet")


def _signature(body: bytes) -> Signature:
    try:
        if body[:1] in (b"\x02", b"\x03"):
            return _version3(body)
        if body[:1] == b"\x04":
            return _version4(body)
    except (IndexError, struct.error, KeyError, OverflowError) as fault:
        raise Malformed("a signature packet that is cut short or of an unknown kind") from fault
    raise Malformed(f"a signature of unknown version {body[:1].hex() or 'none'}")


def _version3(body: bytes) -> Signature:
    if body[1] != 5 or body[15] not in RSA:
        raise Malformed("a version 3 signature that is not RSA")
    value, _ = _mpi(body[19:])
    made = datetime.fromtimestamp(struct.unpack_from(">I", body, 3)[0], UTC)
    key_id = body[7:15].hex().upper()
    return Signature(3, HASHES[body[16]], key_id, made, body[2:7], body[17:19], value)


def _version4(body: bytes) -> Signature:
    if body[2] not in RSA:
        raise Malformed("a version 4 signature that is not RSA")
    hashed_end = 6 + struct.unpack_from(">H", body, 4)[0]
    loose_end = hashed_end + 2 + struct.unpack_from(">H", body, hashed_end)[0]
    value, _ = _mpi(body[loose_end + 2 :])
    parts = dict(_subpackets(body[hashed_end + 2 : loose_end]))
    parts.update(_subpackets(body[6:hashed_end]))
    made = datetime.fromtimestamp(int.from_bytes(parts.get(2, b"\0"), "big"), UTC)
    trailer = body[:hashed_end] + b"\x04\xff" + struct.pack(">I", hashed_end)
    key_id = parts.get(16, b"").hex().upper() or parts.get(33, b"")[-8:].hex().upper()
    left = body[loose_end : loose_end + 2]
    return Signature(4, HASHES[body[3]], key_id, made, trailer, left, value)


def _lifetime(body: bytes) -> int | None:
    """Seconds a key lives, from its self-signature; None when it says nothing."""
    if body[:1] != b"\x04" or len(body) < 6:
        return None
    end = 6 + struct.unpack_from(">H", body, 4)[0]
    life = dict(_subpackets(body[6:end])).get(9)
    return int.from_bytes(life, "big") if life else None


def _subpackets(area: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(area):
        length, position = _length(area, position)
        if length < 1 or position + length > len(area):
            raise Malformed("a subpacket longer than its area")
        yield area[position] & 0x7F, area[position + 1 : position + length]
        position += length


def packets(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and body of each packet. Raises Malformed."""
    position = 0
    while position < len(raw):
        first = raw[position]
        if not first & 0x80:
            raise Malformed(f"byte {position} starts no packet")
        if first & 0x40:
            tag = first & 0x3F
            length, start = _length(raw, position + 1)
        else:
            tag, kind = first >> 2 & 0xF, first & 3
            if kind == 3:
                raise Malformed("a packet of unknown length")
            start = position + 1 + (1 << kind)
            length = int.from_bytes(raw[position + 1 : start], "big")
        if start + length > len(raw):
            raise Malformed("a packet longer than its file")
        yield tag, raw[start : start + length]
        position = start + length


def _length(raw: bytes, position: int) -> tuple[int, int]:
    """A new-format length and where the body starts."""
    if position >= len(raw):
        raise Malformed("cut short")
    first = raw[position]
    if first < 192:
        return first, position + 1
    if first < 224 and position + 1 < len(raw):
        return (first - 192 << 8) + raw[position + 1] + 192, position + 2
    if first == 255 and position + 5 <= len(raw):
        return int.from_bytes(raw[position + 1 : position + 5], "big"), position + 5
    raise Malformed("a length that is cut short or partial")


def _mpi(raw: bytes) -> tuple[bytes, bytes]:
    if len(raw) < 2:
        raise Malformed("a number that is cut short")
    end = 2 + (struct.unpack_from(">H", raw)[0] + 7) // 8
    if end > len(raw):
        raise Malformed("a number longer than its packet")
    return raw[2:end], raw[end:]


def dearmoured(raw: bytes) -> bytes:
    """The packets of a key file, armoured or not. Raises Malformed."""
    if raw[:1] and raw[0] & 0x80:
        return raw
    block = re.search(
        rb"-----BEGIN PGP PUBLIC KEY BLOCK-----(.*?)-----END PGP PUBLIC KEY BLOCK-----",
        raw,
        re.DOTALL,
    )
    if block is None:
        raise Malformed("no armoured block")
    lines = block[1].replace(b"\r", b"").strip(b"\n").split(b"\n")
    if b"" in (line.strip() for line in lines):
        lines = lines[[line.strip() for line in lines].index(b"") + 1 :]
    return base64.b64decode(
        b"".join(line for line in lines if not line.startswith(b"=")), validate=True
    )
