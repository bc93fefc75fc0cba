//! The epochs this node has seen: the highest of each resource, and the highest that is burnt.
//!
//! They outlive the launcher in a file of the run directory, one line per change. A boot clears
//! it, as it clears all instances.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use model::{Epoch, ResourceName};

use crate::guard::Statement;
use crate::protocol::Refusal;

/// Lines after which the file is written anew.
const LINES_MAX: usize = 16_384;

/// What is known of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Known {
    highest: Epoch,
    burnt: Option<Epoch>,
}

/// The epochs seen on this node.
#[derive(Debug)]
pub(super) struct EpochBook {
    path: PathBuf,
    file: File,
    known: BTreeMap<ResourceName, Known>,
    lines: usize,
}

impl EpochBook {
    /// Reads what earlier launchers saw. Whatever was active then is gone, so all of it is burnt,
    /// as is what a guard states to have stopped.
    pub(super) fn load(path: &Path, statements: &Path) -> io::Result<EpochBook> {
        let known = known(&read_or_empty(path)?, &read_or_empty(statements)?);
        let file = rewrite(path, &known)?;
        Ok(EpochBook { path: path.to_owned(), file, lines: known.len(), known })
    }

    /// Whether something may be done under an epoch; `active` where that makes it active.
    pub(super) fn check(
        &self,
        resource: &ResourceName,
        epoch: Epoch,
        active: bool,
    ) -> Result<(), Refusal> {
        let Some(known) = self.known.get(resource) else { return Ok(()) };
        if epoch < known.highest {
            return Err(Refusal::StaleEpoch { highest: known.highest });
        }
        if active && known.burnt.is_some_and(|burnt| epoch <= burnt) {
            return Err(Refusal::BurntEpoch);
        }
        Ok(())
    }

    /// An epoch was seen.
    pub(super) fn see(&mut self, resource: &ResourceName, epoch: Epoch) {
        let known = self.known.entry(resource.clone()).or_default();
        if epoch > known.highest {
            known.highest = epoch;
            self.write_down(resource);
        }
    }

    /// Nothing becomes active under this epoch, or a lower one, again.
    pub(super) fn burn(&mut self, resource: &ResourceName, epoch: Epoch) {
        let known = self.known.entry(resource.clone()).or_default();
        known.highest = known.highest.max(epoch);
        if known.burnt.is_none_or(|burnt| epoch > burnt) {
            known.burnt = Some(epoch);
            self.write_down(resource);
        }
    }

    /// The burnt epochs.
    pub(super) fn burnt(&self) -> Vec<(ResourceName, Epoch)> {
        self.known.iter().filter_map(|(name, k)| Some((name.clone(), k.burnt?))).collect()
    }

    fn write_down(&mut self, resource: &ResourceName) {
        let Some(known) = self.known.get(resource) else { return };
        let written = if self.lines >= LINES_MAX {
            self.lines = self.known.len();
            rewrite(&self.path, &self.known).map(|file| self.file = file)
        } else {
            self.lines += 1;
            self.file.write_all(line(resource, known).as_bytes())
        };
        if let Err(error) = written {
            // The book in memory stays right; only a later launcher would know less.
            tracing::error!(%error, path = %self.path.display(), "epochs can't be written down");
        }
    }
}

/// What a book and a guard's statements say; lines that say nothing are left out.
pub(super) fn known(book: &str, statements: &str) -> BTreeMap<ResourceName, Known> {
    let mut known = BTreeMap::new();
    for line in book.lines() {
        let mut field = line.split(' ');
        let entry = (|| {
            let name = ResourceName::new(field.next()?).ok()?;
            let highest: Epoch = field.next()?.parse().ok()?;
            Some((name, highest))
        })();
        let Some((name, highest)) = entry else {
            tracing::warn!(line, "an epoch can't be read back");
            continue;
        };
        raise(&mut known, name, highest);
    }
    for line in statements.lines() {
        let Some(statement) = Statement::parse(line) else { continue };
        if let Ok(name) = ResourceName::new(statement.resource) {
            raise(&mut known, name, statement.epoch);
        }
    }
    known
}

fn raise(known: &mut BTreeMap<ResourceName, Known>, name: ResourceName, epoch: Epoch) {
    let entry = known.entry(name).or_default();
    entry.highest = entry.highest.max(epoch);
    entry.burnt = Some(entry.highest);
}

fn line(resource: &ResourceName, known: &Known) -> String {
    format!("{resource} {} {}\n", known.highest, known.burnt.unwrap_or_default())
}

fn read_or_empty(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

fn rewrite(path: &Path, known: &BTreeMap<ResourceName, Known>) -> io::Result<File> {
    let mut text = String::new();
    for (resource, known) in known {
        text.write_str(&line(resource, known)).map_err(io::Error::other)?;
    }
    let fresh = path.with_extension("new");
    fs::write(&fresh, text)?;
    fs::rename(&fresh, path)?;
    OpenOptions::new().append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(counter: u64) -> Epoch {
        Epoch { generation: 1, counter }
    }

    #[test]
    fn lower_and_burnt_epochs_are_refused_by_the_next_launcher_too() {
        let dir = tempfile::tempdir().unwrap();
        let (path, statements) = (dir.path().join("e"), dir.path().join("s"));
        let name = ResourceName::new("gw").unwrap();
        let mut book = EpochBook::load(&path, &statements).unwrap();
        assert_eq!(book.check(&name, epoch(1), true), Ok(()));
        book.see(&name, epoch(5));
        let stale = Err(Refusal::StaleEpoch { highest: epoch(5) });
        assert_eq!(book.check(&name, epoch(4), false), stale);
        assert_eq!(book.check(&name, epoch(5), true), Ok(()));
        book.burn(&name, epoch(5));
        assert_eq!(book.check(&name, epoch(5), true), Err(Refusal::BurntEpoch));
        assert_eq!(book.check(&name, epoch(5), false), Ok(()), "a standby holds nothing");
        book.see(&name, epoch(6));
        let line = "at_ns=1 node=a guard=1 resource=db epoch=1.3 empty=true seen_by=cgroup cause=x";
        fs::write(&statements, line).unwrap();
        let next = EpochBook::load(&path, &statements).unwrap();
        assert_eq!(next.check(&name, epoch(6), true), Err(Refusal::BurntEpoch));
        assert_eq!(next.check(&name, epoch(7), true), Ok(()));
        let db = ResourceName::new("db").unwrap();
        assert_eq!(next.check(&db, epoch(3), true), Err(Refusal::BurntEpoch));
    }

    #[test]
    fn the_file_does_not_grow_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let (path, none) = (dir.path().join("e"), dir.path().join("none"));
        let name = ResourceName::new("gw").unwrap();
        let mut book = EpochBook::load(&path, &none).unwrap();
        for counter in 1..=(LINES_MAX as u64 + 10) {
            book.see(&name, epoch(counter));
        }
        assert!(fs::read_to_string(&path).unwrap().lines().count() < 20);
    }
}
