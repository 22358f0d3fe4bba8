"""CRC-32C as ext4 and XFS have it, and ext4's older CRC-16. Joined after layout.py."""
import struct


def crc_table(polynomial):
    result = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (value & 1) * polynomial
        result.append(value)
    return result


CASTAGNOLI, ANSI = crc_table(0x82F63B78), crc_table(0xA001)
PAIRS = []  # two bytes at a time: half the time


def crc32c(raw, value):
    """Without inversions, as the kernel has it."""
    if not PAIRS:
        for pair in range(65536):
            step = CASTAGNOLI[pair & 255] ^ pair >> 8
            PAIRS.append(CASTAGNOLI[step & 255] ^ step >> 8)
    even = len(raw) // 2
    for pair in struct.unpack("<%dH" % even, raw[:2 * even]):
        value = PAIRS[(value ^ pair) & 65535] ^ value >> 16
    if len(raw) % 2:
        value = CASTAGNOLI[(value ^ field(raw, "B", 2 * even)) & 255] ^ value >> 8
    return value


KNOWN = {}  # a pass looks at each bitmap twice, and most are as they were in the pass before
DIGEST = sorted(hashes().items())[-1][1]


def crc32c_again(raw, value):
    """The same of what has probably been asked for before."""
    key = value, DIGEST(raw).digest()
    if key not in KNOWN:
        if len(KNOWN) >= 8192:
            KNOWN.clear()
        KNOWN[key] = crc32c(raw, value)
    return KNOWN[key]


def crc16(raw, value):
    for byte in struct.unpack("%dB" % len(raw), raw):
        value = ANSI[(value ^ byte) & 255] ^ value >> 8
    return value
