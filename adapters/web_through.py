"""core.ports.Web as another machine sees it: pages of a network that only that machine reaches.

A few lines of Python, the same on 2.4 and 3, are sent through stdin; nothing is left there.
"""

from adapters.web import check
from core.errors import OutsideFailed
from core.ports import Fetched, Host

PYTHONS = "python3 python python2 python2.6 /usr/libexec/platform-python"
SHELL = f'for p in {PYTHONS}; do command -v $p >/dev/null 2>&1 && exec $p - "$@"; done; exit 127'
SCRIPT = b"""
import sys
try:
    from urllib.request import build_opener, ProxyHandler, HTTPError, HTTPRedirectHandler
except ImportError:
    from urllib2 import build_opener, ProxyHandler, HTTPError, HTTPRedirectHandler
import socket
class Stay(HTTPRedirectHandler):
    def redirect_request(self, *parts):
        return None
socket.setdefaulttimeout(float(sys.argv[2]))
opener = build_opener(ProxyHandler({}), Stay())
opener.addheaders = [('User-Agent', 'groundlift')]
try:
    answer = opener.open(sys.argv[1])
    status = getattr(answer, 'code', 200)
except HTTPError:
    answer = sys.exc_info()[1]
    status = answer.code
except Exception:
    sys.stderr.write(str(sys.exc_info()[1]))
    sys.exit(3)
if not answer.info().keys():  # Python 2 takes any words for a page of 1991
    sys.stderr.write('what came is no HTTP')
    sys.exit(3)
limit = int(sys.argv[3])
body, told = answer.read(limit), answer.info().get('Content-Length') or ''
if told.isdigit() and len(body) < min(int(told), limit):
    sys.stderr.write('the answer ended after %d of %s bytes' % (len(body), told))
    sys.exit(3)
out = getattr(sys.stdout, 'buffer', sys.stdout)
out.write(('%d\\n' % status).encode('ascii') + body)
"""


class HostWeb:
    """Fetches pages from ``host``."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def fetch(self, url: str, *, timeout: float = 20.0, limit: int = 4 * 1024 * 1024) -> Fetched:
        """The answer, whatever its status."""
        check(url)
        argv = ("sh", "-c", SHELL, "fetch", url, str(timeout), str(limit))
        done = self._host.run(argv, stdin=SCRIPT, timeout=timeout + 30)
        status, newline, body = done.stdout.partition(b"\n")
        if done.code or not newline or not status.isdigit():
            why = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.code}"
            raise OutsideFailed(
                f"{url} does not answer, asked from {self._host.name}: {why[:200]}",
                hint="is the web server running?",
                where=url,
            )
        return Fetched(int(status), body)
