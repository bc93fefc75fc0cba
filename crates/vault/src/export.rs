//! A backup as a plain tar, so that nobody is locked in.

use crate::blobs::{Blobs, ReadBuffers};
use crate::chain::Backup;
use crate::error::{Result, VaultError};
use crate::restore::dump;
use crate::source::directory::path_of;
use crate::tree::{Entry, EntryKind, Step, Walk, find_path};
use std::io::{self, Write};
use tar::{Builder, EntryType, Header};

/// Writes what is at `path` in the backup as a tar. Returns how many entries it has.
///
/// # Errors
/// Where a part of it is lost or the output fails: a tar with gaps is not a backup.
pub fn to_tar(blobs: &Blobs, backup: &Backup, path: &[u8], out: impl Write) -> Result<u64> {
    let top = find_path(blobs, &backup.top, path)?;
    let mut tar = Builder::new(out);
    let mut entries = 0;
    for step in Walk::new(blobs, b"", &top) {
        match step {
            Step::Entry { path, entry } => {
                append(&mut tar, blobs, &path, &entry)?;
                entries += 1;
            }
            Step::Leave { .. } => {}
            Step::Lost { error, .. } => return Err(error),
        }
    }
    tar.finish().map_err(VaultError::file("finish", "the tar"))?;
    Ok(entries)
}

fn append(tar: &mut Builder<impl Write>, blobs: &Blobs, path: &[u8], entry: &Entry) -> Result<()> {
    let name = match (path.is_empty(), &entry.kind) {
        (true, EntryKind::Directory { .. }) => path_of(b"."),
        (true, _) => path_of(if entry.name.is_empty() { b"file" } else { &entry.name }),
        (false, _) => path_of(path),
    };
    let failed = |error: io::Error| VaultError::File {
        action: "write the tar entry of",
        path: name.clone(),
        source: error,
    };
    let keys: Vec<(String, &[u8])> = entry
        .meta
        .xattrs
        .iter()
        .map(|(k, v)| (format!("SCHILY.xattr.{}", String::from_utf8_lossy(k)), v.as_slice()))
        .collect();
    if !keys.is_empty() {
        let pairs = keys.iter().map(|(k, v)| (k.as_str(), *v));
        tar.append_pax_extensions(pairs).map_err(failed)?;
    }
    let mut header = Header::new_gnu();
    header.set_mode(entry.meta.mode);
    header.set_uid(u64::from(entry.meta.uid));
    header.set_gid(u64::from(entry.meta.gid));
    header.set_mtime(entry.meta.mtime_s.max(0) as u64);
    header.set_size(0);
    let mut plain = |header: &mut Header, kind| {
        header.set_entry_type(kind);
        tar.append_data(header, &name, io::empty()).map_err(failed)
    };
    match &entry.kind {
        EntryKind::Directory { .. } => plain(&mut header, EntryType::Directory),
        EntryKind::Fifo => plain(&mut header, EntryType::Fifo),
        // A tar knows no sockets; a restore would have made a useless one.
        EntryKind::Socket => Ok(()),
        EntryKind::CharDevice { major, minor } => {
            device(&mut header, *major, *minor).map_err(failed)?;
            plain(&mut header, EntryType::Char)
        }
        EntryKind::BlockDevice { major, minor } => {
            device(&mut header, *major, *minor).map_err(failed)?;
            plain(&mut header, EntryType::Block)
        }
        EntryKind::Symlink { target } => {
            header.set_entry_type(EntryType::Symlink);
            tar.append_link(&mut header, &name, path_of(target)).map_err(failed)
        }
        EntryKind::HardLink { target } => {
            header.set_entry_type(EntryType::Link);
            tar.append_link(&mut header, &name, path_of(target)).map_err(failed)
        }
        EntryKind::File { size_bytes, .. } => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(*size_bytes);
            contents(tar, blobs, entry, &mut header, &name)
        }
    }
}

fn device(header: &mut Header, major: u32, minor: u32) -> io::Result<()> {
    header.set_device_major(major)?;
    header.set_device_minor(minor)
}

/// The tar library reads, the vault writes: a pipe joins them.
fn contents(
    tar: &mut Builder<impl Write>,
    blobs: &Blobs,
    entry: &Entry,
    header: &mut Header,
    name: &std::path::Path,
) -> Result<()> {
    let failed = VaultError::file("write the tar entry of", name);
    let (reader, mut writer) = io::pipe().map_err(VaultError::file("make a pipe for", name))?;
    std::thread::scope(|scope| {
        let dumped = scope.spawn(move || {
            dump(blobs, entry, &mut ReadBuffers::default(), &mut writer).map(|_| ())
        });
        let appended = tar.append_data(header, name, reader).map_err(failed);
        let dumped = dumped.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A lost chunk explains a short entry, not the other way round.
        match dumped {
            Err(error) if error.is_damage() => Err(error),
            dumped => appended.and(dumped),
        }
    })
}
