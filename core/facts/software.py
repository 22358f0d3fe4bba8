"""Facts about what runs on a machine and what of it binds it to where it is."""

import re
from ipaddress import IPv4Address

from core.facts.fact import Fact, Unreadable, clean, files, number, path, records, rows
from core.facts.machine import Evidence, Process, Service

# What looks like a password is starred out before it leaves the machine.
STARS = (
    r"sed -e 's/\([Pp][Aa][Ss][Ss][A-Za-z_]*['\''\"]*[=: ]\)[^ ]*/\1****/g' "
    r"-e 's/\([Ss][Ee][Cc][Rr][Ee][Tt][=: ]\)[^ ]*/\1****/g' "
    r"-e 's/\([Tt][Oo][Kk][Ee][Nn][=: ]\)[^ ]*/\1****/g' "
    r"-e 's,\(://[^/ :@]*:\)[^/ @]*@,\1****@,g'"
)
# A SysV service runs when it holds its lock (Red Hat) or its pid file names a live process: asking
# the init script itself would be no reading, some do odd things when asked for their status.
SERVICES = """
if test -d /run/systemd/system; then
  systemctl list-unit-files --type=service --no-legend --no-pager | while read u s r; do
    printf '%s\\tenabled\\t%s\\n' "$u" "$s"; done
  systemctl list-units --type=service --all --no-legend --no-pager --plain | while read u l a s r
  do printf '%s\\tstate\\t%s\\n' "$u" "$s"; done
  exit 0
fi
test -d /etc/init.d || exit 3
l=`runlevel 2>/dev/null | cut -d' ' -f2`; case "$l" in [2-5]) ;; *) l=3 ;; esac
for s in /etc/init.d/*; do
  n=${s##*/}; test -x $s -a -f $s || continue
  ls /etc/rc$l.d/S??$n /etc/rc.d/rc$l.d/S??$n 2>/dev/null | grep -q . &&
    printf '%s\\tenabled\\tenabled\\n' "$n"
  r=dead; test -e /var/lock/subsys/$n && r=running
  for p in /var/run/$n.pid /var/run/${n}d.pid /var/run/$n/*.pid; do
    test -s $p && read i x <$p && test -n "$i" -a -d "/proc/$i" && r=running
  done
  printf '%s\\tstate\\t%s\\n' "$n" $r
done
exit 0
"""
PROCESSES = f"ps -eww -o pid,user,args | {STARS}"
CRON = f"""
head -n 200 /dev/null /etc/crontab /etc/anacrontab /etc/cron.d/* /var/spool/cron/* \
  /var/spool/cron/crontabs/* 2>/dev/null | {STARS}
exit 0
"""
DATA = """
for d in /var/lib/mysql /var/lib/pgsql /var/lib/postgresql /var/lib/mongo /var/lib/mongodb \
  /var/lib/redis /var/lib/ldap /u01/app/oracle/oradata; do
  test -d $d && nice du -sk $d 2>/dev/null
done
exit 0
"""
SESSIONS = r"""
nice find /var/lib /var/www /srv /opt /tmp /usr/share/tomcat* -xdev -maxdepth 5 -type f \
  \( -name 'sess_*' -o -name 'SESSIONS.ser' -o -path '*/sessions/*' \) -mtime -7 2>/dev/null |
  head -n 500
exit 0
"""
# Addresses alone leave the machine, never the lines they stand on; comments are skipped.
ADDRESSES = r"""
for d in /etc /opt /srv /var/www /usr/local/etc; do
  test -d $d && nice grep -rIsHE '([0-9]{1,3}\.){3}[0-9]{1,3}' \
    --include='*.conf' --include='*.ini' --include='*.properties' --include='*.xml' \
    --include='*.php' --include='*.jsp' --include='*.yml' --include='*.yaml' --include='*.cnf' \
    --include='tnsnames.ora' --include='odbc.ini' --include=hosts $d
done 2>/dev/null | head -n 5000 | awk '{
  at = index($0, ":"); name = substr($0, 1, at - 1); line = substr($0, at + 1)
  if (line ~ /^[ \t]*([#;*]|\/\/|<!--)/) next
  while (match(line, /[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+/)) {
    print name ":" substr(line, RSTART, RLENGTH); line = substr(line, RSTART + RLENGTH) } }'
exit 0
"""
ASKING = re.compile(r"(sh -c )?ps -eww |sed -e s/")  # this question's own processes
ENABLED = ("enabled", "enabled-runtime")
MOST = 300


