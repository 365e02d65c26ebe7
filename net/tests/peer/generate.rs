//! Random messages, and fixed ones.

use bytes::Bytes;
use proptest::option;
use proptest::prelude::*;
use ringlog_net::peer::{
    Answer, Control, Hello, Identity, Message, Refusal, RefusalReason, Request, SnapshotChunk, Stream,
    VersionRange, Welcome,
};
use uuid::Uuid;

fn id() -> impl Strategy<Value = Uuid> {
    (1u128..).prop_map(Uuid::from_u128)
}

fn any_identity() -> impl Strategy<Value = Identity> {
    (0i32.., option::of(id()), id(), id(), option::of(0i64..)).prop_map(
        |(node_id, cluster_id, directory, incarnation, broker_epoch)| Identity {
            node_id,
            cluster_id,
            directory,
            incarnation,
            broker_epoch,
        },
    )
}

fn range() -> impl Strategy<Value = VersionRange> {
    (any::<u16>(), any::<u16>()).prop_map(|(a, b)| VersionRange { lowest: a.min(b), highest: a.max(b) })
}

fn any_hello() -> impl Strategy<Value = Hello> {
    let stream = prop::sample::select(&Stream::ALL[..]);
    (any_identity(), range(), range(), stream, option::of(0i32..), any::<u32>(), 1u32..).prop_map(
        |(identity, versions, metadata, stream, expected_node_id, shard, shards)| Hello {
            identity,
            versions,
            metadata,
            stream,
            expected_node_id,
            shard,
            shards,
        },
    )
}

fn any_welcome() -> impl Strategy<Value = Welcome> {
    (any_identity(), any::<u16>(), 1u32.., any::<prop::sample::Index>()).prop_map(
        |(identity, version, shards, shard)| {
            let shard = shard.index(shards as usize) as u32;
            Welcome { identity, version, shard, shards }
        },
    )
}

fn any_refusal() -> impl Strategy<Value = Refusal> {
    let reason = prop_oneof![
        prop::sample::select(vec![
            RefusalReason::Version,
            RefusalReason::MetadataLevel,
            RefusalReason::NotTheNode,
            RefusalReason::Myself,
            RefusalReason::WrongCluster,
            RefusalReason::DuplicateNodeId,
            RefusalReason::StaleIncarnation,
            RefusalReason::StaleBrokerEpoch,
            RefusalReason::NotReady,
            RefusalReason::Stopping,
        ]),
        (100u16..).prop_map(RefusalReason::Other),
    ];
    (any_identity(), reason).prop_map(|(identity, reason)| Refusal { identity, reason })
}

fn body() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        (0usize..5_000, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
        // What looks like a frame inside of one.
        Just(b"RLPF\0\0\0\0\x01\0\x04\0".to_vec()),
    ]
    .prop_map(Bytes::from)
}

fn chunk() -> impl Strategy<Value = SnapshotChunk> {
    (any::<u64>(), any::<u64>(), 0u64..1 << 40, 0u64..1 << 20, body()).prop_map(
        |(term, index, offset, behind, bytes)| {
            let total = offset + bytes.len() as u64 + behind;
            SnapshotChunk { term, index, offset, total, bytes }
        },
    )
}

/// Any message.
pub fn message() -> impl Strategy<Value = Message> {
    let request = (any::<u64>(), any::<u16>(), any::<u16>(), any::<u32>(), body());
    prop_oneof![
        any_hello().prop_map(Message::Hello),
        any_welcome().prop_map(Message::Welcome),
        any_refusal().prop_map(Message::Refusal),
        any::<u64>().prop_map(Message::Ping),
        any::<u64>().prop_map(Message::Pong),
        body().prop_map(Message::Raft),
        (any::<u64>(), chunk()).prop_map(|(id, chunk)| Message::SnapshotChunk(id, chunk)),
        request.prop_map(|(id, code, version, timeout_ms, body)| {
            Message::Request(id, Request { code, version, timeout_ms, body })
        }),
        (any::<u64>(), any::<i16>(), body())
            .prop_map(|(id, error, body)| Message::Answer(id, Answer { error, body })),
        (any::<u16>(), any::<u16>(), body()).prop_map(|(code, version, body)| Message::Control(Control {
            code,
            version,
            body
        })),
    ]
}

/// A broker that belongs to no cluster yet.
pub fn identity() -> Identity {
    Identity {
        node_id: 7,
        cluster_id: None,
        directory: Uuid::from_bytes([0xdd; 16]),
        incarnation: Uuid::from_bytes([0xcc; 16]),
        broker_epoch: None,
    }
}

/// What it says first.
pub fn hello() -> Hello {
    Hello {
        identity: identity(),
        versions: VersionRange { lowest: 1, highest: 3 },
        metadata: VersionRange { lowest: 4, highest: 25 },
        stream: Stream::Bulk,
        expected_node_id: None,
        shard: 5,
        shards: 8,
    }
}

/// What it answers.
pub fn welcome_of(version: u16) -> Welcome {
    Welcome { identity: identity(), version, shard: 2, shards: 3 }
}
