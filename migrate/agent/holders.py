"""Who keeps a file system from becoming read-only. Joined before reader.py."""
import os


def holders(device):
    """Who holds files open for writing on the file system with this st_dev: those keep a
    remount from succeeding."""
    lines = []
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        try:
            names = os.listdir("/proc/%s/fd" % pid)
        except OSError:
            continue
        for name in names:
            try:
                path = "/proc/%s/fd/%s" % (pid, name)
                info = os.stat(path)
                target = os.readlink(path)
                writes = os.lstat(path).st_mode & 128  # the link's w bit: open for writing
            except OSError:
                continue
            plain = info.st_mode & 0xF000 in (0x8000, 0x4000)
            if info.st_dev == device and plain and (writes or target.endswith(" (deleted)")):
                lines.append("%s %s %s" % (pid, command(pid), target))
                break
    return lines


def command(pid):
    try:
        source = open("/proc/%s/stat" % pid)
        try:
            line = source.read()
        finally:
            source.close()
    except IOError:
        return "?"
    return line[line.find("(") + 1:line.rfind(")")].replace(" ", "_")
