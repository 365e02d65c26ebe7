//! [`Disk`] over the file system of the host.

use super::{BLOCK, Disk, Entry, File, Open, Shared};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The host's file system below one folder.
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// A disk rooted at `root`, which exists.
    #[must_use]
    pub fn new(root: &Path) -> RealDisk {
        RealDisk { root: root.to_path_buf() }
    }

    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

struct RealFile {
    file: fs::File,
    direct: bool,
}

impl RealFile {
    fn check_alignment(&self, position: u64, bytes: &[u8]) {
        if self.direct {
            assert_eq!(position % BLOCK as u64, 0, "direct I/O at an unaligned position");
            assert_eq!(bytes.len() % BLOCK, 0, "direct I/O of an unaligned length");
            assert_eq!(bytes.as_ptr() as usize % BLOCK, 0, "direct I/O on unaligned memory");
        }
    }
}

impl File for RealFile {
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.check_alignment(position, buffer);
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], position + done as u64) {
                Ok(0) => break,
                Ok(n) => {
                    done += n;
                    // A direct read that stopped inside a block met the end of the file.
                    if self.direct && !n.is_multiple_of(BLOCK) {
                        break;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_alignment(position, bytes);
        self.file.write_all_at(bytes, position)
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        assert!(from < to, "an allocation is not empty");
        // SAFETY: a plain system call on a descriptor that this value owns.
        let result = unsafe {
            libc::fallocate(
                self.file.as_raw_fd(),
                libc::FALLOC_FL_KEEP_SIZE,
                from.cast_signed(),
                (to - from).cast_signed(),
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn share(&self, len: u64) -> io::Result<Shared> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        // SAFETY: only sealed files are mapped; Ringlog never writes or truncates them again, and another
        // process that did so is outside what a data folder's lock can promise.
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(&self.file)? };
        Ok(Arc::new(map))
    }

    fn make_resident(&self, shared: &Shared, from: u64, to: u64) -> io::Result<()> {
        let bytes: &[u8] = shared.as_ref().as_ref();
        assert!(from <= to && to <= bytes.len() as u64, "the range lies inside the mapping");
        let start = super::block_floor(from);
        if start == to {
            return Ok(());
        }
        // SAFETY: the range lies inside a live mapping that `shared` keeps alive during the call.
        let result = unsafe {
            libc::madvise(
                bytes.as_ptr().add(start as usize).cast_mut().cast(),
                (to - start) as usize,
                libc::MADV_POPULATE_READ,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true);
        let direct = matches!(how, Open::Direct | Open::ReadDirect);
        match how {
            Open::Read => {}
            Open::ReadDirect => {
                options.custom_flags(libc::O_DIRECT);
            }
            Open::Direct => {
                options.write(true).create(true).truncate(false).custom_flags(libc::O_DIRECT);
            }
            Open::Replace => {
                options.write(true).create(true).truncate(true);
            }
        }
        let file = options.open(self.at(path))?;
        Ok(Arc::new(RealFile { file, direct }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.at(dir))? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|name| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{dir}: a name that is not UTF-8: {name:?}"),
                )
            })?;
            entries.push(Entry { name, is_dir: entry.file_type()?.is_dir() });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn make_dirs(&self, dir: &str) -> io::Result<()> {
        fs::create_dir_all(self.at(dir))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        fs::File::open(self.at(dir))?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.at(path))
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        fs::remove_dir(self.at(dir))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::CString::new(self.root.as_os_str().as_bytes()).map_err(io::Error::other)?;
        // SAFETY: `stat` is plain data that the call fills; the path is a C string that lives across it.
        unsafe {
            let mut stat: libc::statvfs = std::mem::zeroed();
            if libc::statvfs(path.as_ptr(), &raw mut stat) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(stat.f_bavail * stat.f_frsize)
        }
    }
}
