//! The handshake: who dials, what it wants, who answers.
//!
//! ```text
//! identity (64 bytes)                                 hello (88 bytes)
//!   0  node id       i32                                0  identity of the one that dials
//!   4  zero          u32, 0                            64  lowest format version    u16
//!   8  broker epoch  i64, -1 where none                66  highest format version   u16
//!  16  cluster id    16 bytes, 0 where none            68  lowest metadata level    u16
//!  32  directory id  16 bytes                          70  highest metadata level   u16
//!  48  incarnation   16 bytes                          72  stream                   u16: 1 raft, 2 bulk,
//!                                                                                   3 requests, 4 data
//! welcome (76 bytes)                                   74  zero                     u16, 0
//!   0  identity of the one that answers                76  expected node id         i32, -1 where any
//!  64  version   u16, agreed on                        80  shard wanted             u32
//!  66  zero      u16, 0                                84  shards of the one that dials  u32
//!  68  shard     u32, that answers
//!  72  shards    u32, of the one that answers        refusal (68 bytes)
//!                                                       0  identity of the one that refuses
//!                                                      64  reason    u16
//!                                                      66  zero      u16, 0
//! ```
//!
//! Bytes behind these are ignored: a later version may say more and is still understood. The answer always tells
//! who gave it: another incarnation than the one that was asked for proves that the asked process is gone.

use super::error::FrameError;
use super::format::{Kind, Stream};
use std::fmt;
use uuid::Uuid;
use zerocopy::little_endian::{I32, I64, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Versions that a broker speaks, or levels that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The lowest.
    pub lowest: u16,
    /// The highest, not below the lowest.
    pub highest: u16,
}

/// Who a broker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Node id.
    pub node_id: i32,
    /// Its cluster; none while it belongs to none.
    pub cluster_id: Option<Uuid>,
    /// Names its data folder.
    pub directory: Uuid,
    /// Names its process.
    pub incarnation: Uuid,
    /// The epoch of its registration; none before it is registered.
    pub broker_epoch: Option<i64>,
}

/// The first frame of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who dials.
    pub identity: Identity,
    /// Versions of the format that it speaks; the highest that both speak is used.
    pub versions: VersionRange,
    /// Levels of the metadata's records that it can apply.
    pub metadata: VersionRange,
    /// What the connection is for.
    pub stream: Stream,
    /// Who it thinks is there; none where it knows only an address.
    pub expected_node_id: Option<i32>,
    /// Which of the other side's shards it wants.
    pub shard: u32,
    /// How many shards it has itself.
    pub shards: u32,
}

/// The answer of a broker that takes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Who answers.
    pub identity: Identity,
    /// The version of the format that both speak from now on.
    pub version: u16,
    /// Which of its shards has the connection.
    pub shard: u32,
    /// How many shards it has.
    pub shards: u32,
}

/// The answer of a broker that does not, or the last word on a connection that it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who refuses.
    pub identity: Identity,
    /// Why.
    pub reason: RefusalReason,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// No version of the format is common to both.
    Version,
    /// The one that dials cannot apply records of the level that the cluster's metadata has.
    MetadataLevel,
    /// Another node than the one that was asked for is at this address.
    NotTheNode,
    /// The broker dialled itself.
    Myself,
    /// The two belong to different clusters.
    WrongCluster,
    /// Another broker has this node id.
    DuplicateNodeId,
    /// A newer process has registered from the same folder.
    StaleIncarnation,
    /// A newer registration of the same process exists (KIP-903).
    StaleBrokerEpoch,
    /// What the stream needs is not there yet; asking again later may help.
    NotReady,
    /// The broker stops.
    Stopping,
    /// A reason that a later version has.
    Other(u16),
}

impl RefusalReason {
    const KNOWN: [RefusalReason; 10] = [
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
    ];

