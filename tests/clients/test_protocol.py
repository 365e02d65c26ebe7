"""Frames, versions and order: what holds for every request.

Every version that a broker advertises is sent here with Kafka's own schemas.
"""

import os
import struct

import batches
import wire
from harness import eventually, same, test
from protocol import *  # noqa: F403 - error codes and bodies


# Key: (lowest version that Kafka advertises, highest that the clients in use send). Wider is right, narrower is not.
SERVED = {
    0: (0, 12), 1: (4, 17), 2: (1, 10), 3: (0, 13), 8: (2, 9), 9: (1, 9), 10: (0, 6), 11: (0, 9), 12: (0, 4), 13: (0, 5),
    14: (0, 5), 15: (0, 6), 16: (0, 5), 18: (0, 4), 19: (2, 7), 20: (1, 6), 21: (0, 2), 22: (0, 5), 23: (2, 4), 32: (1, 4),
    33: (0, 2), 35: (1, 4), 37: (0, 3), 42: (0, 2), 44: (0, 1), 47: (0, 0), 60: (0, 2), 61: (0, 0), 74: (0, 0), 75: (0, 0),
}


# ---- ApiVersions, framing and order ----

@test()
def api_versions_ranges(t):
    """Every key is advertised, no minimum is above Kafka's, no maximum below what clients send."""
    with t.connect() as c:
        keys = {k.ApiKey: (k.MinVersion, k.MaxVersion) for k in c.call("ApiVersions", 3, software()).ApiKeys}
    wrong = {k: (keys.get(k), want) for k, want in SERVED.items()
             if k not in keys or keys[k][0] != want[0] or keys[k][1] < want[1]}
    same(wrong, {}, "keys that are missing, or have another minimum or a lower maximum (got, want)")


@test()
def api_versions_unknown_version_gets_the_v0_body(t):
    """Error 35 in the version 0 body, listing ApiVersions itself; the connection stays usable."""
    with t.connect() as c:
        frame = bytearray(wire.request_bytes("ApiVersions", 3, software(), correlation=77))
        struct.pack_into(">h", frame, 6, 99)
        c.send_raw(bytes(frame))
        correlation, body = wire.decode_response("ApiVersions", 0, c.receive_frame())
        same((correlation, body.ErrorCode), (77, UNSUPPORTED_VERSION))
        own = [(k.MinVersion, k.MaxVersion) for k in body.ApiKeys if k.ApiKey == 18]
        assert own and own[0][0] == 0 and own[0][1] >= 4, f"range of ApiVersions: {own}"
        same(c.call("ApiVersions", 0).ErrorCode, NONE, "the next request")


@test()
def unknown_key_and_version_close_the_connection(t):
    """As in Kafka there is no answer to an unknown key, nor to an unknown version of a known key."""
    metadata = wire.request_bytes("Metadata", 12, {"Topics": []})
    for offset, value, what in ((4, 999, "key 999"), (6, 99, "Metadata version 99")):
        frame = bytearray(metadata)
        struct.pack_into(">h", frame, offset, value)
        with t.connect() as c:
            c.send_raw(bytes(frame))
            assert c.closed_by_broker(), f"{what} was answered"


@test()
def produce_below_v3_closes_the_connection(t):
    """Produce 0 to 2 are advertised, since librdkafka wants to see them, but closed on, as in Kafka."""
    topic = t.topic()
    good = wire.request_bytes("Produce", 7, produce_body(topic, batches.batch([(None, b"x")])))
    for version in range(3):
        with t.connect() as c:
            frame = bytearray(good)
            struct.pack_into(">h", frame, 6, version)
            c.send_raw(bytes(frame))
            assert c.closed_by_broker(), f"v{version} was answered"


