"""A key as clients are given it: armoured, because rpm 4.8 reads nothing else, and alone, because
a client trusts every key in the file."""

import base64
import struct
import textwrap

from isomirror.openpgp import bound_blocks, dearmoured, packets

BEGIN = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
END = "-----END PGP PUBLIC KEY BLOCK-----"


def alone(raw: bytes) -> bytes:
    """The first key of a file that was read before, with the subkeys it vouches for; the file
    itself when it holds nothing else."""
    packed = dearmoured(raw)
    kept = [packet for block in bound_blocks(packed) for packet in block]
    if raw.count(BEGIN) == 1 and kept == list(packets(packed)):
        return raw
    return _armoured(
        b"".join(
            bytes([0x80 | tag << 2 | 2]) + struct.pack(">I", len(body)) + body
            for tag, body in kept
            if tag < 16  # the old format has no larger ones, and a key needs none
        )
    )


def _armoured(raw: bytes) -> bytes:
    """RFC 4880, chapter 6."""
    lines = textwrap.wrap(base64.b64encode(raw).decode(), 64)
    check = base64.b64encode(struct.pack(">I", _crc24(raw))[1:]).decode()
    return "\n".join([BEGIN.decode(), "", *lines, f"={check}", END, ""]).encode()


def _crc24(raw: bytes) -> int:
    value = 0xB704CE
    for byte in raw:
        value ^= byte << 16
        for _ in range(8):
            value <<= 1
            if value & 0x1000000:
                value ^= 0x1864CFB
    return value
