"""Runs the client tests against a broker: `tests/clients/run --bootstrap HOST:PORT`.

Each test runs in a forked process with its own process group, log and time limit; one line per test, then the count.
"""

import argparse
import fnmatch
import importlib
import os
import random
import shutil
import signal
import string
import sys
import tempfile
import time
import traceback

import differences
import harness

MODULES = ["test_protocol", "test_protocol_topics", "test_protocol_log", "test_protocol_groups",
           "test_kcat",
           "test_librdkafka", "test_librdkafka_groups", "test_librdkafka_admin", "test_kafka_python", "test_aiokafka", "test_kafkajs", "test_java_tools", "test_java_client"]
TAIL_LINES = 40


def arguments():
    parser = argparse.ArgumentParser(prog="tests/clients/run", description="Real Kafka clients against a broker.")
    parser.add_argument("--bootstrap", metavar="HOST:PORT", default="127.0.0.1:9092")
    parser.add_argument("--against", choices=["ringlog", "kafka"], default="ringlog",
                        help="which broker listens there; decides which of the known differences apply")
    parser.add_argument("--only", metavar="NAME[,..]", help="a client (kcat, java), a test (kcat.keys) or a pattern (*group*)")
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time (default 2)")
    parser.add_argument("--list", action="store_true", help="print the names of the tests and stop")
    parser.add_argument("--logs", metavar="DIR", help="keep every test's log in this folder")
    return parser.parse_args()


def _matches(name, pattern):
    client = name.split(".")[0]
    return name == pattern or client == pattern or client.startswith(pattern + "_") or fnmatch.fnmatch(name, pattern)


def selected(only):
    if not only:
        return list(harness.TESTS)
    patterns = only.split(",")
    chosen = [t for t in harness.TESTS
              if any(_matches(t.name, p) for p in patterns)]
    if not chosen:
        sys.exit(f"tests/clients/run: no test matches {only}; see --list")
    return chosen


def child(test, case, log):
    """The forked side: runs one test and never returns."""
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    code = 0
    try:
        test.run(case)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # client libraries' threads must not hold up the end


class Running:
    def __init__(self, test, case, log):
        self.test, self.log, self.began = test, log, time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            child(test, case, log)

    def outcome(self):
        """None while it runs, else (passed, note)."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        late = time.monotonic() - self.began > self.test.timeout_s
        if pid == 0 and not late:
            return None
        self._end_group()
        if pid == 0:
            os.waitpid(self.pid, 0)
            return False, f"not done after {self.test.timeout_s:g} s"
        return os.waitstatus_to_exitcode(status) == 0, ""

    def _end_group(self):
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def report(running, passed, note):
    seconds = time.monotonic() - running.began
    print(f"{'ok' if passed else 'FAIL'} {running.test.name} {seconds:.1f} s{' ' + note if note else ''}", flush=True)
    if not passed:
        with open(running.log, errors="replace") as log:
            for line in log.read().splitlines()[-TAIL_LINES:]:
                print(f"    {line}", flush=True)


def main():
    options = arguments()
    for module in MODULES:
        importlib.import_module(module)
    tests = selected(options.only)
    unknown = set(differences.ONLY_ON) - {t.name for t in harness.TESTS}
    assert not unknown, f"differences.py names tests that do not exist: {sorted(unknown)}"
    if options.list:
        print("\n".join(t.name for t in tests))
        return 0

    logs = options.logs or tempfile.mkdtemp(prefix="ringlog-clients-")
    os.makedirs(logs, exist_ok=True)
    run_id = "".join(random.choices(string.ascii_lowercase, k=5))
    elsewhere = {t.name: differences.ONLY_ON[t.name] for t in tests
                 if differences.ONLY_ON.get(t.name, (options.against,))[0] != options.against}
    waiting = [t for t in tests if t.name not in elsewhere]
    running, counts, began = [], {True: 0, False: 0}, time.monotonic()
    while waiting or running:
        while waiting and len(running) < options.jobs:
            test = waiting.pop(0)
            prefix = f"{run_id}-{test.name.replace('_', '-')}"
            case = harness.Case(options.bootstrap, options.against, prefix)
            running.append(Running(test, case, os.path.join(logs, test.name + ".log")))
        for one in list(running):
            outcome = one.outcome()
            if outcome is not None:
                running.remove(one)
                counts[outcome[0]] += 1
                report(one, *outcome)
        time.sleep(0.02)
    for name, (broker, why) in elsewhere.items():
        print(f"differs {name} only on {broker}: {why}")
    if not options.logs:
        shutil.rmtree(logs, ignore_errors=True)
    print(f"{len(elsewhere)} differences, {time.monotonic() - began:.0f} s")
    print(f"{counts[True]} passed, {counts[False]} failed")
    return 1 if counts[False] else 0


if __name__ == "__main__":
    sys.exit(main())