@test()
def malformed_frames_close_only_their_connection(t):
    """Garbage, a negative or a huge length, a truncated body and absurd counts: closed; another connection lives on."""
    good = wire.request_bytes("Metadata", 8, {"Topics": [{"Name": "x"}]})
    huge_count = good[:4 + 10 + 4] + struct.pack(">i", 0x7FFFFFFF)
    huge_count = struct.pack(">i", len(huge_count) - 4) + huge_count[4:]
    truncated = good[4:-6]
    bad = {
        "garbage": struct.pack(">i", 64) + os.urandom(2) + b"\xff" * 62,
        "negative length": struct.pack(">i", -5) + b"abcdef",
        "length of 2 GiB": struct.pack(">i", 0x7FFFFFFF) + b"abcdef",
        "count of 2^31": huge_count,
        "truncated": struct.pack(">i", len(truncated)) + truncated,
        "empty": struct.pack(">i", 0),
    }
    with t.connect() as bystander:
        for what, frame in bad.items():
            with t.connect() as c:
                c.send_raw(frame)
                assert c.closed_by_broker(), f"{what} was answered"
            same(bystander.call("ApiVersions", 0).ErrorCode, NONE, f"another connection after {what}")


@test()
def responses_come_in_request_order(t):
    """80 requests of several kinds, pipelined, a long poll among them, are answered in the order sent."""
    topic = t.topic(partitions=4)
    with t.connect() as c:
        sent = []
        for n in range(20):
            body = produce_body(topic, batches.batch([(None, b"x")]), partition=n % 4)
            sent.append(("Produce", 9, c.send("Produce", 9, body)))
            sent.append(("Metadata", 12, c.send("Metadata", 12, {"Topics": [{"Name": topic}]})))
            wait = fetch_body(topic, offset=1000 if n == 7 else 0, partition=n % 4, max_wait_ms=300, min_bytes=1)
            sent.append(("Fetch", 12, c.send("Fetch", 12, wait)))
            sent.append(("ApiVersions", 0, c.send("ApiVersions", 0)))
        for api, version, correlation in sent:
            c.receive(api, version, correlation)


@test()
def pipelined_produce_keeps_its_order(t):
    """200 one-record requests to one partition without waiting get offsets 0 to 199 in order."""
    topic = t.topic()
    with t.connect() as c:
        sent = [c.send("Produce", 9, produce_body(topic, batches.batch([(None, b"%d" % n)]))) for n in range(200)]
        got = [c.receive("Produce", 9, s).Responses[0].PartitionResponses[0].BaseOffset for s in sent]
    same(got, list(range(200)))


# ---- every version ----

def sample_bodies(topic, uid, group, member, generation):
    """A sensible request of every API; fields that a version lacks are left out by the encoder."""
    partition0 = [{"Name": topic, "TopicId": uid, "Partitions": [{"PartitionIndex": 0, "CommittedOffset": 1}]}]
    return {
        "Produce": produce_body(topic, batches.batch([(b"k", b"v")]), topic_id=uid),
        "Fetch": fetch_body(topic, topic_id=uid),
        "ListOffsets": {"ReplicaId": -1, "Topics": [{"Name": topic, "Partitions": [{"PartitionIndex": 0, "Timestamp": -1}]}]},
        "Metadata": {"Topics": [{"Name": topic}]},
        "OffsetCommit": {"GroupId": group, "GenerationIdOrMemberEpoch": generation, "MemberId": member, "Topics": partition0},
        "OffsetFetch": {"GroupId": group, "Topics": [{"Name": topic, "PartitionIndexes": [0]}],
                        "Groups": [{"GroupId": group, "Topics": [{"Name": topic, "TopicId": uid, "PartitionIndexes": [0]}]}]},
        "FindCoordinator": {"Key": group, "KeyType": 0, "CoordinatorKeys": [group]},
        "JoinGroup": {**join_body(group + "-join", "nobody")},
        "Heartbeat": {"GroupId": group, "GenerationId": generation, "MemberId": member},
        "LeaveGroup": {"GroupId": group, "MemberId": "nobody", "Members": [{"MemberId": "nobody"}]},
        "SyncGroup": {"GroupId": group, "GenerationId": generation, "MemberId": member, "ProtocolType": "consumer",
                      "ProtocolName": "range"},
        "DescribeGroups": {"Groups": [group]},
        "ListGroups": {},
        "ApiVersions": software(),
        "CreateTopics": {"Topics": [{"Name": topic, "NumPartitions": 1, "ReplicationFactor": 1}], "timeoutMs": 5000},
        "DeleteTopics": {"TopicNames": [topic + "-none"], "Topics": [{"Name": topic + "-none"}], "TimeoutMs": 5000},
        "DeleteRecords": {"Topics": [{"Name": topic, "Partitions": [{"PartitionIndex": 0, "Offset": 0}]}], "TimeoutMs": 5000},
        "InitProducerId": {"TransactionalId": None, "TransactionTimeoutMs": 60000},
        "OffsetForLeaderEpoch": {"ReplicaId": -1, "Topics": [{"Topic": topic, "Partitions": [
            {"Partition": 0, "LeaderEpoch": 0}]}]},
        "DescribeConfigs": {"Resources": [{"ResourceType": 2, "ResourceName": topic, "ConfigurationKeys": None}]},
        "AlterConfigs": {"Resources": [{"ResourceType": 2, "ResourceName": topic, "Configs": []}], "ValidateOnly": True},
        "DescribeLogDirs": {"Topics": [{"Topic": topic, "Partitions": [0]}]},
        "CreatePartitions": {"Topics": [{"Name": topic, "Count": 9, "Assignments": None}], "TimeoutMs": 5000,
                             "ValidateOnly": True},
        "DeleteGroups": {"GroupsNames": [group + "-none"]},
        "IncrementalAlterConfigs": {"Resources": [{"ResourceType": 2, "ResourceName": topic, "Configs": [
            {"Name": "retention.ms", "ConfigOperation": 0, "Value": "1000"}]}], "ValidateOnly": True},
        "OffsetDelete": {"GroupId": group + "-none", "Topics": [{"Name": topic, "Partitions": [{"PartitionIndex": 0}]}]},
        "DescribeCluster": {"EndpointType": 1},
        "DescribeProducers": {"Topics": [{"Name": topic, "PartitionIndexes": [0]}]},
        "ListConfigResources": {"ResourceTypes": []},
        "DescribeTopicPartitions": {"Topics": [{"Name": topic}], "ResponsePartitionLimit": 100, "Cursor": None},
    }


