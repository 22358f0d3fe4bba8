"""How fast the reader goes: not above the rate, not at the cost of the server's own work, and with
compression only while the line is what holds it up. Joined after workers.py."""
CALM_AFTER = 16  # answers until there is a baseline
BUSY = 2.0  # times the baseline
QUICK = 0.001  # seconds; a read below that never counts as slow
LASTING = 0.25  # seconds; what is over by then, as somebody's flush, is no load


class Calm:
    """Backs off while reads take longer than they did when the disk was less busy.

    The baseline falls at once and rises slowly: the inside of a disk is slower than its outside.
    """

    def __init__(self, most):
        self.most, self.seen = most, 0
        self.recent, self.base, self.slow = 0.0, 0.0, None
        self.throttled, self.paused = False, 0.0

    def pause(self, seconds, reads):
        """How long to rest after so many reads in so many seconds."""
        if self.most <= 1 or not reads:
            return 0.0
        each = max(seconds / reads, 1e-6)
        self.seen += 1
        if self.seen == 1:
            self.recent = each
        self.recent += (each - self.recent) * 0.2
        if self.seen == CALM_AFTER:
            self.base = self.recent
        if self.seen <= CALM_AFTER:
            return 0.0
        self.base = min(self.recent, self.base + (self.recent - self.base) * 0.001)
        factor = min(self.recent / max(self.base, QUICK), self.most)
        if factor < BUSY:
            self.slow = None
        elif self.slow is None:
            self.slow = ticks()
        # a clock that was set back makes this a load at once
        self.throttled = self.slow is not None and not 0 <= ticks() - self.slow < LASTING
        if not self.throttled:
            return 0.0
        rest = seconds * (factor - 1)
        self.paused += rest
        return rest


class Codec:
    """Chooses between raw and zlib. ``wish`` is raw, zlib or auto."""

    def __init__(self, wish, workers):
        self.auto, self.workers = wish == "auto", workers
        self.mode = RAW
        if wish == "zlib":
            self.mode = ZLIB
        self.asked, self.line, self.hold = 0, 0.0, 0.0
        self.raw, self.small, self.micros = 0, 0, 0
        self.begin(ticks())

    def begin(self, now):
        self.since, self.wire, self.disk, self.blocked = now, 0, 0, 0.0

    def order(self):
        """The codec of the next task."""
        self.asked += 1
        if self.auto and self.mode == RAW and (self.asked <= 8 or self.asked % 64 == 0):
            return TRIAL
        return self.mode

    def learn(self, raw, small, micros):
        """What a worker measured on the disk's own data."""
        self.raw += raw
        self.small += small
        self.micros += micros
        if self.raw > 8 * 1048576:  # what was long ago counts less
            self.raw, self.small, self.micros = self.raw // 2, self.small // 2, self.micros // 2

    def spent(self, wire, disk, blocked):
        """So many bytes went out for so many of the disk; the line held us up so long."""
        self.wire += wire
        self.disk += disk
        self.blocked += blocked
        now = ticks()
        if self.auto and not 0 <= now - self.since < 1:
            self.weigh(now, max(now - self.since, 0.001))
            self.begin(now)

    def weigh(self, now, elapsed):
        rate, share = self.wire / elapsed, self.blocked / elapsed
        if not self.raw or not self.micros or rate <= 0:
            return
        ratio = float(self.small) / self.raw
        speed = 0.7 * self.workers * self.raw / (self.micros / 1e6)
        if self.mode == RAW:
            if share > 0.5 and now >= self.hold and min(speed, rate / ratio) > 1.15 * rate:
                self.mode, self.line = ZLIB, rate
        elif share > 0.3:
            self.line = rate
            if ratio > 0.95:
                self.mode = RAW
        elif self.disk / elapsed < 0.95 * self.line:
            self.mode, self.hold = RAW, now + 30
