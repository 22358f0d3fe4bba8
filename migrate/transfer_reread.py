"""The target reads itself back: what lies there, against the manifest."""

from collections.abc import Iterator

from core.progress import Report, Unit, track
from migrate.transfer_manifest import Manifest
from migrate.transfer_wire import CHUNK, Kind, Session, lively


def verify(writer: Session, manifest: Manifest, report: Report) -> tuple[int, list[int]]:
    """Let the target read itself back. (chunks compared, offsets of those that differ)"""
    compared, asked, different = 0, 0, []
    questions, total = _questions(manifest), manifest.known() * CHUNK
    name = f"read back {manifest.path.stem}"
    with lively(writer), track(report, name, total, Unit.BYTES) as meter:
        for number, (offset, length, digests) in enumerate(_questions(manifest)):
            while asked < number + 16:  # requests are small, and so are the answers
                ahead = next(questions, None)
                if ahead is None:
                    break
                writer.send(Kind.VERIFY, offset=ahead[0], length=ahead[1])
                asked += 1
            frame = writer.expect(Kind.DIGESTS)
            if frame.offset != offset or len(frame.payload) != len(digests):
                raise writer.failed("it answered another question")
            for index in range(0, len(digests), manifest.width):
                own, other = (d[index : index + manifest.width] for d in (digests, frame.payload))
                if own != other:
                    different.append(offset + index // manifest.width * CHUNK)
            compared += len(digests) // manifest.width
            meter.advance(length)
    return compared, different


def _questions(manifest: Manifest) -> Iterator[tuple[int, int, bytes]]:
    for offset, length, digests in manifest.runs(0, manifest.size):
        for start in range(0, length, 64 * CHUNK):
            at = start // CHUNK * manifest.width
            size_ = min(64 * CHUNK, length - start)
            yield offset + start, size_, digests[at : at + 64 * manifest.width]
