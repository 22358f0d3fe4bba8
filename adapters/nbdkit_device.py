"""An nbdkit plugin: a block device of the hypervisor as a disk that this machine can read.

sshfs can't do it: in a directory, a device is a number that means another device here. nbdkit runs
this file with a Python of its own, so it uses the standard library alone. Each ``word=`` parameter
is a word of the command that answers: migrate/agent/served.py, reached through ssh.
"""

import struct
import subprocess

API_VERSION = 2
words: list[str] = []


class Device:
    """The command that answers, and the device's size in bytes."""

    def __init__(self, argv: list[str]) -> None:
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.size: int = struct.unpack("!Q", self.taken(8))[0]

    def taken(self, count: int) -> bytes:
        """Exactly ``count`` bytes of the answer. Raises OSError when it ends before."""
        assert self.process.stdout is not None  # noqa: S101 (a pipe was asked for)
        raw = self.process.stdout.read(count)
        if len(raw) != count:
            raise OSError("the hypervisor no longer answers, or its device can't be read")
        return raw

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes of the device."""
        assert self.process.stdin is not None  # noqa: S101
        self.process.stdin.write(struct.pack("!QI", offset, count))
        self.process.stdin.flush()
        return self.taken(count)


def config(key: str, value: str) -> None:
    """Parameters, in order."""
    if key != "word":
        raise RuntimeError(f"unknown parameter {key}")
    words.append(value)


def open(_readonly: bool) -> Device:
    """A client came."""
    return Device(words)


def close(handle: Device) -> None:
    """The client is gone."""
    handle.process.kill()
    handle.process.wait()


def get_size(handle: Device) -> int:
    """In bytes."""
    return handle.size


def can_write(_handle: Device) -> bool:
    """Never: conversion writes into its overlay."""
    return False


def pread(handle: Device, buffer: bytearray, offset: int, _flags: int) -> None:
    """Fill ``buffer``."""
    buffer[:] = handle.read(offset, len(buffer))
