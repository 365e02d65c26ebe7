"""The Java client: each test is a method in java/, run in a JVM of its own; see there for what it asserts."""

from harness import CACHE, JAVA_FLAGS, PEER, test

METHODS = {
    "Data": {
        "codecs": "Every codec: keys, values, nulls, headers, timestamps and offsets come back as sent.",
        "acksAndIdempotence": "acks 0, 1, all; 20,000 idempotent records in small batches: in order, none twice.",
        "sizes": "900 KB records among small ones over three partitions, with fetch sizes below a record.",
        "errors": "RecordTooLarge, InvalidTopic, InvalidRecord, InvalidTimestamp, an unknown partition.",
        "positions": "offsetsForTimes, begin and end, seek, pause, out of range with each reset policy.",
        "longPoll": "A long poll on an empty topic ends with the append, in both isolation levels.",
        "manyPartitions": "100 partitions in one fetch session: every record of every partition.",
        "recreatedTopic": "A producer goes on into a topic deleted and created again, which starts at offset 0.",
        "logAppendTime": "LogAppendTime in the answer and in the record; a topic's own codec.",
        "transactions": "Commit, abort, offsets in the transaction, fencing by a second producer.",
        "transactionsRefused": "initTransactions ends at once with an error that says why, not with a timeout.",
    },
    "Groups": {
        "range": "Three members; one leaves, one joins, one goes silently: partitions shared, all records read.",
        "roundRobin": "The same with RoundRobinAssignor.",
        "sticky": "The same with StickyAssignor.",
        "cooperative": "The same with CooperativeStickyAssignor; nobody gives up everything.",
        "staticMembers": "A static member restarts without a rebalance; a second one of its id fences the first.",
        "commits": "Metadata and epoch come back; removed members cannot commit; the next one resumes there.",
    },
    "Admins": {
        "topics": "Create, validateOnly, describe by name and id, grow, delete, with every refusal.",
        "configs": "Source, synonyms, type, documentation; set, append, subtract, delete; the broker's; listing.",
        "offsetsAndCluster": "listOffsets of every kind, deleteRecords, describeProducers, log dirs, cluster, features.",
        "groups": "List by state and type, describe, offsets listed, altered and deleted, delete.",
    },
}


def _register(owner, method, what):
    def run(t):
        libs = t.run(PEER, "libs").out.strip()
        t.run("java", *JAVA_FLAGS.split(), "-cp", f"{libs}/*:{CACHE}/clients.jar", "ClientTest", t.bootstrap, t.name(),
              f"{owner}.{method}", timeout_s=55)
    run.__name__ = method if owner == "Data" else f"{owner.lower()}_{method}"
    run.__doc__ = what
    test(timeout_s=60)(run)


for _owner, _methods in METHODS.items():
    for _method, _what in _methods.items():
        _register(_owner, _method, _what)
