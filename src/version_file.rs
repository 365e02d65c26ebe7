//! `VERSION` in the data folder: whose data these are, and in which format.

use ringlog_storage::disk::{Disk, read_file, replace_file};
use serde::{Deserialize, Serialize};
use std::io;
use uuid::Uuid;

/// The format that this binary writes. Folders of lower formats are taken over: format 2 added kinds of frames to the
/// WAL and the high watermark to checkpoints, which a binary that knows only format 1 would misread.
pub const FORMAT: u32 = 2;
const PATH: &str = "VERSION";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionFile {
    /// Version of the format of the whole folder.
    pub format: u32,
    /// The cluster's id.
    pub cluster_id: Uuid,
    /// `node.id`.
    pub node_id: i32,
    /// Names this folder: another one means that what it held is gone.
    pub directory_id: Uuid,
}

/// Reads the file; `None` in a fresh folder.
///
/// # Errors
/// One line that says what is wrong: another format, a damaged file, another node.
pub fn read(disk: &dyn Disk, node_id: i32) -> Result<Option<VersionFile>, String> {
    #[derive(Deserialize)]
    struct FormatOnly {
        format: u32,
    }
    let bytes = match read_file(disk, PATH) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("{PATH} cannot be read: {e}")),
    };
    let text = String::from_utf8_lossy(&bytes);
    let damaged = |e: &dyn std::fmt::Display| format!("{PATH} is damaged: {e}");
    let format = toml::from_str::<FormatOnly>(&text).map_err(|e| damaged(&e.message()))?.format;
    if format > FORMAT {
        return Err(format!(
            "the data folder has format {format}, this binary knows formats up to {FORMAT}: start the newer ringlog \
             that wrote it"
        ));
    }
    let file: VersionFile = toml::from_str(&text).map_err(|e| damaged(&e.message()))?;
    if file.node_id != node_id {
        return Err(format!(
            "the data folder belongs to node {}, not to node {node_id}: give --node-id {} or another --data-dir",
            file.node_id, file.node_id
        ));
    }
    Ok(Some(file))
}

/// Gives the folder this binary's format, if it has a lower one.
///
/// # Errors
/// What the disk says; `InvalidData` where the file is damaged.
pub fn upgrade(disk: &dyn Disk) -> io::Result<()> {
    let text = String::from_utf8_lossy(&read_file(disk, PATH)?).into_owned();
    let file: VersionFile = toml::from_str(&text)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.message().to_owned()))?;
    if file.format < FORMAT { write(disk, &VersionFile { format: FORMAT, ..file }) } else { Ok(()) }
}

/// Writes the file, atomically and durably.
///
/// # Errors
/// What the disk says.
pub fn write(disk: &dyn Disk, file: &VersionFile) -> io::Result<()> {
    let text = toml::to_string(file).map_err(io::Error::other)?;
    replace_file(disk, PATH, text.as_bytes())
}
