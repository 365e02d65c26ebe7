"""kafkajs: each test is a file in kafkajs/, run by node; see there for what it asserts."""

import os

from harness import CACHE, HERE, test


def script(t, name, *args):
    """Runs a test file; its modules are found in the cache folder."""
    path = os.path.join(HERE, "kafkajs", f"{name}.js")
    t.run("node", path, t.bootstrap, t.name(), *args, timeout_s=55, env={"NODE_PATH": f"{CACHE}/node/node_modules",
                                                                         "KAFKAJS_NO_PARTITIONER_WARNING": "1"})


@test(timeout_s=60)
def codecs(t):
    """Every codec: keys, headers, null values and timestamps come back as sent, in order."""
    script(t, "codecs")


@test(timeout_s=60)
def producer(t):
    """acks 0, 1 and all, the idempotent producer, sendBatch, and the errors a producer meets."""
    script(t, "producer")


@test(timeout_s=60)
def group(t):
    """Three members share six partitions, one leaves; commits are where the next member starts."""
    script(t, "group")


@test(timeout_s=60)
def positions(t):
    """seek, offsets by time, out of range, deleted records."""
    script(t, "positions")


@test(timeout_s=60)
def admin(t):
    """Topics, partitions, configs, groups and the cluster."""
    script(t, "admin")


@test(timeout_s=60)
def transaction_commits(t):
    """A committed transaction is seen, an aborted one is not."""
    script(t, "transaction")
