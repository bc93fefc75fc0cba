//! Gives restored entries their owner, attributes, times and rights, in this order: a change of
//! owner clears set-id bits, and rights may keep their owner from setting the others.

use super::{Cause, RestoreRequest};
use crate::source::inode::{self, proc_path};
use crate::tree::Metadata;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;

/// What an entry is, as far as its metadata goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// A link: it has no rights of its own.
    Link,
    /// Anything else.
    Other,
}

/// Applies the metadata to a name, never through a link. Returns what could not be applied.
pub(super) fn apply(
    directory: &OwnedFd,
    name: &[u8],
    meta: &Metadata,
    subject: Subject,
    request: &RestoreRequest,
) -> io::Result<Vec<(Cause, String)>> {
    let mut notes = Vec::new();
    // An empty name is the directory itself; every call below takes "." for it.
    let name = if name.is_empty() { &b"."[..] } else { name };
    if request.owners {
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if let Err(error) = rustix::fs::chownat(directory, name, Some(uid), Some(gid), flags) {
            let (uid, gid) = (meta.uid, meta.gid);
            notes.push((cause(error), format!("it could not be given to {uid}:{gid}: {error}")));
        }
    }
    let path = proc_path(directory, name);
    for (attribute, value) in &meta.xattrs {
        let set = rustix::fs::lsetxattr(&path, &attribute[..], value, XattrFlags::empty());
        if let Err(error) = set {
            let attribute = String::from_utf8_lossy(attribute);
            let what = format!("its attribute {attribute} could not be set: {error}");
            notes.push((cause(error), what));
        }
    }
    let mtime = Timespec { tv_sec: meta.mtime_s, tv_nsec: i64::from(meta.mtime_ns) };
    let times = Timestamps { last_access: mtime, last_modification: mtime };
    rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    if subject != Subject::Link {
        let mode = Mode::from_raw_mode(rights(meta, request));
        rustix::fs::chmodat(directory, name, mode, AtFlags::empty())?;
    }
    Ok(notes)
}

/// Whether a name's metadata would change.
pub(super) fn differs(
    directory: &OwnedFd,
    name: &[u8],
    meta: &Metadata,
    subject: Subject,
    request: &RestoreRequest,
) -> io::Result<bool> {
    let name = if name.is_empty() { &b"."[..] } else { name };
    let seen = inode::look(directory, name)?;
    let same_owner = !request.owners || (seen.uid, seen.gid) == (meta.uid, meta.gid);
    let same_rights = subject == Subject::Link || seen.mode == rights(meta, request);
    let same_time = seen.mtime == (meta.mtime_s, meta.mtime_ns);
    let found = inode::xattrs(directory, name)?;
    let same_attributes = meta.xattrs.iter().all(|attribute| found.contains(attribute));
    Ok(!(same_owner && same_rights && same_time && same_attributes))
}

/// The rights that a restore gives.
fn rights(meta: &Metadata, request: &RestoreRequest) -> u32 {
    // Without its owner, a set-id program would run as someone else.
    if request.owners { meta.mode } else { meta.mode & 0o1777 }
}

fn cause(error: Errno) -> Cause {
    match error {
        Errno::PERM | Errno::ACCESS | Errno::NOTSUP => Cause::NotPermitted,
        _ => Cause::Failed,
    }
}
