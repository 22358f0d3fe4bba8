"""Pages by HTTP, as a visitor on the local network would get them."""

import http.client
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from core.errors import OutsideFailed
from core.ports import Fetched


def check(url: str) -> None:
    """Raises OutsideFailed for anything but the web: a file, say."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise OutsideFailed(f"{url} is no web address", hint="correct `pages` in plan.yml")


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other: what is compared is what this server said."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _body(answer: http.client.HTTPResponse, limit: int) -> bytes:
    """What came, up to ``limit``; http.client itself takes half an answer for a short one."""
    body = answer.read(limit)
    if answer.length and len(body) < limit:
        raise http.client.IncompleteRead(body, answer.length)
    return body


class HttpWeb:
    """core.ports.Web by urllib."""

    def fetch(self, url: str, *, timeout: float = 20.0, limit: int = 4 * 1024 * 1024) -> Fetched:
        """The answer, whatever its status."""
        check(url)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay())
        request = urllib.request.Request(url, headers={"User-Agent": "groundlift"})  # noqa: S310
        try:
            with opener.open(request, timeout=timeout) as answer:
                return Fetched(answer.status, _body(answer, limit))
        except urllib.error.HTTPError as answer:
            with answer:
                return Fetched(answer.code, answer.read(limit))
        except (OSError, http.client.HTTPException, ValueError) as fault:
            raise OutsideFailed(
                f"{url} does not answer: {fault}", hint="is the web server running?", where=url
            ) from fault
