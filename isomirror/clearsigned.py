"""Text that is signed and stays readable, as checksum files are (RFC 4880, section 7)."""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from core.errors import BadDocument
from isomirror.openpgp import KeyRing, Malformed, Signature, read_signature

BLOCK = re.compile(
    rb"-----BEGIN PGP SIGNED MESSAGE-----\r?\n((?:[^\r\n]+\r?\n)*)[ \t]*\r?\n(.*?)\r?\n"
    rb"-----BEGIN PGP SIGNATURE-----\r?\n(.*?)-----END PGP SIGNATURE-----",
    re.DOTALL,
)
MARK = b"-----BEGIN PGP SIGNED"
LIMIT = 64 * 1024 * 1024
TEXTS = 16
TEXT, BINARY = 1, 0


@dataclass(frozen=True, slots=True)
class Clear:
    """``text`` is what the signature covers; ``key_id`` whose it claims to be."""

    text: bytes
    signature: Signature

    @property
    def key_id(self) -> str:
        return self.signature.key_id

    def good(self, ring: KeyRing) -> bool:
        """Whether a key of ``ring`` signed exactly this text."""
        if self.signature.kind not in (TEXT, BINARY):
            return False
        lines = self.text.replace(b"\r\n", b"\n").split(b"\n")
        canonical = b"\r\n".join(line.rstrip(b" \t") for line in lines)
        digest = hashlib.new(self.signature.hash, usedforsecurity=False)
        digest.update(canonical + self.signature.trailer)
        return ring.verifies(self.signature, digest.digest())


def read(raw: bytes, where: str) -> tuple[Clear, ...]:
    """The signed texts in ``raw``, of which nothing else should be believed. Raises BadDocument."""
    if raw.count(MARK) > TEXTS:  # each is looked for to the file's end
        raise BadDocument(f"more than {TEXTS} signed texts", where=where,
                          hint="give the publisher's own checksum file")  # fmt: skip
    found = tuple(_clear(match, where) for match in BLOCK.finditer(raw[:LIMIT]))
    if len(found) != raw.count(MARK):
        raise BadDocument("the signed text is cut short", where=where, hint="copy the file again")
    return found


def _clear(match: re.Match[bytes], where: str) -> Clear:
    text = re.sub(rb"^- ", b"", match[2], flags=re.MULTILINE)
    armour = match[3].replace(b"\r", b"").split(b"\n\n", 1)[-1].split(b"\n")
    packed = b"".join(line.strip() for line in armour if not line.startswith(b"="))
    try:
        return Clear(text, read_signature(base64.b64decode(packed, validate=True)))
    except (Malformed, binascii.Error, ValueError, OverflowError) as fault:
        raise BadDocument(f"the signature can't be read: {fault}", where=where) from fault
