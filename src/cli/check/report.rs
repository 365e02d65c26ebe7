//! What a check found, for people and for programs.

use ringlog_storage::PartitionKey;
use serde_json::{Value, json};

use crate::machine::metadata::Image;

/// Offsets of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// Which partition.
    pub key: PartitionKey,
    /// The topic's name; none where the metadata do not know it.
    pub topic: Option<String>,
    /// The first offset.
    pub from: i64,
    /// The offset after the last.
    pub to: i64,
}

impl Offsets {
    /// Offsets `from..to` of a partition whose topic is named as the metadata say.
    pub fn new(image: &Image, key: PartitionKey, from: i64, to: i64) -> Offsets {
        let topic = image.topic(key.topic).map(|topic| topic.name.to_string());
        Offsets { key, topic, from, to: to.max(from) }
    }

    /// The partition as it is named for `--accept-loss`.
    pub fn name(&self) -> String {
        match &self.topic {
            Some(topic) => format!("{topic}/{}", self.key.partition),
            None => self.key.to_string(),
        }
    }

    fn text(&self) -> String {
        format!("{} offsets {}..{}", self.name(), self.from, self.to)
    }

    fn json(&self) -> Value {
        json!({ "topic": self.topic, "topic_id": self.key.topic, "partition": self.key.partition,
            "from_offset": self.from, "end_offset": self.to })
    }
}

/// How a finding can be repaired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Not by this program; what to do instead.
    No(&'static str),
    /// By removing an index, which is built again.
    RemoveIndex,
    /// By cutting a partition before the damage.
    Truncate {
        /// Base offset of the damaged segment.
        segment: i64,
        /// Bytes of it that are good.
        bytes: u64,
        /// Offset after the last good record.
        end: i64,
    },
    /// By cutting a shard's log at the damage.
    CutLog {
        /// The shard.
        shard: u32,
    },
    /// Together with an earlier finding of the same partition.
    WithEarlier,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, below the data folder.
    pub path: String,
    /// Where in it.
    pub position: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// Offsets that the damage itself touches.
    pub touches: Vec<Offsets>,
    /// How it can be repaired.
    pub repair: Repair,
    /// What that would lose.
    pub loses: Vec<Offsets>,
}

impl Finding {
    /// A finding that touches no partition's records and cannot be repaired here.
    pub fn new(path: impl Into<String>, what: impl Into<String>, advice: &'static str) -> Finding {
        Finding {
            path: path.into(),
            position: None,
            what: what.into(),
            touches: Vec::new(),
            repair: Repair::No(advice),
            loses: Vec::new(),
        }
    }

    fn repair_text(&self) -> String {
        match &self.repair {
            Repair::No(advice) => (*advice).to_owned(),
            Repair::RemoveIndex => "--repair removes it; it is built again; nothing is lost".to_owned(),
            Repair::WithEarlier => "--repair of the partition's first damage covers it".to_owned(),
            Repair::Truncate { end, .. } => {
                let loses: Vec<String> = self.loses.iter().map(Offsets::text).collect();
                let name = self.loses.first().map_or_else(String::new, Offsets::name);
                format!(
                    "--repair --accept-loss {name} cuts the partition at offset {end} and loses {}",
                    loses.join(", ")
                )
            }
            Repair::CutLog { .. } => {
                let options: Vec<String> =
                    self.loses.iter().map(|o| format!("--accept-loss {}", o.name())).collect();
                let loses: Vec<String> = self.loses.iter().map(Offsets::text).collect();
                format!(
                    "--repair {} cuts the log here and loses what it holds of {}",
                    options.join(" "),
                    loses.join(", ")
                )
            }
        }
    }

    /// For people, on several lines.
    pub fn text(&self) -> String {
        let at = self.position.map_or_else(String::new, |position| format!(" at byte {position}"));
        let mut text = format!("{}{at}: {}", self.path, self.what);
        if !self.touches.is_empty() {
            let touches: Vec<String> = self.touches.iter().map(Offsets::text).collect();
            text.push_str(&format!("\n    touches {}", touches.join(", ")));
        }
        text.push_str(&format!("\n    repair: {}", self.repair_text()));
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let kind = match self.repair {
            Repair::No(_) => "none",
            Repair::RemoveIndex => "remove_index",
            Repair::Truncate { .. } => "truncate_partition",
            Repair::CutLog { .. } => "cut_log",
            Repair::WithEarlier => "with_earlier",
        };
        let list = |offsets: &[Offsets]| offsets.iter().map(Offsets::json).collect::<Vec<_>>();
        json!({ "path": self.path, "position": self.position, "what": self.what,
            "touches": list(&self.touches), "repair": kind, "repair_text": self.repair_text(),
            "repair_loses": list(&self.loses) })
    }
}

/// All that a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
    /// Partitions looked at.
    pub partitions: usize,
    /// Segments looked at.
    pub segments: usize,
    /// Batches in them.
    pub batches: u64,
    /// Bytes read.
    pub bytes: u64,
}
