"""Error codes, request bodies and small steps that the protocol tests share."""

import batches
import wire
from harness import eventually, same

NONE, OFFSET_OUT_OF_RANGE, CORRUPT_MESSAGE, UNKNOWN_TOPIC_OR_PARTITION = 0, 1, 2, 3
MESSAGE_TOO_LARGE, INVALID_TOPIC_EXCEPTION, INVALID_REQUIRED_ACKS = 10, 17, 21
ILLEGAL_GENERATION, INCONSISTENT_GROUP_PROTOCOL, INVALID_GROUP_ID = 22, 23, 24
UNKNOWN_MEMBER_ID, INVALID_SESSION_TIMEOUT, REBALANCE_IN_PROGRESS = 25, 26, 27
INVALID_TIMESTAMP, UNSUPPORTED_VERSION, TOPIC_ALREADY_EXISTS = 32, 35, 36
INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR, INVALID_CONFIG, INVALID_REQUEST = 37, 38, 40, 42
OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE = 45, 47, 48
INVALID_PRODUCER_ID_MAPPING = 49
NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND, FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH = 68, 69, 70, 71
UNKNOWN_LEADER_EPOCH, MEMBER_ID_REQUIRED, GROUP_SUBSCRIBED_TO_TOPIC, INVALID_RECORD = 75, 79, 86, 87
UNKNOWN_TOPIC_ID = 100


def produce_body(topic, records, acks=-1, partition=0, topic_id=wire.NO_UUID, transactional_id=None):
    return {"Acks": acks, "TimeoutMs": 10000, "TransactionalId": transactional_id, "TopicData": [
        {"Name": topic, "TopicId": topic_id, "PartitionData": [{"Index": partition, "Records": records}]}]}


def produced(connection, topic, records, version=9, **kwargs):
    """Produces and returns the partition's part of the answer."""
    return connection.call("Produce", version, produce_body(topic, records, **kwargs)).Responses[0].PartitionResponses[0]


def fill(connection, topic, count=10, partition=0, size=10):
    """Appends `count` batches of one record each; returns the offset of the last one."""
    for n in range(count):
        answer = produced(connection, topic, batches.batch([(b"k%d" % n, b"v" * size)]), partition=partition)
        same(answer.ErrorCode, NONE, "produce")
    return answer.BaseOffset


def fetch_body(topic, offset=0, partition=0, topic_id=wire.NO_UUID, max_wait_ms=0, min_bytes=0, max_bytes=1 << 20,
               partition_max_bytes=1 << 20, session=0, epoch=-1, leader_epoch=-1):
    return {"MaxWaitMs": max_wait_ms, "MinBytes": min_bytes, "MaxBytes": max_bytes, "SessionId": session,
            "SessionEpoch": epoch, "ReplicaId": -1, "Topics": [{"Topic": topic, "TopicId": topic_id, "Partitions": [
                {"Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": partition_max_bytes,
                 "CurrentLeaderEpoch": leader_epoch}]}]}


def offset_of(connection, topic, timestamp, partition=0, version=7):
    answer = connection.call("ListOffsets", version, {"ReplicaId": -1, "Topics": [
        {"Name": topic, "Partitions": [{"PartitionIndex": partition, "Timestamp": timestamp}]}]})
    return answer.Topics[0].Partitions[0]


def topic_id(connection, topic):
    return connection.call("Metadata", 12, {"Topics": [{"Name": topic}]}).Topics[0].TopicId


def coordinator(connection, group):
    """Waits until the group's coordinator answers; the first use of groups creates `__consumer_offsets`."""
    def found():
        return connection.call("FindCoordinator", 3, {"Key": group, "KeyType": 0}).ErrorCode == 0
    eventually(found, "a coordinator")

    def loaded():
        return connection.call("DescribeGroups", 5, {"Groups": [group]}).Groups[0].ErrorCode not in (14, 15, 16)
    eventually(loaded, "the coordinator has loaded")


def join_body(group, member="", protocol="range", session_ms=10000, protocol_type="consumer"):
    return {"GroupId": group, "SessionTimeoutMs": session_ms, "RebalanceTimeoutMs": 10000, "MemberId": member,
            "ProtocolType": protocol_type, "Protocols": [{"Name": protocol, "Metadata": b"\0\0\0\0\0\0\0\0\0\0"}]}


def joined(connection, group):
    """Joins as the only member and syncs; returns (member id, generation)."""
    coordinator(connection, group)
    first = connection.call("JoinGroup", 5, join_body(group))
    same(first.ErrorCode, MEMBER_ID_REQUIRED, "join without a member id")
    second = connection.call("JoinGroup", 5, join_body(group, first.MemberId))
    same((second.ErrorCode, second.Leader), (NONE, first.MemberId), "join")
    sync = connection.call("SyncGroup", 3, {"GroupId": group, "GenerationId": second.GenerationId, "MemberId": first.MemberId,
                                            "Assignments": [{"MemberId": first.MemberId, "Assignment": b"mine"}]})
    same((sync.ErrorCode, sync.Assignment), (NONE, b"mine"), "sync")
    return first.MemberId, second.GenerationId


def highest(connection, key):
    """The highest version of a key that the broker advertises."""
    return next(k.MaxVersion for k in connection.call("ApiVersions", 0).ApiKeys if k.ApiKey == key)


def software():
    """The body of an ApiVersions request."""
    return {"ClientSoftwareName": "wire", "ClientSoftwareVersion": "1"}


def producer_id(connection):
    """A fresh producer id; a broker may need a moment for its first block of them."""
    def asked():
        reply = connection.call("InitProducerId", 4, {"TransactionalId": None, "TransactionTimeoutMs": 60000})
        return reply if reply.ErrorCode == NONE else None
    return eventually(asked, "a producer id")
