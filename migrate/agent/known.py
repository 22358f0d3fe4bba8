"""What the controller knows of the disk, at the reader's side. Joined after pace.py."""


class Manifest:
    """What the controller knows, as it streams in; only ever a little ahead of the reading."""

    def __init__(self):
        self.runs = []

    def add(self, offset, length, payload):
        self.runs.append((offset, offset + length, payload))

    def shorts(self, start, end):
        """The first bytes of the digests from start to end; zeros where nothing is known."""
        parts, at = [], start
        for first, last, payload in self.runs:
            if first >= end:
                break
            low, high = max(first, at), min(last, end)
            if payload and low < high:
                parts.append(ZEROS[:(low - at) // CHUNK * SHORT])
                parts.append(payload[(low - first) // CHUNK * SHORT:
                                     -(-(high - first) // CHUNK) * SHORT])
                at = high
        if not parts:
            return NOTHING
        parts.append(ZEROS[:-(-(end - at) // CHUNK) * SHORT])
        return NOTHING.join(parts)

    def known(self, start, end):
        """Whether anything is known between the two, or could be: it was not told."""
        if start >= end:
            return False
        at = start
        for first, last, payload in self.runs:
            if at >= end:
                break
            if first <= at < last:
                low, high = at - first, min(last, end) - first
                part = payload[low // CHUNK * SHORT:-(-high // CHUNK) * SHORT]
                if part != ZEROS[:len(part)]:
                    return True
                at = min(last, end)
        return at < end

    def forget(self, offset):
        """What lies before is not asked for again."""
        while self.runs and self.runs[0][1] <= offset:
            self.runs.pop(0)

    def turn(self, begin):
        """What lies from there on is behind us."""
        self.runs = [run for run in self.runs if run[0] < begin]