    fn code(self) -> u16 {
        match self {
            RefusalReason::Version => 1,
            RefusalReason::MetadataLevel => 2,
            RefusalReason::NotTheNode => 3,
            RefusalReason::Myself => 4,
            RefusalReason::WrongCluster => 5,
            RefusalReason::DuplicateNodeId => 6,
            RefusalReason::StaleIncarnation => 7,
            RefusalReason::StaleBrokerEpoch => 8,
            RefusalReason::NotReady => 9,
            RefusalReason::Stopping => 10,
            RefusalReason::Other(code) => code,
        }
    }

    fn of_code(code: u16) -> RefusalReason {
        Self::KNOWN.into_iter().find(|reason| reason.code() == code).unwrap_or(RefusalReason::Other(code))
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RefusalReason::Version => "no common version of the peer protocol",
            RefusalReason::MetadataLevel => "the level of the cluster's metadata is not known there",
            RefusalReason::NotTheNode => "another node is at this address",
            RefusalReason::Myself => "the address is its own",
            RefusalReason::WrongCluster => "wrong cluster id",
            RefusalReason::DuplicateNodeId => "duplicate node id",
            RefusalReason::StaleIncarnation => "a newer process of this node is registered",
            RefusalReason::StaleBrokerEpoch => "a newer registration of this process exists",
            RefusalReason::NotReady => "not ready",
            RefusalReason::Stopping => "stopping",
            RefusalReason::Other(code) => return write!(f, "reason {code}"),
        })
    }
}

