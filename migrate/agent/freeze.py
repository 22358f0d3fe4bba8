"""File systems that take no writes for a while. Joined after moment.py.

A child thaws them: when it is told, when this process is gone, and when the time is over, whatever
the controller, the network or this process do.
"""
import fcntl
import os
import select
import signal
import sys

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878


def order_to(descriptor, number):
    """An ioctl whose number an old Python takes for negative only."""
    try:
        fcntl.ioctl(descriptor, number, 0)
    except OverflowError:
        fcntl.ioctl(descriptor, number - 2 ** 32, 0)


def guard(descriptors, pipe, seconds):
    """The child's life. 0: all was frozen until it was told; 1: the time was over before; 2: one
    was thawed by somebody else."""
    status = 3
    try:
        status = int(not select.select([pipe], [], [], seconds)[0])
    except:
        pass  # whatever it is, it must not keep us from what follows
    for descriptor in descriptors:
        try:
            order_to(descriptor, FITHAW)
        except EnvironmentError:
            status = max(status, 2)
    os._exit(status)


def freeze(link, fields):
    """Freeze what lies below ``paths`` until THAW, for at most ``seconds``."""
    paths = fields["paths"].split("|")
    descriptors = [os.open(path, os.O_RDONLY) for path in paths]
    inner, outer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
                signal.signal(number, signal.SIG_IGN)
            for descriptor in (outer, link.source, link.sink):
                os.close(descriptor)
            guard(descriptors, inner, int(fields["seconds"]))
        finally:
            os._exit(3)
    os.close(inner)
    fault = None
    for number in range(len(paths)):
        try:
            order_to(descriptors[number], FIFREEZE)
        except EnvironmentError:
            fault = Refused("%s can't be frozen: %s" % (paths[number], sys.exc_info()[1].strerror))
            break
    if fault is None:
        link.send(FROZEN)
        kind = link.receive()[0]  # Closed when the controller is gone: our end of the pipe goes too
        if kind != THAW:
            fault = Refused("unexpected frame %d while frozen" % kind)
    os.close(outer)
    status = os.waitpid(pid, 0)[1]
    for descriptor in descriptors:
        if status & 127:  # the child was killed: it thawed nothing
            try:
                order_to(descriptor, FITHAW)
            except EnvironmentError:
                pass
        os.close(descriptor)
    if fault is not None:
        raise fault
    link.send(FROZEN, packed({"status": status and (status >> 8 or 3)}))
