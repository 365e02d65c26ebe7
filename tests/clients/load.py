"""Load by real clients, checked to the last record: `tests/clients/load --bootstrap HOST:PORT`.

perf: Java's ProducerPerformance writes the records (1 KiB, acks=all), ConsumerPerformance reads them back, and the log ends
      say that every one is there.
group: three consumers in a group, each a process, while a producer sends numbered records; one consumer is killed. Every
      acknowledged record is read by somebody, and nothing that nobody sent.
"""

import argparse
import os
import random
import signal
import string
import subprocess
import sys
import tempfile
import time

from confluent_kafka import Consumer, Producer

import harness
import wire

PARTITIONS = 4


def log_end(bootstrap, topic):
    """Records in all partitions, by their ends."""
    with wire.Connection(bootstrap) as c:
        parts = c.call("ListOffsets", 5, {"ReplicaId": -1, "Topics": [{"Name": topic, "Partitions": [
            {"PartitionIndex": n, "Timestamp": -1} for n in range(PARTITIONS)]}]}).Topics[0].Partitions
    harness.same([p.ErrorCode for p in parts], [0] * PARTITIONS)
    return sum(p.Offset for p in parts)


def make_topic(bootstrap, name):
    with wire.Connection(bootstrap) as c:
        harness.create_topic(c, name, PARTITIONS)


def perf(bootstrap, topic, records):
    """Runs both perf tools with the JVM's own defaults: this is a measurement, not a quick test."""
    make_topic(bootstrap, topic)
    began = time.monotonic()
    out = subprocess.run([harness.PEER, "tool", "ProducerPerformance", "--topic", topic, "--num-records", str(records),
                          "--record-size", "1024", "--throughput", "-1", "--producer-props", f"bootstrap.servers={bootstrap}",
                          "acks=all"], stdout=subprocess.PIPE, text=True, check=True).stdout
    print(f"produced: {out.splitlines()[-1]}")
    harness.same(log_end(bootstrap, topic), records, "records in the log")
    produced = time.monotonic()
    out = subprocess.run([harness.PEER, "tool", "ConsumerPerformance", "--bootstrap-server", bootstrap, "--topic", topic,
                          "--num-records", str(records), "--timeout", "60000"], stdout=subprocess.PIPE, text=True, check=True).stdout
    head, values = [[x.strip() for x in line.split(",")] for line in out.splitlines()[-2:]]
    found = dict(zip(head, values))
    print(f"consumed: {found}")
    assert int(values[4]) >= records, f"{values[4]} of {records} records consumed"
    print(f"perf: {records} records, produce {produced - began:.1f} s, consume {time.monotonic() - produced:.1f} s")


def consume(bootstrap, group, topic, path):
    """A group member that notes every value it gets in a file, and commits as it goes; runs until it is ended."""
    c = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest", "session.timeout.ms": 6000,
                  "heartbeat.interval.ms": 500, "auto.commit.interval.ms": 500})
    c.subscribe([topic])
    with open(path, "w") as out:
        while True:
            for m in c.consume(1000, 0.2):
                if not m.error():
                    out.write(m.value().decode() + "\n")
            out.flush()


def start_member(*args):
    pid = os.fork()
    if pid == 0:
        consume(*args)
    return pid


def values_in(paths):
    """All whole lines so far: a killed member's last one may be torn."""
    found = []
    for path in paths:
        if os.path.exists(path):
            with open(path) as file:
                found += [int(line) for line in file if line.endswith("\n")]
    return found


def group(bootstrap, topic, records):
    make_topic(bootstrap, topic)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, str(n)) for n in range(3)]
        members = [start_member(bootstrap, topic + "-group", topic, path) for path in paths]
        try:
            acked = produce_and_kill(bootstrap, topic, records, members)
            harness.same(len(acked), records, "acknowledged")
            got = harness.eventually(lambda: (v := values_in(paths)) and len(set(v)) >= records and v, "all values", 120, 0.5)
            harness.same(set(got) - acked, set(), "values that nobody sent")
        finally:
            for pid in members:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    print(f"group: {records} records, all read, {len(got) - len(set(got))} read again after the kill, "
          f"{time.monotonic() - began:.1f} s")


def produce_and_kill(bootstrap, topic, records, members):
    """Sends numbered records; kills the first member half way. Returns the acknowledged values."""
    acked, failed = set(), []
    p = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 5, "queue.buffering.max.messages": 200_000})

    def report(error, message):
        if error:
            failed.append(str(error))
        else:
            acked.add(int(message.value()))
    for n in range(records):
        while True:
            try:
                p.produce(topic, b"%d" % n, partition=n % PARTITIONS, on_delivery=report)
                break
            except BufferError:
                p.poll(0.1)
        p.poll(0)
        if n % 1000 == 0:
            time.sleep(0.01)  # spread over several seconds, so that the kill falls into the middle of consuming
        if n == records // 2:
            victim = members.pop(0)
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
    harness.same((p.flush(60), failed[:3]), (0, []), "messages left and errors")
    return acked


def main():
    parser = argparse.ArgumentParser(prog="tests/clients/load")
    parser.add_argument("--bootstrap", default="127.0.0.1:9092")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["perf", "group"])
    options = parser.parse_args()
    name = "load-" + "".join(random.choices(string.ascii_lowercase, k=6))
    if options.only != "group":
        perf(options.bootstrap, name + "-perf", options.records)
    if options.only != "perf":
        group(options.bootstrap, name + "-group", options.records // 2)
    print("passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
