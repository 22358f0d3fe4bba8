"""Sizes and durations as people read them, and text as a terminal may have it."""

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def size(count: float) -> str:
    """``1536`` → ``1.5 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float) -> str:
    """``75`` → ``1 min 15 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plain(text: str) -> str:
    """``text`` without what would command a terminal: other machines' words stand in it."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in text)
