"""Classic groups and their offsets, request by request."""

import struct

from harness import eventually, same, test
from protocol import *  # noqa: F403 - error codes and bodies


# ---- groups ----

@test()
def offset_fetch_of_unknown_group(t):
    """No error and offset -1 for a group nobody has heard of, in all versions."""
    topic, group = t.topic(partitions=2), t.name("nobody")
    with t.connect() as c:
        uid = topic_id(c, topic)
        coordinator(c, group)
        for version in range(1, 11):
            body = {"GroupId": group, "Topics": [{"Name": topic, "PartitionIndexes": [0, 1]}], "Groups": [
                {"GroupId": group, "Topics": [{"Name": topic, "TopicId": uid, "PartitionIndexes": [0, 1]}]}]}
            if version > highest(c, 9):
                break
            reply = c.call("OffsetFetch", version, body)
            part = reply.Groups[0] if version >= 8 else reply
            same([(p.ErrorCode, p.CommittedOffset) for p in part.Topics[0].Partitions], [(NONE, -1)] * 2, f"v{version}")
            same(part.ErrorCode, NONE, f"v{version}")


@test()
def offset_commit_and_fetch(t):
    """Offset, metadata and leader epoch come back; all topics for null; wrong generation and member are refused."""
    topic, group = t.topic(partitions=2), t.name("g")

    def commit(c, offset, generation=-1, member="", group=group, name=topic):
        return c.call("OffsetCommit", 8, {"GroupId": group, "GenerationIdOrMemberEpoch": generation, "MemberId": member,
                                          "Topics": [{"Name": name, "Partitions": [{
                                              "PartitionIndex": 1, "CommittedOffset": offset, "CommittedLeaderEpoch": 3,
                                              "CommittedMetadata": "note"}]}]}).Topics[0].Partitions[0].ErrorCode
    with t.connect() as c:
        coordinator(c, group)
        same(commit(c, 42), NONE, "a simple commit to an empty group")
        for version in (5, 7, 8, 9):
            reply = c.call("OffsetFetch", version, {"GroupId": group, "Topics": None, "Groups": [
                {"GroupId": group, "Topics": None}]} if version != 1 else {})
            found = (reply.Groups[0] if version >= 8 else reply).Topics
            same([(x.Name, [(p.PartitionIndex, p.CommittedOffset, p.CommittedLeaderEpoch, p.Metadata) for p in x.Partitions])
                  for x in found], [(topic, [(1, 42, 3, "note")])], f"all topics in v{version}")
        member, generation = joined(c, group)
        same(commit(c, 43, generation, member), NONE, "as a member")
        same(commit(c, 44, generation + 5, member), ILLEGAL_GENERATION, "wrong generation")
        same(commit(c, 44, generation, "stranger"), UNKNOWN_MEMBER_ID, "wrong member")
        same(commit(c, 44), UNKNOWN_MEMBER_ID, "a simple commit to a group with members")
        same(commit(c, 1, name=t.name("none"), group=t.name("h")), UNKNOWN_TOPIC_OR_PARTITION, "unknown topic")
        big = c.call("OffsetCommit", 8, {"GroupId": t.name("i"), "GenerationIdOrMemberEpoch": -1, "MemberId": "", "Topics": [
            {"Name": topic, "Partitions": [{"PartitionIndex": 0, "CommittedOffset": 1, "CommittedMetadata": "x" * 5000}]}]})
        same(big.Topics[0].Partitions[0].ErrorCode, 12, "metadata of 5000 bytes: OFFSET_METADATA_TOO_LARGE")


@test()
def join_group_rules(t):
    """Session timeouts outside 6 s to 30 min, empty ids, unknown members, foreign protocols: each its code."""
    group = t.name("g")
    with t.connect() as c:
        coordinator(c, group)

        def code(version=5, **kwargs):
            return c.call("JoinGroup", version, join_body(**{"group": group, **kwargs})).ErrorCode
        same(code(session_ms=5999), INVALID_SESSION_TIMEOUT, "5999 ms")
        same(code(session_ms=1_800_001), INVALID_SESSION_TIMEOUT, "over 30 minutes")
        same(code(session_ms=6000), MEMBER_ID_REQUIRED, "6000 ms")
        same(code(group=""), INVALID_GROUP_ID, "empty group id")
        same(code(member="stranger"), UNKNOWN_MEMBER_ID, "unknown member")
        member, _ = joined(c, group)
        same(code(protocol_type="connect"), INCONSISTENT_GROUP_PROTOCOL, "another protocol type")
        same(code(protocol="strange"), INCONSISTENT_GROUP_PROTOCOL, "no protocol in common")
        fresh = t.name("old")
        old = c.call("JoinGroup", 2, join_body(fresh))
        same((old.ErrorCode, old.Leader == old.MemberId, len(old.Members)), (NONE, True, 1), "v2 joins without a second round")


