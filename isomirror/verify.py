"""Is a package what its maker signed? One pass over its bytes answers, wherever they lie.

Every digest and every signature that the package carries must be right, the signature must be of
the pinned key, and it must cover the payload: directly (SIGPGP), or through a payload digest in a
signed header. The MD5 alone covers nothing, because nobody signs it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from isomirror.openpgp import KeyRing, Malformed, Signature, read_signature
from isomirror.rpmfile import (
    PAYLOAD_ALGORITHM,
    PAYLOAD_DIGEST,
    SIG_DSA,
    SIG_GPG,
    SIG_MD5,
    SIG_PGP,
    SIG_RSA,
    SIG_SHA1,
    SIG_SHA256,
    BadPackage,
    Package,
    needed,
    read_package,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``faults`` is empty for a good package. ``head`` is lead and headers, ``size`` the file's."""

    nevra: str
    size: int
    sha256: str
    head: bytes = field(repr=False)
    faults: tuple[str, ...]


def verify(pieces: Iterable[bytes | memoryview], ring: KeyRing, *, md5: bool = True) -> Verdict:
    """Read a package to its end and judge it. Never raises on what the bytes hold. ``md5`` is False
    where something stronger proves that every byte is the publisher's."""
    whole = hashlib.sha256()
    head, size, checks = b"", 0, None
    faults: list[str] = []
    for piece in pieces:
        whole.update(piece)
        size += len(piece)
        if checks is not None:
            checks.feed(piece)
        elif not faults:
            head += bytes(piece)
            try:
                if len(head) >= needed(head):
                    package = read_package(head)
                    checks = _Checks(package, ring, md5=md5)
                    checks.feed(memoryview(head)[package.payload :])  # payloads are large: no copy
                    head = head[: package.payload]
            except BadPackage as fault:
                faults.append(str(fault))
    if checks is None:
        faults = faults or ["cut short: the headers are not whole"]
        return Verdict("", size, whole.hexdigest(), b"", tuple(faults))
    try:
        name = str(checks.package.nevra)
    except BadPackage as fault:
        name = ""
        faults.append(str(fault))
    return Verdict(name, size, whole.hexdigest(), head, (*faults, *checks.faults()))


class _Checks:
    """The running digests that one package's own claims ask for."""

    def __init__(self, package: Package, ring: KeyRing, *, md5: bool) -> None:
        self.package, self.ring = package, ring
        header = package.header.raw
        self.md5 = hashlib.md5(header, usedforsecurity=False) if md5 else None
        self.claim = package.header.text(PAYLOAD_DIGEST)
        self.payload = (
            hashlib.sha256() if self.claim is not None else None
        )  # EL6's own packages have none
        self.wrong = [  # rpm looks at these as well, so none may pass unseen
            f"signature {tag}: by a DSA key, which is none of the pinned one's"
            for tag in (SIG_DSA, SIG_GPG)
            if tag in package.signature.entries
        ]
        self.rsa = self.signature(SIG_RSA)
        self.pgp = self.signature(SIG_PGP)
        self.both: Any = hashlib.new(self.pgp.hash, header) if self.pgp else None

    def signature(self, tag: int) -> Signature | None:
        raw = self.package.signature.binary(tag)
        if raw is None:
            return None
        try:
            return read_signature(raw)
        except Malformed as fault:
            self.wrong.append(f"signature {tag}: {fault}")
            return None

    def feed(self, piece: bytes | memoryview) -> None:
        if self.md5 is not None:
            self.md5.update(piece)
        if self.payload is not None:
            self.payload.update(piece)
        if self.both is not None:
            self.both.update(piece)

    def faults(self) -> list[str]:
        return [*self.wrong, *self.digests(), *self.signatures()]

    def digests(self) -> list[str]:
        claims, header = self.package.signature, self.package.header
        faults = []
        sha1 = hashlib.sha1(header.raw, usedforsecurity=False).hexdigest()
        for name, claim, found in (
            ("header SHA-1", claims.text(SIG_SHA1), sha1),
            ("header SHA-256", claims.text(SIG_SHA256), hashlib.sha256(header.raw).hexdigest()),
            ("MD5", _hex(claims.binary(SIG_MD5)) if self.md5 else None, _hexdigest(self.md5)),
            ("payload SHA-256", self.claim, _hexdigest(self.payload)),
        ):
            if claim is not None and claim != found:
                faults.append(f"{name} is wrong: {found}, the package says {claim}")
        if self.claim is not None and header.number(PAYLOAD_ALGORITHM) != 8:
            faults.append("the payload digest is of a kind that is not known")
        return faults

    def signatures(self) -> list[str]:
        if self.rsa is None and self.pgp is None:
            return ["not signed"] if not self.wrong else []
        faults = []
        if self.rsa is not None:
            digest = hashlib.new(self.rsa.hash, self.package.header.raw, usedforsecurity=False)
            faults += self.judge("header signature", self.rsa, digest)
        if self.pgp is not None:
            faults += self.judge("signature", self.pgp, self.both)
        elif self.claim is None:
            faults.append("no signature covers the payload")
        return faults

    def judge(self, name: str, signature: Signature, digest: Any) -> list[str]:
        if signature.key_id not in {key.id for key in self.ring.keys}:
            return [f"{name} is of key {signature.key_id}, not of {self.ring.primary.id}"]
        digest.update(signature.trailer)
        value = digest.digest()
        if value[:2] != signature.left or not self.ring.verifies(signature, value):
            return [f"{name} is wrong"]
        return []


def _hexdigest(digest: Any) -> str:
    return str(digest.hexdigest()) if digest is not None else ""


def _hex(raw: bytes | None) -> str | None:
    return raw.hex() if raw is not None else None
