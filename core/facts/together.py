"""Several facts by one command: a session costs an old server half a second, a far one its way."""

import re
import secrets
import shlex
from collections.abc import Sequence

from core.errors import OutsideFailed
from core.facts.fact import Fact
from core.ports import Completed, Host


def ask_together(host: Host, facts: Sequence[Fact[object]], timeout: float) -> dict[str, Completed]:
    """What ``host`` says to each of ``facts``, by name. Those that did not come to an answer within
    ``timeout`` seconds are left out, all of them when one hangs: they can be asked alone."""
    mark = secrets.token_hex(16)
    told = f"c=$?; echo; echo {mark} $c; echo {mark} >&2"
    lines = (f"( exec {shlex.join(fact.argv)} ) </dev/null; {told}" for fact in facts)
    try:
        done = host.run(("sh", "-c", "\n".join(lines)), timeout=timeout)
    except OutsideFailed:
        return {}
    parts = re.split(rb"\n%s ([0-9]{1,3})\n" % mark.encode(), done.stdout)
    errors = done.stderr.split(mark.encode() + b"\n")[:-1]
    count = len(parts) // 2
    errors = ([b""] * count + errors)[-count:]  # only the end of them is kept
    return {
        fact.name: Completed(fact.argv, int(code), output, error)
        for fact, output, code, error in zip(facts, parts[0::2], parts[1::2], errors, strict=False)
    }