@test()
def generations_are_fenced(t):
    """Heartbeat, SyncGroup and LeaveGroup check generation and member; a leave empties the group."""
    group = t.name("g")
    with t.connect() as c:
        member, generation = joined(c, group)

        def beat(generation=generation, member=member):
            return c.call("Heartbeat", 3, {"GroupId": group, "GenerationId": generation, "MemberId": member}).ErrorCode
        same((beat(), beat(generation + 1), beat(generation - 1), beat(member="x")),
             (NONE, ILLEGAL_GENERATION, ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID), "heartbeats")
        sync = c.call("SyncGroup", 3, {"GroupId": group, "GenerationId": generation + 1, "MemberId": member})
        same(sync.ErrorCode, ILLEGAL_GENERATION, "sync")
        state = c.call("DescribeGroups", 5, {"Groups": [group]}).Groups[0]
        same((state.GroupState, state.ProtocolType, state.ProtocolData), ("Stable", "consumer", "range"))
        same([(m.MemberId, m.ClientId, m.MemberAssignment) for m in state.Members], [(member, "wire", b"mine")])
        assert state.Members[0].ClientHost == "/127.0.0.1", state.Members[0].ClientHost
        left = c.call("LeaveGroup", 3, {"GroupId": group, "Members": [{"MemberId": member}, {"MemberId": "x"}]})
        same([m.ErrorCode for m in left.Members], [NONE, UNKNOWN_MEMBER_ID], "leave")
        same(beat(), UNKNOWN_MEMBER_ID, "heartbeat after leaving")
        same(c.call("DescribeGroups", 5, {"Groups": [group]}).Groups[0].GroupState, "Empty")


@test()
def rebalance_is_announced_by_heartbeat(t):
    """A second member's join makes the first one's heartbeat REBALANCE_IN_PROGRESS; both join the next generation."""
    group = t.name("g")
    with t.connect() as one, t.connect() as two:
        member, generation = joined(one, group)
        second = two.call("JoinGroup", 5, join_body(group)).MemberId
        pending = two.send("JoinGroup", 5, join_body(group, second))

        def beat():
            return one.call("Heartbeat", 3, {"GroupId": group, "GenerationId": generation, "MemberId": member}).ErrorCode
        eventually(lambda: beat() == REBALANCE_IN_PROGRESS, "heartbeat announces the rebalance")
        again = one.call("JoinGroup", 5, join_body(group, member))
        other = two.receive("JoinGroup", 5, pending)
        same((again.ErrorCode, other.ErrorCode), (NONE, NONE))
        same((again.GenerationId, other.GenerationId), (generation + 1, generation + 1), "generation")
        leader = again if again.Leader == member else other
        same(sorted(m.MemberId for m in leader.Members), sorted([member, second]), "the leader sees both")


@test()
def list_and_delete_groups(t):
    """Groups are listed with type and state filters; a group with members is not deleted, an empty one is, once."""
    topic, group = t.topic(), t.name("g")
    with t.connect() as c:
        member, generation = joined(c, group)

        def listed(**filters):
            return {g.GroupId: g for g in c.call("ListGroups", 5, filters).Groups}
        assert group in listed() and group in listed(StatesFilter=["Stable"]) and group in listed(TypesFilter=["classic"])
        assert group not in listed(StatesFilter=["Empty"]) and group not in listed(TypesFilter=["consumer"])
        same((listed()[group].GroupState, listed()[group].GroupType, listed()[group].ProtocolType),
             ("Stable", "classic", "consumer"))
        none = t.name("none")
        reply = c.call("DeleteGroups", 2, {"GroupsNames": [group, none]}).Results
        same({r.GroupId: r.ErrorCode for r in reply}, {group: NON_EMPTY_GROUP, none: GROUP_ID_NOT_FOUND})
        c.call("LeaveGroup", 3, {"GroupId": group, "Members": [{"MemberId": member}]})
        same(c.call("DeleteGroups", 2, {"GroupsNames": [group]}).Results[0].ErrorCode, NONE)
        same(c.call("DeleteGroups", 2, {"GroupsNames": [group]}).Results[0].ErrorCode, GROUP_ID_NOT_FOUND, "again")
        assert group not in listed()


@test()
def describe_unknown_group_is_dead(t):
    """DescribeGroups up to v5: no error and state Dead; v6: GROUP_ID_NOT_FOUND with a message."""
    with t.connect() as c:
        coordinator(c, t.name("g"))
        for version in range(0, 6):
            got = c.call("DescribeGroups", version, {"Groups": [t.name("none")]}).Groups[0]
            same((got.ErrorCode, got.GroupState), (NONE, "Dead"), f"v{version}")
        got = c.call("DescribeGroups", 6, {"Groups": [t.name("none")]}).Groups[0]
        same((got.ErrorCode, got.GroupState), (GROUP_ID_NOT_FOUND, "Dead"), "v6")


@test()
def offset_delete_rules(t):
    """Offsets of a topic nobody is subscribed to go; those of a subscribed one stay."""
    topic, other, group = t.topic(), t.topic(), t.name("g")
    subscription = struct.pack(">hi", 0, 1) + struct.pack(">h", len(topic)) + topic.encode() + struct.pack(">i", -1)
    with t.connect() as c:
        coordinator(c, group)
        for name in (topic, other):
            c.call("OffsetCommit", 8, {"GroupId": group, "GenerationIdOrMemberEpoch": -1, "MemberId": "", "Topics": [
                {"Name": name, "Partitions": [{"PartitionIndex": 0, "CommittedOffset": 5}]}]})
        member = c.call("JoinGroup", 5, join_body(group)).MemberId
        body = join_body(group, member)
        body["Protocols"][0]["Metadata"] = subscription
        generation = c.call("JoinGroup", 5, body).GenerationId
        c.call("SyncGroup", 3, {"GroupId": group, "GenerationId": generation, "MemberId": member,
                                "Assignments": [{"MemberId": member, "Assignment": b""}]})
        reply = c.call("OffsetDelete", 0, {"GroupId": group, "Topics": [
            {"Name": n, "Partitions": [{"PartitionIndex": 0}]} for n in (topic, other)]})
        same({x.Name: x.Partitions[0].ErrorCode for x in reply.Topics}, {topic: GROUP_SUBSCRIBED_TO_TOPIC, other: NONE})
        found = c.call("OffsetFetch", 5, {"GroupId": group, "Topics": None}).Topics
        same([x.Name for x in found], [topic], "topics with offsets left")