# What versions differ in beside the shape: an error that only these answer for the request above.
EXPECTED_ERRORS = {"JoinGroup": UNKNOWN_MEMBER_ID, "LeaveGroup": UNKNOWN_MEMBER_ID, "CreateTopics": TOPIC_ALREADY_EXISTS,
                   "DeleteTopics": UNKNOWN_TOPIC_OR_PARTITION, "DeleteGroups": GROUP_ID_NOT_FOUND,
                   "OffsetDelete": GROUP_ID_NOT_FOUND}


def error_codes(body):
    """Every error code anywhere in a response."""
    found = []
    for name, value in body.items():
        if name == "ErrorCode":
            found.append(value)
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, wire.Body):
                found += error_codes(inner)
    return found


@test(timeout_s=60)
def every_version_of_every_key(t):
    """Each advertised version of each key: the answer decodes to its last byte and holds the expected error code."""
    topic, group = t.topic(partitions=2), t.name("g")
    with t.connect() as c:
        uid = topic_id(c, topic)
        member, generation = joined(c, group)
        producer_id(c)
        keys = {k.ApiKey: (k.MinVersion, k.MaxVersion) for k in c.call("ApiVersions", 3, software()).ApiKeys}
        wrong, tried = [], 0
        for key, api in sorted(wire.api_names().items()):
            body = sample_bodies(topic, uid, group, member, generation).get(api)
            if body is None or key not in keys:
                continue
            low, high = wire.versions(api)
            for version in range(max(low, keys[key][0]), min(high, keys[key][1]) + 1):
                tried += 1
                try:
                    codes = error_codes(c.call(api, version, _fitting(api, version, body)))
                except (AssertionError, wire.Closed, TimeoutError, ValueError, struct.error) as error:
                    wrong.append(f"{api} v{version}: {error!r}")
                    c.socket.close()
                    c.__init__(t.bootstrap)
                    continue
                expected = EXPECTED_ERRORS.get(api, NONE)
                if set(codes) - {NONE, expected} or (expected and expected not in codes):
                    wrong.append(f"{api} v{version}: error codes {codes}, expected {expected}")
        print(f"{tried} requests")
        same(wrong, [], "versions")
        assert tried >= 130, f"only {tried} versions tried"


def _fitting(api, version, body):
    """The body as far as this version has its fields, where leaving them to the default would change the meaning."""
    if api == "Produce" and version >= 13 or api == "Fetch" and version >= 13:
        return body
    if api == "LeaveGroup" and version >= 3:
        return {k: v for k, v in body.items() if k != "MemberId"}
    return body
