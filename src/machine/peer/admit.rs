//! What a broker answers to a handshake: a table of cases, of which every handshake meets exactly one.
//!
//! What counts is what the two say of themselves, what the accepting broker's image knows of that node id, and whether
//! another process with that id is alive. The image may lag: whoever names a broker epoch above the image's is newer,
//! not wrong, and is let in where nothing rests on its epoch. An incarnation is drawn at random and has no order: only
//! the epochs tell which of two processes is the newer (KIP-903).
//!
//! The broker that dialled judges the answer with [`judge_answer`]: a broker without a cluster lets everybody in.

use super::{Identity, Stream};
use std::fmt;
use uuid::Uuid;

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
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
    /// A newer process has registered under this node id.
    StaleIncarnation,
    /// A newer registration of the same process exists.
    StaleBrokerEpoch,
    /// What the stream needs is not there yet.
    NotReady,
    /// The broker stops.
    Stopping,
    /// A reason that a later version has.
    Other(u16),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Version => "no common version of the peer protocol",
            Refusal::MetadataLevel => {
                "the level of the cluster's metadata is unknown to the one that dialled"
            }
            Refusal::NotTheNode => "another node is at this address",
            Refusal::Myself => "a broker dialled itself",
            Refusal::WrongCluster => "wrong cluster id",
            Refusal::DuplicateNodeId => "duplicate node id",
            Refusal::StaleIncarnation => "a newer process of this node is registered",
            Refusal::StaleBrokerEpoch => "a newer registration of this process exists",
            Refusal::NotReady => "not ready",
            Refusal::Stopping => "stopping",
            Refusal::Other(code) => return write!(f, "reason {code}"),
        })
    }
}

/// Versions or levels, lowest and highest.
pub type Range = (u16, u16);

/// What the broker that dials says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who it is.
    pub identity: Identity,
    /// Versions of the format that it speaks.
    pub versions: Range,
    /// Levels of the metadata's records that it can apply.
    pub metadata: Range,
    /// What the connection is for.
    pub stream: Stream,
    /// Who it thinks is here.
    pub expected: Option<i32>,
}

/// What the accepting broker does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// It is still starting: what this stream needs is not there yet.
    NotReady,
    /// It serves this stream.
    Ready,
    /// It stops.
    Stopping,
}

/// The accepting broker itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Who it is.
    pub identity: Identity,
    /// Versions of the format that it speaks.
    pub versions: Range,
    /// The level that the cluster's metadata has; none before there is a cluster.
    pub metadata_level: Option<u16>,
    /// Whether it serves the stream that is asked for.
    pub service: Service,
}

/// What its image knows of the node id that dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The data folder that is registered.
    pub directory: Uuid,
    /// The process that is registered.
    pub incarnation: Uuid,
    /// The registration's epoch.
    pub broker_epoch: i64,
    /// Whether it is fenced: not heard of for a session, so that another folder may take its place.
    pub fenced: bool,
}

/// Who dials, compared with who accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// This very process.
    Myself,
    /// Another process with this broker's node id.
    MyNodeId,
    Other,
}

/// Who dials, compared with what the image knows of that node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// No such node is registered.
    Unknown,
    /// The registered process.
    Registered,
    /// Another process on the registered folder.
    Restarted,
    /// Another folder.
    Replaced,
}

/// The epoch that is named, compared with the registered one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Epoch {
    /// None is named: the process has not registered, or has no answer yet.
    Unnamed,
    Older,
    Same,
    /// Above the registered one: the image lags.
    Newer,
}

/// Everything that the cases look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts {
    /// A version of the format is common to both.
    version: bool,
    who: Who,
    /// Both are of one cluster, or one of them of none.
    cluster: bool,
    /// This node was asked for, or whoever is here.
    asked: bool,
    service: Service,
    /// The cluster's metadata level is one that the other can apply.
    level: bool,
    standing: Standing,
    epoch: Epoch,
    /// Another folder with the same node id is alive: connected now, or registered and not fenced.
    rival: bool,
    /// The stream rests on the broker epoch: replication.
    proven: bool,
}

/// The facts that a case is for; each list holds what may be.
#[derive(Clone, Copy)]
struct When {
    version: &'static [bool],
    who: &'static [Who],
    cluster: &'static [bool],
    asked: &'static [bool],
    service: &'static [Service],
    level: &'static [bool],
    standing: &'static [Standing],
    epoch: &'static [Epoch],
    rival: &'static [bool],
    proven: &'static [bool],
}

