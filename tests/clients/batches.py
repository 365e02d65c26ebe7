"""Record batches (format v2) made and read by hand, for what no client library would send."""

import struct
import time

HEADER = struct.Struct(">qiibIhiqqqhii")  # base offset to record count
HEADER_SIZE = HEADER.size
CONTROL, TRANSACTIONAL = 0x20, 0x10


def _crc32c_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


_TABLE = _crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _varint(n):
    n, out = (n << 1 ^ n >> 63) & 0xFFFFFFFFFFFFFFFF, bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _sized(data):
    return _varint(-1) if data is None else _varint(len(data)) + data


def batch(records, *, base_offset=0, timestamp=None, producer_id=-1, epoch=-1, sequence=-1, attributes=0, magic=2,
          count=None, last_delta=None, crc=None, leader_epoch=-1):
    """A batch of (key, value) pairs; the keyword arguments make it wrong in exactly one place."""
    now = int(time.time() * 1000) if timestamp is None else timestamp
    body = bytearray()
    for delta, (key, value) in enumerate(records):
        record = b"\0" + _varint(0) + _varint(delta) + _sized(key) + _sized(value) + _varint(0)
        body += _varint(len(record)) + record
    count = len(records) if count is None else count
    last = len(records) - 1 if last_delta is None else last_delta
    checked = struct.pack(">hiqqqhii", attributes, last, now, now, producer_id, epoch, sequence, count) + bytes(body)
    crc = crc32c(checked) if crc is None else crc
    return struct.pack(">qiibI", base_offset, len(checked) + 9, leader_epoch, magic, crc) + checked


def read(data):
    """Whole batches of a fetched record set as (base offset, last offset, count, attributes, size)."""
    out, at = [], 0
    while at + HEADER_SIZE <= len(data):
        fields = HEADER.unpack_from(data, at)
        size = fields[1] + 12
        if at + size > len(data):
            break
        assert crc32c(data[at + 21:at + size]) == fields[4], f"CRC of the batch at {fields[0]}"
        out.append((fields[0], fields[0] + fields[6], fields[12], fields[5], size))
        at += size
    return out
