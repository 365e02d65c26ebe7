"""The Go clients, franz-go and sarama: each test is a function in go/; they are an extra where Go is installed."""

import os

from harness import CACHE, MISSING, test

NAMES = {
    "franzCodecs": "franz-go: every codec, keys, headers, nulls, timestamps, offsets; from a time.",
    "franzGroup": "franz-go: three cooperative members, one leaves; partitions shared, all records read.",
    "saramaCodecs": "sarama, idempotent: every codec, keys, headers, timestamps, offsets; offset by time.",
    "saramaGroup": "sarama: three range members, one leaves; partitions shared, all records read.",
}


def _register(name, what):
    def run(t):
        t.run(f"{CACHE}/goclients", t.bootstrap, t.name(), name, timeout_s=55)
    run.__name__, run.__doc__ = name, what
    test(timeout_s=60)(run)


if os.path.exists(f"{CACHE}/goclients"):
    for _name, _what in NAMES.items():
        _register(_name, _what)
else:
    MISSING.append("the Go clients: no Go toolchain when tests/setup ran")
