"""What a pass over one disk is told, and what it came to."""

from dataclasses import dataclass

from migrate.limits import UNLIMITED, Limits
from migrate.moment import Moment


@dataclass(frozen=True, slots=True)
class Order:
    """What to do with which disk."""

    kind: str
    device: str
    start: int = 0
    begin: int = 0  # where the walk begins, a multiple of STEP; it goes round the disk
    rate: int = 0
    compress: bool = False
    room: int = 2**63  # bytes that the pool can still take for this file
    pool: str = ""
    blank: bool = False  # the target may hold old data where nothing is used
    workers: int = 0  # processes at the source; 0: twice its processors, at most 4 a connection
    slowdown: float = 4.0  # how many times slower than it could for a busy disk's sake; 0: never
    limits: Limits = UNLIMITED
    moment: Moment | None = None
    direct: bool = False  # the data goes from the source to the hypervisor without us
    quick: bool = False  # compare checksums where there are some; digests else
    stay: bool = False  # the readers are wanted again after this pass

    @property
    def codec(self) -> str:
        """What the reader is told."""
        return "zlib" if self.compress else "auto"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pass came to; ``wire`` counts both directions of the source's connections, of which
    ``direct`` led to the hypervisor; ``paused`` are seconds that the reader left to a busy disk."""

    used: int
    read: int
    sent: int
    wire: int
    chunks: int
    bad: int
    seconds: float
    areas: str
    paused: float = 0.0
    direct: int = 0
