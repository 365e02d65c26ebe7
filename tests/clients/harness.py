"""What every client test uses: registration, unique names, running programs, waiting for a condition.

A test is a function `def what_holds(t: Case)` under `@test()`. It runs in a process of its own with a time limit; it fails
by raising. Whatever it starts belongs to its process group and is ended with it.
"""

import json
import os
import subprocess
import time
from dataclasses import dataclass, field

import wire

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.environ.get("RINGLOG_TEST_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "ringlog-tests")
PEER = os.path.join(ROOT, "tools/peers/kafka/kafka")
# Short runs: no optimising compiler, no parallel collector, classes from the archive that tests/setup dumped.
JAVA_FLAGS = (f"-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:SharedArchiveFile={CACHE}/kafka.jsa -Xshare:auto "
              "-Xlog:cds=off -Xlog:cds+dynamic=off -Xlog:class+path=off")


@dataclass
class Test:
    name: str
    run: callable
    timeout_s: float


TESTS: list[Test] = []
# Clients that cannot run on this machine, with the reason; printed with every result.
MISSING: list[str] = []


def test(timeout_s=40):
    """Registers a test as `<file without test_>.<function>`."""
    def register(function):
        module = function.__module__.removeprefix("test_")
        TESTS.append(Test(f"{module}.{function.__name__}", function, timeout_s))
        return function
    return register


@dataclass
class Output:
    """What a program printed."""
    code: int
    out: str
    err: str

    def lines(self):
        return [line for line in self.out.splitlines() if line.strip()]

    def json_lines(self):
        return [json.loads(line) for line in self.lines() if line.startswith("{")]


@dataclass
class Case:
    """One running test."""
    bootstrap: str
    against: str
    prefix: str
    counter: int = field(default=0)

    def name(self, what="t"):
        """A topic, group or id that no other test, and no earlier run, has used."""
        self.counter += 1
        return f"{self.prefix}-{what}-{self.counter}"

    def connect(self, **kwargs):
        return wire.Connection(self.bootstrap, **kwargs)

    def topic(self, what="t", partitions=1, **configs):
        """Creates a topic and waits until every partition has a leader. Configs as `max_message_bytes=1000`."""
        name = self.name(what)
        with self.connect() as c:
            create_topic(c, name, partitions, {k.replace("_", "."): str(v) for k, v in configs.items()})
        return name

    def run(self, *command, input=None, timeout_s=30, check=True, env=None):
        """Runs a program to its end; its output goes to the test's log as well."""
        shown = " ".join(str(c) for c in command)
        print(f"$ {shown[:400]}", flush=True)
        result = subprocess.run([str(c) for c in command], input=input, capture_output=True, text=True,
                                timeout=timeout_s, env={**os.environ, **(env or {})})
        output = Output(result.returncode, result.stdout, result.stderr)
        print(_clip(output.out), _clip(output.err), sep="", flush=True)
        if check:
            assert output.code == 0, f"exit {output.code}: {shown[:200]}"
        return output

    def tool(self, name, *args, **kwargs):
        """One of Kafka's own tools by class name; `org.apache.kafka.tools.` is put in front where no package is named."""
        return self.run(PEER, "tool", name, *args, env={"JDK_JAVA_OPTIONS": JAVA_FLAGS}, **kwargs)

    def start_tool(self, name, *args):
        """A tool that is left running; ended at the latest with the test."""
        print(f"$ {name} {' '.join(map(str, args))} &", flush=True)
        return subprocess.Popen([PEER, "tool", name, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, env={**os.environ, "JDK_JAVA_OPTIONS": JAVA_FLAGS})


def _clip(text, limit=6000):
    return text if len(text) <= limit else text[:limit // 2] + "\n...\n" + text[-limit // 2:]


def create_topic(connection, name, partitions=1, configs=None):
    """Creates a topic over a raw connection and waits until it can be used; returns its id."""
    reply = connection.call("CreateTopics", 7, {"Topics": [{
        "Name": name, "NumPartitions": partitions, "ReplicationFactor": -1,
        "Configs": [{"Name": k, "Value": v} for k, v in (configs or {}).items()]}], "timeoutMs": 15000})
    assert reply.Topics[0].ErrorCode == 0, f"create {name}: {reply.Topics[0].ErrorCode} {reply.Topics[0].ErrorMessage}"

    def usable():
        topic = connection.call("Metadata", 12, {"Topics": [{"Name": name}], "AllowAutoTopicCreation": False}).Topics[0]
        if topic.ErrorCode != 0 or len(topic.Partitions) != partitions:
            return False
        # Kafka's metadata names a leader a moment before that broker acts as one.
        ends = connection.call("ListOffsets", 5, {"ReplicaId": -1, "Topics": [{"Name": name, "Partitions": [
            {"PartitionIndex": n, "Timestamp": -1} for n in range(partitions)]}]}).Topics[0].Partitions
        return all(p.ErrorCode == 0 for p in ends)
    eventually(usable, f"{name} has leaders")
    return reply.Topics[0].TopicId


def eventually(condition, what, timeout_s=20, every_s=0.05):
    """Waits until `condition` is true and returns what it gave; a condition may also fail by AssertionError meanwhile."""
    deadline, last = time.monotonic() + timeout_s, None
    while True:
        try:
            value = condition()
            if value:
                return value
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}" + (f" ({last})" if last else ""))
        time.sleep(every_s)


def same(got, want, what=""):
    """Equality with both sides in the message."""
    assert got == want, f"{what or 'value'}: got {_clip(repr(got), 800)}, want {_clip(repr(want), 800)}"


def raises(kind, function, *args, **kwargs):
    """Runs `function`, which must raise `kind`; returns the exception."""
    try:
        value = function(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError(f"no {kind} was raised; returned {value!r}")
