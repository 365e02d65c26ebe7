//! The data folder at a start: its metadata are read, its log drained, and this process becomes the broker that
//! the metadata know.

use super::Options;
use crate::clock::wall_ms;
use crate::control::metadata_log::{self, Append, MetadataLog};
use crate::control::{self, REPLICATION_FACTOR_MAX};
use crate::machine::config::BrokerConfig;
use crate::machine::metadata::{
    Batch, Capacity, Command, Context, Endpoint, Image, Registration, Reply, decide,
};
use crate::node::shard_of;
use crate::version_file::{self, FORMAT, VersionFile};
use ringlog_storage::disk::Disk;
use ringlog_storage::recovery::{self, Error, FIRST_FILE_BYTES, Plan, Recovered};
use std::sync::Arc;
use uuid::Uuid;

/// What the data folder holds, read and recovered.
pub(super) struct Opened {
    pub version: VersionFile,
    pub image: Image,
    pub log: MetadataLog,
    pub recovered: Recovered,
}

/// Reads the metadata, drains the log, and makes this process the broker that the metadata know.
pub(super) fn open_data(
    disk: &Arc<dyn Disk>,
    options: &Options,
    advertised: &(String, u16),
    config: &BrokerConfig,
    shards: usize,
) -> Result<Opened, String> {
    let known = version_file::read(&**disk, options.node_id)?;
    let committed = metadata_log::read(&**disk).map_err(|e| format!("the metadata cannot be read: {e}"))?;
    let image = &committed.image;
    if let (Some(version), Some(cluster)) = (&known, image.cluster_id())
        && version.cluster_id != cluster
    {
        return Err(
            "the data folder's metadata belong to another cluster than its VERSION file says".to_owned()
        );
    }
    if known.is_none() && image.cluster_id().is_some() {
        return Err("the data folder has metadata but no VERSION file: restore that file".to_owned());
    }
    // Before anything of this format is written: a binary that does not know it must not open the folder any more.
    let version = known.map(|known| VersionFile { format: FORMAT, ..known }).unwrap_or_else(|| VersionFile {
        format: FORMAT,
        cluster_id: control::usable_id(),
        node_id: options.node_id,
        directory_id: control::usable_id(),
    });
    version_file::write(&**disk, &version).map_err(|e| format!("VERSION cannot be written: {e}"))?;
    let shards_u32 = u32::try_from(shards).map_err(|_| "too many shards".to_owned())?;
    let shard = |key: &ringlog_storage::PartitionKey| u32::try_from(shard_of(key, shards)).unwrap_or(0);
    let knows = |topic: Uuid| image.topic(topic).is_some();
    let mut plan = Plan {
        shards: shards_u32,
        shard_of: &shard,
        knows: &knows,
        expects_data: image.topic_count() > 0,
        random: &mut || Uuid::new_v4().as_u64_pair().0,
        first_file_bytes: FIRST_FILE_BYTES.min(config.wal_max_bytes / 4).max(1 << 20),
    };
    let recovered = recovery::recover(&**disk, &mut plan).map_err(|error| match error {
        Error::Io(e) => format!("recovering the data folder failed: {e}"),
        damaged @ Error::Damaged { .. } => format!(
            "acknowledged data are damaged: {damaged}; nothing was changed; look at it with `ringlog check \
             --data-dir {}`",
            options.data_dir.display()
        ),
    })?;
    report(&recovered);
    let mut log = MetadataLog::open(Arc::clone(disk), &committed)
        .map_err(|e| format!("the metadata cannot be written: {e}"))?;
    let mut image = committed.image;
    register(&mut log, &mut image, &version, options, advertised)?;
    Ok(Opened { version, image, log, recovered })
}

fn report(recovered: &Recovered) {
    let report = &recovered.report;
    if report.frames > 0 || report.discarded > 0 {
        tracing::info!(
            "recovery: {} frames, {} bytes replayed; {} torn commits, never acknowledged, cut",
            report.frames,
            report.bytes,
            report.discarded
        );
    }
    for topic in &report.strays {
        tracing::warn!("data of unknown topic {topic} were set aside in stray/");
    }
}

/// Forms the cluster if the folder is fresh and registers this process: it gives up what the one before led and
/// leads it again in new epochs.
fn register(
    log: &mut MetadataLog,
    image: &mut Image,
    version: &VersionFile,
    options: &Options,
    advertised: &(String, u16),
) -> Result<(), String> {
    let mut commands = Vec::new();
    if image.cluster_id().is_none() {
        commands.push(Command::FormCluster { cluster_id: version.cluster_id });
    }
    commands.push(Command::RegisterBroker(Registration {
        id: options.node_id,
        cluster_id: Some(version.cluster_id),
        directory: version.directory_id,
        incarnation: control::usable_id(),
        endpoints: vec![Endpoint {
            listener: "PLAINTEXT".to_owned(),
            host: advertised.0.clone(),
            port: advertised.1,
        }],
        rack: options.rack.clone(),
        features: std::collections::BTreeMap::new(),
        capacity: Capacity::default(),
        clean: true,
        lost: Vec::new(),
        unfenced: true,
    }));
    for command in commands {
        let mut new_id = control::usable_id;
        let mut context = Context {
            node_id: options.node_id,
            settings: &options.settings,
            replication_factor_max: REPLICATION_FACTOR_MAX,
            new_id: &mut new_id,
        };
        let decision = decide(image, &mut context, &command);
        if let Reply::Formed(Err(error)) | Reply::Registered(Err(error)) = &decision.reply {
            return Err(format!("this broker cannot register: {}", error.message));
        }
        let offset = image.offset().map_or(0, |offset| offset + 1);
        let batch = Batch { offset, timestamp_ms: wall_ms(), records: decision.records };
        let appended = log.append(&[batch.encode()]);
        match appended.map_err(|e| format!("the metadata cannot be written: {e}"))? {
            Append::Done => {}
            Append::Full => {
                return Err("the metadata cannot be written: the disk is full, make room".to_owned());
            }
        }
        image.apply_batch(&batch);
    }
    Ok(())
}
