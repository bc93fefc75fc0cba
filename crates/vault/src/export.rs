//! A backup as a plain tar, so that nobody is locked in.
//!
//! The form is that of GNU tar with the records of PAX for what its header cannot hold: parts of
//! a second, and extended attributes, ACLs among them. Holes are written as the zeros that they
//! read as.

use crate::blobs::{Blobs, ReadBuffers};
use crate::chain::Backup;
use crate::error::{Result, VaultError};
use crate::restore::{dump, linked};
use crate::source::directory::path_of;
use crate::tree::{Entry, EntryKind, Metadata, Step, Walk, below, find_path, plain_path};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use tar::{Builder, EntryType, Header};

/// Files whose first name lies outside what is exported, and that have a further name inside, of
/// which the name inside is remembered. The names of more get the contents each.
const OUTER_FILES_MAX: usize = 1 << 20;

/// Writes what is at `path` in the backup as a tar, with names from there. Returns how many
/// members it has; sockets are none.
///
/// # Errors
/// Where a part of it is lost or the output fails: a tar with gaps is not a backup.
pub fn to_tar(blobs: &Blobs, backup: &Backup, path: &[u8], out: impl Write) -> Result<u64> {
    let entry = find_path(blobs, &backup.top, path)?;
    let mut export = Export {
        blobs,
        top: &backup.top,
        base: plain_path(path),
        tar: Builder::new(out),
        outer: OuterFiles { first: BTreeMap::new(), max: OUTER_FILES_MAX },
        members: 0,
    };
    for step in Walk::new(blobs, b"", &entry) {
        match step {
            Step::Entry { path, entry } => export.append(&path, *entry)?,
            Step::Leave { .. } => {}
            Step::Lost { error, .. } => return Err(error),
        }
    }
    export.tar.finish().map_err(VaultError::file("finish", "the tar"))?;
    Ok(export.members)
}

struct Export<'a, W: Write> {
    blobs: &'a Blobs,
    top: &'a Entry,
    /// The path in the backup that the tar stands for.
    base: Vec<u8>,
    tar: Builder<W>,
    outer: OuterFiles,
    members: u64,
}

/// The first name inside what is exported of files whose first name lies outside.
struct OuterFiles {
    first: BTreeMap<Vec<u8>, Vec<u8>>,
    max: usize,
}

impl OuterFiles {
    /// The name that has the contents already; none where `name` is to have them.
    fn known(&mut self, target: &[u8], name: &[u8]) -> Option<Vec<u8>> {
        let known = self.first.get(target).cloned();
        if known.is_none() && self.first.len() < self.max {
            self.first.insert(target.to_vec(), name.to_vec());
        }
        known
    }
}

impl<W: Write> Export<'_, W> {
    fn append(&mut self, path: &[u8], mut entry: Entry) -> Result<()> {
        let name = match (path.is_empty(), &entry.kind) {
            (true, EntryKind::Directory { .. }) => b".".to_vec(),
            (true, _) if entry.name.is_empty() => b"file".to_vec(),
            (true, _) => entry.name.clone(),
            (false, _) => path.to_vec(),
        };
        let mut link = Vec::new();
        if let EntryKind::HardLink { target } = &entry.kind {
            match self.inner_name(target, &name) {
                Some(first) => link = first,
                None => entry.kind = linked(self.blobs, self.top, target)?.kind,
            }
        }
        let failed = |error: io::Error| VaultError::File {
            action: "write the tar entry of",
            path: path_of(&name),
            source: error,
        };
        let mut header = header(&entry.meta);
        let kind = match &entry.kind {
            EntryKind::Directory { .. } => EntryType::Directory,
            EntryKind::Fifo => EntryType::Fifo,
            // A tar knows no sockets; a restore would have made a useless one.
            EntryKind::Socket => return Ok(()),
            EntryKind::CharDevice { major, minor } => {
                device(&mut header, *major, *minor).map_err(failed)?;
                EntryType::Char
            }
            EntryKind::BlockDevice { major, minor } => {
                device(&mut header, *major, *minor).map_err(failed)?;
                EntryType::Block
            }
            EntryKind::Symlink { target } => {
                link.clone_from(target);
                EntryType::Symlink
            }
            EntryKind::HardLink { .. } => EntryType::Link,
            EntryKind::File { size_bytes, .. } => {
                header.set_size(*size_bytes);
                EntryType::Regular
            }
        };
        header.set_entry_type(kind);
        self.extend(&entry.meta).map_err(failed)?;
        self.set_names(&mut header, &name, &link).map_err(failed)?;
        header.set_cksum();
        self.members += 1;
        match &entry.kind {
            EntryKind::File { .. } => contents(&mut self.tar, self.blobs, &entry, &header, &name),
            _ => self.tar.append(&header, io::empty()).map_err(failed),
        }
    }

    /// Which member has the contents of a further name; none where this one is to have them.
    fn inner_name(&mut self, target: &[u8], name: &[u8]) -> Option<Vec<u8>> {
        match below(target, &self.base) {
            Some(inner) => Some(inner.to_vec()),
            None => self.outer.known(target, name),
        }
    }

    /// Writes the PAX records of a member that follows.
    fn extend(&mut self, meta: &Metadata) -> io::Result<()> {
        let mut records = Vec::new();
        if meta.mtime_ns != 0 || meta.mtime_s < 0 {
            let time = decimal(meta.mtime_s, meta.mtime_ns);
            record(&mut records, b"mtime", time.as_bytes());
        }
        for (attribute, value) in &meta.xattrs {
            record(&mut records, &attribute_key(attribute), value);
        }
        if records.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(records.len() as u64);
        header.set_cksum();
        self.tar.append(&header, &records[..])
    }

    /// Puts the names into the header as they are, and longer ones into members before it.
    fn set_names(&mut self, header: &mut Header, name: &[u8], link: &[u8]) -> io::Result<()> {
        let old = header.as_old_mut();
        for (kind, field, bytes) in [
            (EntryType::GNULongName, &mut old.name, name),
            (EntryType::GNULongLink, &mut old.linkname, link),
        ] {
            let fits = bytes.len().min(field.len());
            field[..fits].copy_from_slice(&bytes[..fits]);
            if fits < bytes.len() {
                let mut long = Header::new_gnu();
                long.as_old_mut().name[..13].copy_from_slice(b"././@LongLink");
                long.set_entry_type(kind);
                long.set_size(bytes.len() as u64 + 1); // It ends with a zero.
                long.set_cksum();
                self.tar.append(&long, bytes.chain(&[0][..]))?;
            }
        }
        Ok(())
    }
}

