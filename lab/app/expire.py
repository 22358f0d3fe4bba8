#!/usr/bin/python3
"""Cron's part: forget sessions older than a day, and leave a line that says when."""

import time
from pathlib import Path

SESSIONS = Path("/var/lib/webapp/sessions")
DAY = 24 * 3600

old = [file for file in SESSIONS.glob("sess_*") if file.stat().st_mtime < time.time() - DAY]
for file in old:
    file.unlink()
with Path("/var/lib/webapp/cron.log").open("a") as log:
    log.write(f"{int(time.time())} expired {len(old)}\n")
