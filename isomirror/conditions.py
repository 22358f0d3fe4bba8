"""What a request's headers ask for: a part of a file, or a file only if it changed."""

import re
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache


@lru_cache(maxsize=4096)
def http_date(seconds: int) -> str:
    """As headers have it."""
    return formatdate(seconds, usegmt=True)


def parsed_date(text: str | None) -> float | None:
    """Seconds since 1970 of an HTTP date; None when it is none."""
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, TypeError, OverflowError):
        return None


def wanted_range(header: str | None, size: int) -> tuple[int, int, bool] | None:
    """The bytes a Range header asks for: start, stop, and whether they are a part. The whole file
    when there is no header, or one that is not understood or names several parts; None when it
    can't be satisfied (RFC 7233)."""
    whole = (0, size, False)
    match = re.fullmatch(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", header or "")
    if match is None or not (match[1] or match[2]):
        return whole
    if not match[1]:
        suffix = min(int(match[2]), size)
        return (size - suffix, size, True) if suffix else None
    start, last = int(match[1]), int(match[2]) if match[2] else size - 1
    if last < start and match[2]:
        return whole
    return (start, min(last + 1, size), True) if start < size else None