impl When {
    fn meets(&self, facts: &Facts) -> bool {
        self.version.contains(&facts.version)
            && self.who.contains(&facts.who)
            && self.cluster.contains(&facts.cluster)
            && self.asked.contains(&facts.asked)
            && self.service.contains(&facts.service)
            && self.level.contains(&facts.level)
            && self.standing.contains(&facts.standing)
            && self.epoch.contains(&facts.epoch)
            && self.rival.contains(&facts.rival)
            && self.proven.contains(&facts.proven)
    }
}

struct Case {
    /// Says what the case is, for logs and tests.
    label: &'static str,
    when: When,
    refusal: Option<Refusal>,
}

const YES: &[bool] = &[true];
const NO: &[bool] = &[false];
const EITHER: &[bool] = &[false, true];
const ANYTHING: When = When {
    version: EITHER,
    who: &[Who::Myself, Who::MyNodeId, Who::Other],
    cluster: EITHER,
    asked: EITHER,
    service: &[Service::NotReady, Service::Ready, Service::Stopping],
    level: EITHER,
    standing: &[Standing::Unknown, Standing::Registered, Standing::Restarted, Standing::Replaced],
    epoch: &[Epoch::Unnamed, Epoch::Older, Epoch::Same, Epoch::Newer],
    rival: EITHER,
    proven: EITHER,
};
/// The two understand each other.
const SPOKEN: When = When { version: YES, ..ANYTHING };
/// It is another node of this cluster, or may become one.
const FELLOW: When = When { who: &[Who::Other], cluster: YES, ..SPOKEN };
/// Nothing on this side stands against it; what the image knows decides.
const SERVED: When = When { asked: YES, service: &[Service::Ready], level: YES, ..FELLOW };
const UNKNOWN: When = When { standing: &[Standing::Unknown], ..SERVED };
const REGISTERED: When = When { standing: &[Standing::Registered], ..SERVED };
const RESTARTED: When = When { standing: &[Standing::Restarted], ..SERVED };
const REPLACED: When = When { standing: &[Standing::Replaced], ..SERVED };

const NOT_OLD: &[Epoch] = &[Epoch::Unnamed, Epoch::Newer];
const OLD: &[Epoch] = &[Epoch::Older, Epoch::Same];

const fn refuse(label: &'static str, refusal: Refusal, when: When) -> Case {
    Case { label, when, refusal: Some(refusal) }
}

const fn admit(label: &'static str, when: When) -> Case {
    Case { label, when, refusal: None }
}

#[rustfmt::skip]
const CASES: [Case; 24] = [
    refuse("no common version", Refusal::Version, When { version: NO, ..ANYTHING }),
    refuse("dialled itself", Refusal::Myself, When { who: &[Who::Myself], ..SPOKEN }),
    refuse("of another cluster", Refusal::WrongCluster, When { who: &[Who::MyNodeId, Who::Other], cluster: NO, ..SPOKEN }),
    refuse("has this broker's node id", Refusal::DuplicateNodeId, When { who: &[Who::MyNodeId], cluster: YES, ..SPOKEN }),
    refuse("looks for another node", Refusal::NotTheNode, When { asked: NO, ..FELLOW }),
    refuse("comes too late", Refusal::Stopping, When { asked: YES, service: &[Service::Stopping], ..FELLOW }),
    refuse("comes too early", Refusal::NotReady, When { asked: YES, service: &[Service::NotReady], ..FELLOW }),
    refuse("cannot apply the metadata", Refusal::MetadataLevel, When { level: NO, ..SERVED }),

    refuse("unknown, and its id is in use", Refusal::DuplicateNodeId, When { rival: YES, ..UNKNOWN }),
    refuse("unknown, no epoch to rest on", Refusal::NotReady, When { rival: NO, proven: YES, ..UNKNOWN }),
    admit("unknown", When { rival: NO, proven: NO, ..UNKNOWN }),

    refuse("registered, an older registration", Refusal::StaleBrokerEpoch, When { epoch: &[Epoch::Older], ..REGISTERED }),
    admit("registered", When { epoch: &[Epoch::Same], ..REGISTERED }),
    refuse("registered, epoch unclear", Refusal::NotReady, When { epoch: NOT_OLD, proven: YES, ..REGISTERED }),
    admit("registered, nothing rests on its epoch", When { epoch: NOT_OLD, proven: NO, ..REGISTERED }),

    refuse("restarted, the older process", Refusal::StaleIncarnation, When { epoch: OLD, ..RESTARTED }),
    refuse("restarted, not registered yet", Refusal::NotReady, When { epoch: NOT_OLD, proven: YES, ..RESTARTED }),
    admit("restarted", When { epoch: NOT_OLD, proven: NO, ..RESTARTED }),

    refuse("replaced, the older folder", Refusal::StaleIncarnation, When { epoch: OLD, ..REPLACED }),
    refuse("replaced, and its id is in use", Refusal::DuplicateNodeId, When { epoch: &[Epoch::Unnamed], rival: YES, ..REPLACED }),
    refuse("replaced, not registered yet", Refusal::NotReady, When { epoch: &[Epoch::Unnamed], rival: NO, proven: YES, ..REPLACED }),
    admit("replaced", When { epoch: &[Epoch::Unnamed], rival: NO, proven: NO, ..REPLACED }),
    refuse("replaced, the image lags", Refusal::NotReady, When { epoch: &[Epoch::Newer], proven: YES, ..REPLACED }),
    admit("replaced and registered, the image lags", When { epoch: &[Epoch::Newer], proven: NO, ..REPLACED }),
];

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The case that the handshake is.
    pub label: &'static str,
    /// The version to speak, or why not to.
    pub answer: Result<u16, Refusal>,
}

