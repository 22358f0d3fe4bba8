"""Whether the site's mirror holds all that the site's bundle installs, asked of the mirror itself:
it may be served by another machine."""

from core.errors import BadDocument, Blocked, OutsideFailed
from core.ports import Web
from core.progress import Report
from core.rules import Finding, Rule, Severity, judge, unknown
from deploy.bundle import Bundle
from deploy.site import Site
from isomirror import closure, metadata

LIMIT = 256 * 1024 * 1024  # CentOS 6.3's own largest file is 20 MiB


def findings(site: Site, bundle: Bundle, web: Web, report: Report) -> tuple[Finding, ...]:
    """The proof's findings. What can't be proven is a blocker, too."""

    def fetch(path: str) -> bytes:
        url = f"{site.mirror.url}{path}"
        answer = web.fetch(url, timeout=120, limit=LIMIT)
        if answer.status != 200:
            raise OutsideFailed(f"{url} answers with status {answer.status}")
        return answer.body

    try:
        found = metadata.read(fetch, site.mirror.url)
        return closure.prove(found, bundle.roots, _medium, report, bundle.arch).findings
    except (OutsideFailed, Blocked, BadDocument) as fault:
        text = str(fault)
        return judge(
            (
                Rule(
                    "closure.proven", "The mirror's metadata can be read", Severity.BLOCKER,
                    "see that `groundlift mirror serve` runs; `mirror closure` asks the same",
                    lambda _: unknown(text),
                ),
            ),
            site,
        )  # fmt: skip


def _medium(path: str) -> str:
    return path.split("/")[1] if path.startswith("addons/") else "the discs"