const NO_NODE: i32 = -1;
const NO_EPOCH: i64 = -1;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawIdentity {
    node_id: I32,
    zero: U32,
    broker_epoch: I64,
    cluster_id: [u8; 16],
    directory: [u8; 16],
    incarnation: [u8; 16],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHello {
    identity: RawIdentity,
    version_lowest: U16,
    version_highest: U16,
    metadata_lowest: U16,
    metadata_highest: U16,
    stream: U16,
    zero: U16,
    expected_node_id: I32,
    shard: U32,
    shards: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawWelcome {
    identity: RawIdentity,
    version: U16,
    zero: U16,
    shard: U32,
    shards: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRefusal {
    identity: RawIdentity,
    reason: U16,
    zero: U16,
}

const _: () = assert!(size_of::<RawIdentity>() == 64 && size_of::<RawHello>() == 88);
const _: () = assert!(size_of::<RawWelcome>() == 76 && size_of::<RawRefusal>() == 68);
const _: () = assert!(size_of::<RawHello>() <= super::format::HANDSHAKE_BYTES_MAX);

fn malformed<T>(kind: Kind, field: &'static str) -> Result<T, FrameError> {
    Err(FrameError::Malformed { kind, field })
}

/// The fixed part at the front of a payload.
pub(super) fn fixed<T: FromBytes>(kind: Kind, payload: &[u8]) -> Result<T, FrameError> {
    match T::read_from_prefix(payload) {
        Ok((raw, _)) => Ok(raw),
        Err(_) => malformed(kind, "length"),
    }
}

impl RawIdentity {
    fn of(identity: &Identity) -> RawIdentity {
        assert!(identity.node_id >= 0 && identity.broker_epoch.is_none_or(|epoch| epoch >= 0));
        assert!(!identity.directory.is_nil() && !identity.incarnation.is_nil(), "both are drawn at random");
        RawIdentity {
            node_id: I32::new(identity.node_id),
            zero: U32::ZERO,
            broker_epoch: I64::new(identity.broker_epoch.unwrap_or(NO_EPOCH)),
            cluster_id: identity.cluster_id.unwrap_or(Uuid::nil()).into_bytes(),
            directory: identity.directory.into_bytes(),
            incarnation: identity.incarnation.into_bytes(),
        }
    }

    fn open(&self, kind: Kind) -> Result<Identity, FrameError> {
        let id = |bytes: [u8; 16]| Some(Uuid::from_bytes(bytes)).filter(|id| !id.is_nil());
        let (Some(directory), Some(incarnation)) = (id(self.directory), id(self.incarnation)) else {
            return malformed(kind, "directory id or incarnation");
        };
        if self.node_id.get() < 0 {
            return malformed(kind, "node id");
        }
        let broker_epoch = match self.broker_epoch.get() {
            NO_EPOCH => None,
            epoch if epoch < NO_EPOCH => return malformed(kind, "broker epoch"),
            epoch => Some(epoch),
        };
        Ok(Identity {
            node_id: self.node_id.get(),
            cluster_id: id(self.cluster_id),
            directory,
            incarnation,
            broker_epoch,
        })
    }
}

impl Hello {
    pub(super) fn encode(&self) -> Vec<u8> {
        assert!(
            self.versions.lowest <= self.versions.highest && self.metadata.lowest <= self.metadata.highest
        );
        assert!(self.shards > 0, "a broker has shards");
        let raw = RawHello {
            identity: RawIdentity::of(&self.identity),
            version_lowest: U16::new(self.versions.lowest),
            version_highest: U16::new(self.versions.highest),
            metadata_lowest: U16::new(self.metadata.lowest),
            metadata_highest: U16::new(self.metadata.highest),
            stream: U16::new(self.stream.code()),
            zero: U16::ZERO,
            expected_node_id: I32::new(self.expected_node_id.unwrap_or(NO_NODE)),
            shard: U32::new(self.shard),
            shards: U32::new(self.shards),
        };
        raw.as_bytes().to_vec()
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Hello, FrameError> {
        let kind = Kind::Hello;
        let raw: RawHello = fixed(kind, payload)?;
        let range = |lowest: U16, highest: U16, field| match (lowest.get(), highest.get()) {
            (lowest, highest) if lowest <= highest => Ok(VersionRange { lowest, highest }),
            _ => malformed(kind, field),
        };
        let expected_node_id = match raw.expected_node_id.get() {
            NO_NODE => None,
            id if id < NO_NODE => return malformed(kind, "expected node id"),
            id => Some(id),
        };
        let Some(stream) = Stream::of_code(raw.stream.get()) else { return malformed(kind, "stream") };
        if raw.shards.get() == 0 {
            return malformed(kind, "shards");
        }
        Ok(Hello {
            identity: raw.identity.open(kind)?,
            versions: range(raw.version_lowest, raw.version_highest, "version")?,
            metadata: range(raw.metadata_lowest, raw.metadata_highest, "metadata level")?,
            stream,
            expected_node_id,
            shard: raw.shard.get(),
            shards: raw.shards.get(),
        })
    }
}

impl Welcome {
    pub(super) fn encode(&self) -> Vec<u8> {
        assert!(self.shard < self.shards, "one of its shards answers");
        let raw = RawWelcome {
            identity: RawIdentity::of(&self.identity),
            version: U16::new(self.version),
            zero: U16::ZERO,
            shard: U32::new(self.shard),
            shards: U32::new(self.shards),
        };
        raw.as_bytes().to_vec()
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Welcome, FrameError> {
        let raw: RawWelcome = fixed(Kind::Welcome, payload)?;
        let (shard, shards) = (raw.shard.get(), raw.shards.get());
        if shard >= shards {
            return malformed(Kind::Welcome, "shard");
        }
        Ok(Welcome { identity: raw.identity.open(Kind::Welcome)?, version: raw.version.get(), shard, shards })
    }
}

impl Refusal {
    pub(super) fn encode(&self) -> Vec<u8> {
        let raw = RawRefusal {
            identity: RawIdentity::of(&self.identity),
            reason: U16::new(self.reason.code()),
            zero: U16::ZERO,
        };
        raw.as_bytes().to_vec()
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Refusal, FrameError> {
        let raw: RawRefusal = fixed(Kind::Refusal, payload)?;
        let reason = RefusalReason::of_code(raw.reason.get());
        Ok(Refusal { identity: raw.identity.open(Kind::Refusal)?, reason })
    }
}