/// The highest version that both speak.
#[must_use]
pub fn common_version(ours: Range, theirs: Range) -> Option<u16> {
    let highest = ours.1.min(theirs.1);
    (highest >= ours.0.max(theirs.0)).then_some(highest)
}

fn one_cluster(a: Option<Uuid>, b: Option<Uuid>) -> bool {
    a.is_none() || b.is_none() || a == b
}

fn facts(own: &Own, hello: &Hello, known: Option<&Known>, alive: Option<&Identity>) -> Facts {
    let theirs = &hello.identity;
    let who = if theirs.node_id != own.identity.node_id {
        Who::Other
    } else if theirs.incarnation == own.identity.incarnation {
        Who::Myself
    } else {
        Who::MyNodeId
    };
    let standing = match known {
        None => Standing::Unknown,
        Some(known) if known.directory != theirs.directory => Standing::Replaced,
        Some(known) if known.incarnation != theirs.incarnation => Standing::Restarted,
        Some(_) => Standing::Registered,
    };
    let epoch = match (theirs.broker_epoch, known) {
        (None, _) => Epoch::Unnamed,
        (Some(_), None) => Epoch::Newer,
        (Some(named), Some(known)) => match named.cmp(&known.broker_epoch) {
            std::cmp::Ordering::Less => Epoch::Older,
            std::cmp::Ordering::Equal => Epoch::Same,
            std::cmp::Ordering::Greater => Epoch::Newer,
        },
    };
    let connected = alive.is_some_and(|alive| alive.directory != theirs.directory);
    let in_service = known.is_some_and(|known| known.directory != theirs.directory && !known.fenced);
    let level = own.metadata_level.is_none_or(|level| (hello.metadata.0..=hello.metadata.1).contains(&level));
    Facts {
        version: common_version(own.versions, hello.versions).is_some(),
        who,
        cluster: one_cluster(own.identity.cluster_id, theirs.cluster_id),
        asked: hello.expected.is_none_or(|expected| expected == own.identity.node_id),
        service: own.service,
        level,
        standing,
        epoch,
        rival: connected || in_service,
        proven: hello.stream == Stream::Data,
    }
}

fn case_of(facts: &Facts) -> &'static Case {
    static TABLE: [Case; 24] = CASES;
    TABLE.iter().find(|case| case.when.meets(facts)).expect("every handshake meets a case")
}

/// Decides on a handshake. `known` is what the image has of the node id that dials, `alive` a process with that id
/// that is connected to this broker now, if there is one.
///
/// # Panics
/// If `alive` has another node id.
#[must_use]
pub fn decide(own: &Own, hello: &Hello, known: Option<&Known>, alive: Option<&Identity>) -> Verdict {
    assert!(alive.is_none_or(|alive| alive.node_id == hello.identity.node_id));
    let case = case_of(&facts(own, hello, known, alive));
    let answer = match case.refusal {
        Some(refusal) => Err(refusal),
        None => Ok(common_version(own.versions, hello.versions).expect("a case of those that were admitted")),
    };
    Verdict { label: case.label, answer }
}

/// What the broker that dialled thinks of a welcome: whether the answer is by whom it looked for.
///
/// # Errors
/// Why the connection is to be closed.
pub fn judge_answer(own: &Identity, expected: Option<i32>, answer: &Identity) -> Result<(), Refusal> {
    if answer.node_id == own.node_id {
        let myself = answer.incarnation == own.incarnation;
        return Err(if myself { Refusal::Myself } else { Refusal::DuplicateNodeId });
    }
    if !one_cluster(own.cluster_id, answer.cluster_id) {
        return Err(Refusal::WrongCluster);
    }
    if expected.is_some_and(|expected| expected != answer.node_id) {
        return Err(Refusal::NotTheNode);
    }
    Ok(())
}

#[cfg(test)]
#[path = "admit_tests.rs"]
mod tests;
