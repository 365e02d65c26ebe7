"""The Java client: each test is a method in java/, run in a JVM of its own; see there for what it asserts."""

from harness import CACHE, JAVA_FLAGS, PEER, test

METHODS = {
    "Data": ["codecs", "acksAndIdempotence", "sizes", "errors", "positions", "longPoll", "manyPartitions", "recreatedTopic",
             "logAppendTime", "transactions", "transactionsRefused"],
    "Groups": ["range", "roundRobin", "sticky", "cooperative", "staticMembers", "commits"],
    "Admins": ["topics", "configs", "offsetsAndCluster", "groups"],
}


def _register(owner, method):
    def run(t):
        libs = t.run(PEER, "libs").out.strip()
        t.run("java", *JAVA_FLAGS.split(), "-cp", f"{libs}/*:{CACHE}/clients.jar", "ClientTest", t.bootstrap, t.name(),
              f"{owner}.{method}", timeout_s=55)
    run.__name__ = method if owner == "Data" else f"{owner.lower()}_{method}"
    test(timeout_s=60)(run)


for _owner, _methods in METHODS.items():
    for _method in _methods:
        _register(_owner, _method)