fn header(meta: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(meta.mode);
    header.set_uid(u64::from(meta.uid));
    header.set_gid(u64::from(meta.gid));
    header.set_mtime(u64::try_from(meta.mtime_s).unwrap_or(0));
    header.set_size(0);
    header
}

fn device(header: &mut Header, major: u32, minor: u32) -> io::Result<()> {
    header.set_device_major(major)?;
    header.set_device_minor(minor)
}

/// Seconds since 1970 with their parts. Nanoseconds count upwards before 1970, too.
fn decimal(seconds: i64, ns: u32) -> String {
    match seconds {
        0.. => format!("{seconds}.{ns:09}"),
        _ if ns == 0 => format!("{seconds}"),
        _ => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - ns),
    }
}

/// The key of an extended attribute, as star and GNU tar have it.
fn attribute_key(attribute: &[u8]) -> Vec<u8> {
    let mut key = b"SCHILY.xattr.".to_vec();
    for byte in attribute {
        match byte {
            // A key ends with the first `=`.
            b'=' => key.extend_from_slice(b"%3D"),
            b'%' => key.extend_from_slice(b"%25"),
            byte => key.push(*byte),
        }
    }
    key
}

/// Adds `length key=value`, where the length counts its own digits.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The tar library reads, the vault writes: a pipe joins them.
fn contents(
    tar: &mut Builder<impl Write>,
    blobs: &Blobs,
    entry: &Entry,
    header: &Header,
    name: &[u8],
) -> Result<()> {
    let failed = VaultError::file("write the tar entry of", path_of(name));
    let piped = VaultError::file("make a pipe for", path_of(name));
    let (reader, mut writer) = io::pipe().map_err(piped)?;
    std::thread::scope(|scope| {
        let dumped = scope.spawn(move || {
            dump(blobs, entry, &mut ReadBuffers::default(), &mut writer).map(|_| ())
        });
        let appended = tar.append(header, reader).map_err(failed);
        let dumped = dumped.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A lost chunk explains a short entry, not the other way round.
        match dumped {
            Err(error) if error.is_damage() => Err(error),
            dumped => appended.and(dumped),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_digits() {
        let text = |key: &[u8], value: &[u8]| {
            let mut out = Vec::new();
            record(&mut out, key, value);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(b"mtime", b"1.5"), "13 mtime=1.5\n");
        for length in [0, 1, 2, 80, 90, 91, 92, 93, 94, 95, 986, 987, 988, 989, 990, 991] {
            let text = text(b"key", "x".repeat(length).as_bytes());
            let (counted, _) = text.split_once(' ').unwrap();
            assert_eq!(counted.parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn times_before_1970_count_upwards() {
        assert_eq!(decimal(7, 5), "7.000000005");
        assert_eq!(decimal(0, 5), "0.000000005");
        assert_eq!(decimal(-1, 0), "-1");
        assert_eq!(decimal(-1, 999_999_999), "-0.000000001");
        assert_eq!(decimal(-5, 1), "-4.999999999");
    }

    #[test]
    fn a_file_beyond_the_remembered_ones_gets_its_contents_again() {
        let mut outer = OuterFiles { first: BTreeMap::new(), max: 1 };
        assert_eq!(outer.known(b"x", b"a"), None);
        assert_eq!(outer.known(b"x", b"b"), Some(b"a".to_vec()));
        assert_eq!(outer.known(b"y", b"c"), None);
        assert_eq!(outer.known(b"y", b"d"), None);
    }
}
