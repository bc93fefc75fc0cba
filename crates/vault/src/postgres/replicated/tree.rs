//! What came, in the order of the tree: the sender's order is that of its directories.

use super::layout::{Place, Placed};
use crate::error::{Result, VaultError};
use crate::source::{BytesStream, ScanContext, ScanEvent, ScanSink};
use crate::tree::{Entry, EntryKind, Metadata, NodeSource, children, find_path};
use std::collections::{BTreeMap, HashMap};

/// Directories and files by their paths, with `\0` for `/`: so that what is in a directory
/// comes right after it.
#[derive(Default)]
pub(super) struct Tree {
    nodes: BTreeMap<Vec<u8>, Option<Metadata>>,
    /// Tops of archives: they have no entry of their own.
    tops: Vec<Vec<u8>>,
}

fn key(path: &[u8]) -> Vec<u8> {
    path.iter().map(|b| if *b == b'/' { 0 } else { *b }).collect()
}

impl Tree {
    /// An archive begins: that of a tablespace, or of the data directory.
    pub(super) fn open(&mut self, space: Option<u32>) {
        self.tops.push(match space {
            Some(number) => format!("spaces/{number}").into_bytes(),
            None => b"data".to_vec(),
        });
    }

    /// A directory came.
    pub(super) fn directory(&mut self, placed: &Placed, meta: Metadata) {
        if placed.is_emptied {
            self.nodes.insert(key(&placed.path), Some(Metadata { mode: 0o700, ..meta }));
        } else if placed.place == Place::Kept {
            self.nodes.insert(key(&placed.path), Some(meta));
        }
    }

    /// A file came.
    pub(super) fn file(&mut self, placed: &Placed) {
        self.nodes.insert(key(&placed.path), None);
    }

    /// Tells everything, and after it what was kept aside.
    pub(super) fn tell(
        mut self,
        top: &Metadata,
        aside: BTreeMap<&'static str, Vec<u8>>,
        sink: &mut dyn ScanSink,
    ) -> Result<()> {
        for path in std::mem::take(&mut self.tops).iter().map(Vec::as_slice).chain([&b"spaces"[..]])
        {
            self.nodes.insert(key(path), Some(top.clone()));
        }
        self.nodes.insert(b"stop".to_vec(), Some(top.clone()));
        let enter = |name: &[u8], meta: Metadata| ScanEvent::Enter {
            name: name.to_vec(),
            meta,
            stamp: Default::default(),
        };
        sink.event(enter(b"", top.clone()))?;
        let mut open: Vec<Vec<u8>> = Vec::new();
        for (path, meta) in self.nodes {
            let (folder, name) = match path.iter().rposition(|b| *b == 0) {
                Some(at) => (&path[..at], &path[at + 1..]),
                None => (&b""[..], &path[..]),
            };
            while open.last().is_some_and(|last| last != folder) {
                open.pop();
                sink.event(ScanEvent::Leave)?;
            }
            if open.is_empty() && !folder.is_empty() {
                let shown = String::from_utf8_lossy(&path).replace('\0', "/");
                let what = format!("the server sent `{shown}` without the directory that it is in");
                return Err(VaultError::Refused(what));
            }
            let name = name.to_vec();
            match meta {
                Some(meta) => {
                    sink.event(enter(&name, meta))?;
                    open.push(path);
                }
                None => {
                    let path = path.iter().map(|b| if *b == 0 { b'/' } else { *b }).collect();
                    sink.event(ScanEvent::Placed { name, path })?;
                }
            }
        }
        // `stop` is the last directory of all.
        for (name, bytes) in aside.into_iter().filter(|(_, bytes)| !bytes.is_empty()) {
            let meta = Metadata { mode: 0o600, ..top.clone() };
            let (name, stream) = (name.as_bytes().to_vec(), Box::new(BytesStream::new(bytes)));
            sink.event(ScanEvent::Stream { name, meta, stream })?;
        }
        for _ in 0..=open.len() {
            sink.event(ScanEvent::Leave)?;
        }
        Ok(())
    }
}

/// Finds what the parent backup holds: a directory's entries at a time, as most files follow
/// others of their directory.
pub(super) struct Before<'a> {
    parent: Option<(&'a Entry, &'a dyn NodeSource)>,
    folder: Option<Vec<u8>>,
    entries: HashMap<Vec<u8>, Entry>,
}

impl<'a> Before<'a> {
    pub(super) fn new(context: &ScanContext<'a>) -> Before<'a> {
        Before { parent: context.parent, folder: None, entries: HashMap::new() }
    }

    /// The parent's entry at a path. A damaged parent only means that the file is stored anew.
    pub(super) fn entry(&mut self, path: &[u8]) -> Option<Entry> {
        let (top, source) = self.parent?;
        let at = path.iter().rposition(|b| *b == b'/')?;
        let (folder, name) = (&path[..at], &path[at + 1..]);
        if self.folder.as_deref() != Some(folder) {
            self.entries.clear();
            self.folder = Some(folder.to_vec());
            if let Ok(Entry { kind: EntryKind::Directory { node, .. }, .. }) =
                find_path(source, top, folder)
            {
                let found = children(source, &node).filter_map(std::result::Result::ok);
                self.entries = found.map(|entry| (entry.name.clone(), entry)).collect();
            }
        }
        self.entries.remove(name)
    }
}
