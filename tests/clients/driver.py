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
           "test_librdkafka", "test_librdkafka_groups", "test_librdkafka_admin", "test_kafka_python", "test_aiokafka", "test_kafkajs", "test_java_tools", "test_java_client",
           "test_go"]
TAIL_LINES = 40


def arguments():
    parser = argparse.ArgumentParser(prog="tests/clients/run", description="Real Kafka clients against a broker.")
    parser.add_argument("--bootstrap", metavar="HOST:PORT", default="127.0.0.1:9092")
    parser.add_argument("--against", choices=["ringlog", "kafka"], default="ringlog",
                        help="which broker listens there; decides which of the known differences apply")
    parser.add_argument("--only", metavar="NAME[,..]", help="a client (kcat, java), a test (kcat.keys) or a pattern (*group*)")
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time (default 2)")
    parser.add_argument("--list", action="store_true", help="print the tests and what they assert, and stop")
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
        # Not reaped before its group is ended: until then nobody else can have its number.
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        late = time.monotonic() - self.began > self.test.timeout_s
        if ended is None and not late:
            return None
        status = self.end()
        if ended is None:
            return False, f"not done after {self.test.timeout_s:g} s"
        return os.waitstatus_to_exitcode(status) == 0, ""

    def end(self):
        """Ends the test and whatever it started; returns its wait status."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(self.pid, signal.SIGKILL)  # it has not come as far as its own group
        return os.waitpid(self.pid, 0)[1]


def report(running, passed, note):
    seconds = time.monotonic() - running.began
    print(f"{'ok' if passed else 'FAIL'} {running.test.name} {seconds:.1f} s{' ' + note if note else ''}", flush=True)
    if not passed:
        with open(running.log, errors="replace") as log:
            for line in log.read().splitlines()[-TAIL_LINES:]:
                print(f"    {line}", flush=True)


def run_all(tests, options, logs):
    """Runs the tests, as many at a time as asked for; returns how many passed and failed."""
    run_id = "".join(random.choices(string.ascii_lowercase, k=5))
    waiting, running, counts = list(tests), [], {True: 0, False: 0}
    try:
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
    finally:
        for one in running:  # only when interrupted
            one.end()
    return counts[True], counts[False]


def main():
    options = arguments()
    for module in MODULES:
        importlib.import_module(module)
    tests = selected(options.only)
    unknown = set(differences.ONLY_ON) - {t.name for t in harness.TESTS}
    assert not unknown, f"differences.py names tests that do not exist: {sorted(unknown)}"
    if options.list:
        for t in tests:
            print(f"{t.name}: {' '.join((t.run.__doc__ or '').split())}")
        return 0

    logs = options.logs or tempfile.mkdtemp(prefix="ringlog-clients-")
    os.makedirs(logs, exist_ok=True)
    elsewhere = {t.name: differences.ONLY_ON[t.name] for t in tests
                 if differences.ONLY_ON.get(t.name, (options.against,))[0] != options.against}
    began = time.monotonic()
    passed, failed = run_all([t for t in tests if t.name not in elsewhere], options, logs)
    for name, (broker, why) in elsewhere.items():
        print(f"differs {name} only on {broker}: {why}")
    if not options.logs:
        shutil.rmtree(logs, ignore_errors=True)
    for why in harness.MISSING:
        print(f"without {why}")
    print(f"{len(elsewhere)} differences, {time.monotonic() - began:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
