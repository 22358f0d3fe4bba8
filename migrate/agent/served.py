"""Reads of one block device, asked for over standard input. Runs on the hypervisor, as
``python -c PROGRAM DEVICE``: first the size, then for each (offset, count) so many bytes.

What can't be read ends the program: whoever asked is told by the end of the stream.
"""

import os
import struct
import sys


def taken(descriptor, count):
    parts = []
    while count:
        raw = os.read(descriptor, count)
        if not raw:
            sys.exit(0)
        parts.append(raw)
        count -= len(raw)
    return "".encode("ascii").join(parts)


def given(raw):
    while raw:
        raw = raw[os.write(1, raw) :]


device = os.open(sys.argv[1], os.O_RDONLY)
given(struct.pack("!Q", os.lseek(device, 0, 2)))
while True:
    offset, count = struct.unpack("!QI", taken(0, 12))
    os.lseek(device, offset, 0)
    given(taken(device, count))
