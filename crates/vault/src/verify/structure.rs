//! Everything but the contents of packs: the chain, the keys, the index, the trees.

use super::report::{Finding, VerifyReport};
use crate::blobs::{Blobs, ReadBuffers};
use crate::chain::Chain;
use crate::chunk::ChunkId;
use crate::error::{Result, VaultError, what};
use crate::index::IndexSet;
use crate::repository::Repository;
use crate::store::{Area, ObjectName};
use crate::tree::{Entry, EntryKind, Step, Walk, canonical, each_extents, entry_hash};
use std::collections::{BTreeMap, BTreeSet};

/// Chunks that cannot be read, and why.
pub(super) type BadChunks = BTreeMap<ChunkId, String>;

pub(super) fn chain(chain: &Chain, report: &mut VerifyReport) {
    for problem in &chain.problems {
        report.add(Finding::Record { seq: problem.seq, what: problem.what.clone() });
    }
    for (seq, why) in &chain.state.refused {
        report.add(Finding::Record { seq: *seq, what: format!("it does not count: {why}") });
    }
}

/// Every wrapped key against its digest in the chain: no key is needed that we don't have.
pub(super) fn keys(
    repository: &Repository,
    chain: &Chain,
    report: &mut VerifyReport,
) -> Result<()> {
    for entry in &chain.state.keys {
        let what = match repository.store().get(&entry.object) {
            Ok(bytes) if *blake3::hash(&bytes).as_bytes() == entry.digest => continue,
            Ok(_) => "it was altered".to_owned(),
            Err(error) if error.is_not_found() => "it is missing".to_owned(),
            Err(error) => return Err(error.into()),
        };
        let name = entry.object.to_string();
        let (holder, label) = (entry.holder.word(), &entry.label);
        let what = format!("{what}: the {holder} key `{label}` no longer opens the repository");
        report.add(Finding::Object { name, what });
    }
    Ok(())
}

/// Every block of every segment.
pub(super) fn index(
    repository: &Repository,
    index: &IndexSet,
    report: &mut VerifyReport,
) -> Result<()> {
    for (name, error) in index.damaged() {
        report.add(Finding::Object { name: name.to_string(), what: what(error) });
    }
    let store = &**repository.store();
    for segment in index.segments() {
        for block in 0..segment.blocks() {
            let read = segment
                .read_block(store, block)
                .and_then(|plain| segment.decode_block(block, &plain).map(|_| ()));
            match read {
                Ok(()) => {}
                Err(error) if error.is_damage() => {
                    let name = ObjectName::of_id(Area::Index, &segment.id()).to_string();
                    report.add(Finding::Object { name, what: what(&error) });
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Every tree of every protected backup, down to the chunks of its files.
pub(super) fn backups(blobs: &Blobs, chain: &Chain, bad: &BadChunks, report: &mut VerifyReport) {
    // Damage in a directory that several backups share is told for each of them; what was
    // found whole once is not walked again.
    let mut whole: BTreeSet<ChunkId> = BTreeSet::new();
    for (seq, backup) in chain.state.protected() {
        report.backups += 1;
        let before = report.findings.len() as u64 + report.findings_more;
        if entry_hash(&canonical(&backup.top)) != backup.subject.root {
            let what = "its tree has another root than was signed".to_owned();
            report.add(Finding::Lost { backup: seq, path: String::new(), what });
        }
        let mut check = TreeCheck { blobs, bad, whole: &mut whole, buffers: Default::default() };
        check.run(b"", &backup.top, &mut |path, what| {
            let path = String::from_utf8_lossy(path).into_owned();
            report.add(Finding::Lost { backup: seq, path, what });
        });
        if report.findings.len() as u64 + report.findings_more > before {
            report.damaged_backups.push(seq);
        }
    }
}

/// Packs that backups need and no segment mentions: a part of the index is lost.
pub(super) fn unmentioned(blobs: &Blobs, report: &mut VerifyReport) {
    for pack in blobs.index().needed_unmentioned() {
        let name = ObjectName::of_id(Area::Packs, &pack).to_string();
        let what = "backups need it and no intact index segment mentions it: its own table \
                    was used, and the next clean-up indexes it again"
            .to_owned();
        report.add(Finding::Object { name, what });
    }
}

/// Refuses where a chunk that a restore needs is not there.
///
/// # Errors
/// Naming the first path that is lost.
pub fn require_chunks(blobs: &Blobs, path: &[u8], entry: &Entry) -> Result<()> {
    let (bad, mut whole) = (BadChunks::new(), BTreeSet::new());
    let mut lost = None;
    let mut check =
        TreeCheck { blobs, bad: &bad, whole: &mut whole, buffers: ReadBuffers::default() };
    check.run(path, entry, &mut |path, what| {
        lost.get_or_insert_with(|| (String::from_utf8_lossy(path).into_owned(), what));
    });
    match lost {
        None => Ok(()),
        Some((path, what)) => Err(VaultError::Damaged {
            object: format!("`{path}` in the backup"),
            what: format!("{what}. Nothing was overwritten"),
        }),
    }
}

struct TreeCheck<'a> {
    blobs: &'a Blobs,
    bad: &'a BadChunks,
    whole: &'a mut BTreeSet<ChunkId>,
    buffers: ReadBuffers,
}

/// Directories remembered as whole.
const WHOLE_MAX: usize = 1 << 20;

impl TreeCheck<'_> {
    fn run(&mut self, path: &[u8], top: &Entry, lost: &mut dyn FnMut(&[u8], String)) {
        let mut walk = Walk::new(self.blobs, path, top);
        // Losses so far at the beginning of each open directory.
        let mut losses = 0u64;
        let mut open: Vec<u64> = Vec::new();
        while let Some(step) = walk.next() {
            match step {
                Step::Entry { path, entry } => {
                    if let EntryKind::Directory { node, .. } = &entry.kind {
                        if self.whole.contains(&node.id) {
                            walk.skip_contents();
                        } else {
                            open.push(losses);
                        }
                    }
                    if let Err(what) = self.file(&entry) {
                        losses += 1;
                        lost(&path, what);
                    }
                }
                Step::Leave { entry, .. } => {
                    let before = open.pop().unwrap_or(0);
                    if let EntryKind::Directory { node, .. } = &entry.kind
                        && before == losses
                        && self.whole.len() < WHOLE_MAX
                    {
                        self.whole.insert(node.id);
                    }
                }
                Step::Lost { path, error } => {
                    losses += 1;
                    lost(&path, what(&error));
                }
            }
        }
    }

    fn file(&mut self, entry: &Entry) -> std::result::Result<(), String> {
        let (blobs, bad) = (self.blobs, self.bad);
        let index = blobs.index();
        let kind = &entry.kind;
        let checked = each_extents(blobs, kind, &mut self.buffers, |_, _, extents| {
            for extent in extents {
                let Some(id) = extent.chunk() else { continue };
                let lost =
                    |what: String| VaultError::Damaged { object: format!("chunk {id}"), what };
                if let Some(what) = bad.get(id) {
                    return Err(lost(what.clone()));
                }
                let found = blobs.locate(&index, id)?;
                let fits = |l: &&crate::pack::Location| {
                    index.is_present(l) && extent.fits(l.blob.raw_bytes)
                };
                if !found.iter().any(|l| fits(&l)) {
                    return Err(lost("no pack of the repository holds it".to_owned()));
                }
            }
            Ok(())
        });
        checked.map_err(|e| what(&e))
    }
}