def _services(text: str) -> tuple[Service, ...]:
    found = records(text.replace("\\x2d", "-"))
    if not found:
        raise Unreadable("no service is listed")
    services = (
        Service(
            name=name.removesuffix(".service"),
            running=values.get("state") == "running",
            enabled=values.get("enabled") in ENABLED,
        )
        for name, values in found.items()
        if not name.endswith("@.service")
    )
    return tuple(sorted((s for s in services if s.running or s.enabled), key=lambda s: s.name))


def _processes(text: str) -> tuple[Process, ...]:
    found = []
    for line in text.splitlines()[1:]:
        words = line.split(None, 2)
        if len(words) < 2:
            raise Unreadable(f"{clean(line)!r} is no process")
        command = clean(words[2], 1000) if len(words) == 3 else ""
        kernel = command.startswith("[") and command.endswith("]")
        if not kernel and not ASKING.match(command):
            found.append(
                Process(pid=number(words[0], 2**32), user=clean(words[1], 64), command=command)
            )
    if not found:
        raise Unreadable("no process is listed")
    return tuple(found)


def _cron(text: str) -> tuple[Evidence, ...]:
    jobs = (
        Evidence(path=name, text=clean(line, 400))
        for name, lines in files(text).items()
        for line in lines
        if _is_job(line)
    )
    return tuple(jobs)[:MOST]


def _is_job(line: str) -> bool:
    """Settings (PATH=…) and comments are no jobs; a job starts with a time."""
    words = line.split()
    if not words or "=" in words[0]:
        return False
    return words[0][0] == "@" if len(words) < 6 else words[0][0] in "0123456789*@"


def _data(text: str) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(path=path(words[1]), text=str(number(words[0], 2**44) * 1024))
        for words in rows(text)
    )


def _sessions(text: str) -> tuple[Evidence, ...]:
    """Directories that hold session files younger than a week, with their number."""
    counts: dict[str, int] = {}
    for line in text.splitlines():
        folder = path(line).rpartition("/")[0]
        counts[folder] = counts.get(folder, 0) + 1
    return tuple(
        Evidence(path=name, text=f"{count} session file{'s' if count != 1 else ''}")
        for name, count in sorted(counts.items())
    )


def _fixed(text: str) -> tuple[Evidence, ...]:
    """Files that name IPv4 addresses of other machines."""
    found: dict[tuple[str, str], None] = {}
    for line in text.splitlines():
        name, _, address = line.rpartition(":")
        if _is_somebody(address):
            found[path(name), address] = None
    return tuple(Evidence(path=name, text=address) for name, address in list(found)[:MOST])


def _is_somebody(text: str) -> bool:
    """Not a version number, a network mask, the loopback or a group."""
    try:
        address = IPv4Address(text)
    except ValueError:
        return False
    first, last = address.packed[0], address.packed[3]
    return (
        1 <= first < 224
        and first != 127
        and last not in (0, 255)
        and address.packed[1:3] != b"\0\0"
    )


services = Fact("services", "services that run or start at boot", ("sh", "-c", SERVICES), _services)
processes = Fact("processes", "running programs", ("sh", "-c", PROCESSES), _processes)
cron = Fact("cron", "scheduled jobs", ("sh", "-c", CRON), _cron)
data = Fact("databases", "database directories and their sizes", ("sh", "-c", DATA), _data)
sessions = Fact(
    "sessions", "directories with session files of the last week", ("sh", "-c", SESSIONS), _sessions
)
fixed = Fact(
    "fixed_addresses", "addresses written in configuration files", ("sh", "-c", ADDRESSES), _fixed
)
