//! The mark of a database's restore that has not ended. While it lies there the directory has no
//! control file, so that no server opens what is restored by half; and the same restore, started
//! again, goes on. Without the mark, a directory that holds anything is refused.

use super::recovery::{Plan, write};
use crate::error::{Result, VaultError};
use crate::repository::Repository;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The mark's name in the data directory.
const NAME: &str = "backstay.restoring";
/// What a person reads in it.
const WORDS: &str = "This is no database yet: backstay's restore of it has not ended.\n\
                     Start the same restore again and it goes on, or empty the directory.\n";

/// What the mark says: which backup is restored, and where its tablespaces go.
pub(super) struct Mark {
    backup: String,
    spaces: Vec<String>,
}

impl Mark {
    /// The mark of a plan.
    pub(super) fn of(repository: &Repository, plan: &Plan, spaces: &[(String, PathBuf)]) -> Mark {
        let root = crate::hex::encode(&plan.backup.subject.root);
        let backup = format!("backup {} of {}, root {root}", plan.seq, repository.id());
        let space = |(number, place): &(String, PathBuf)| {
            format!("tablespace {number} in {}", place.display())
        };
        Mark { backup, spaces: spaces.iter().map(space).collect() }
    }

    fn text(&self) -> String {
        let lines = [&self.backup].into_iter().chain(&self.spaces);
        lines.fold(WORDS.to_owned(), |text, line| text + line + "\n")
    }

    /// Whether this restore was begun here and goes on. Refuses a directory that holds anything
    /// else: what was there would mix with what is restored.
    ///
    /// # Errors
    /// Where the directory holds anything else, or cannot be read.
    pub(super) fn goes_on_in(&self, target: &Path) -> Result<bool> {
        let said = match fs::read_to_string(target.join(NAME)) {
            Ok(said) => said,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return require_empty(target, &[]).map(|()| false);
            }
            Err(error) => return Err(VaultError::file("read", target.join(NAME))(error)),
        };
        if said == self.text() {
            return Ok(true);
        }
        // It was killed while it wrote the mark, and nothing else yet.
        if require_empty(target, &[NAME]).is_ok() {
            return Ok(false);
        }
        let other = said.lines().find(|line| line.starts_with("backup "));
        Err(VaultError::Refused(format!(
            "{} holds a restore that has not ended, and it is another one ({}). Go on with that \
             one (--backup names its number, --tablespace the same places), or empty the \
             directory. Nothing was written",
            target.display(),
            other.unwrap_or("its mark is damaged"),
        )))
    }

    /// Puts the mark into the data directory, made where it is missing.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn put(&self, target: &Path) -> Result<()> {
        fs::create_dir_all(target).map_err(VaultError::file("make", target))?;
        write(target, NAME, self.text().as_bytes(), true)
    }

    /// Takes the mark away: the restore has ended.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub(super) fn take(target: &Path) -> Result<()> {
        let remove = || {
            fs::remove_file(target.join(NAME))?;
            File::open(target)?.sync_all()
        };
        remove().map_err(VaultError::file("remove", target.join(NAME)))
    }
}

/// Whether a restore was begun in this directory and has not ended.
pub fn is_unfinished(target: &Path) -> bool {
    target.join(NAME).exists()
}

/// Refuses a directory that holds anything but `known`.
pub(super) fn require_empty(place: &Path, known: &[&str]) -> Result<()> {
    let entries = match fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(VaultError::file("list", place)(error)),
    };
    for entry in entries {
        let name = entry.map_err(VaultError::file("list", place))?.file_name();
        if !known.iter().any(|known| name == *known) {
            return Err(VaultError::Refused(format!(
                "{} is not empty: a database is restored into an empty or new directory, so \
                 that nothing old mixes with it. Nothing was written",
                place.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u64) -> Mark {
        Mark { backup: format!("backup {number} of 00, root 00"), spaces: Vec::new() }
    }

    #[test]
    fn a_directory_that_holds_anything_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!mark(1).goes_on_in(folder.path()).unwrap());
        assert!(!mark(1).goes_on_in(&folder.path().join("new")).unwrap());
        fs::write(folder.path().join("x"), "").unwrap();
        assert!(mark(1).goes_on_in(folder.path()).is_err());
    }

    #[test]
    fn the_same_restore_goes_on_and_another_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        mark(1).put(folder.path()).unwrap();
        assert!(is_unfinished(folder.path()));
        // Nothing but another one's mark harms nobody.
        assert!(!mark(2).goes_on_in(folder.path()).unwrap());
        fs::write(folder.path().join("PG_VERSION"), "15").unwrap();
        assert!(mark(1).goes_on_in(folder.path()).unwrap());
        let said = mark(2).goes_on_in(folder.path()).unwrap_err().to_string();
        assert!(said.contains("backup 1 of") && said.contains("--backup"), "{said}");
        Mark::take(folder.path()).unwrap();
        assert!(!is_unfinished(folder.path()));
        assert!(mark(1).goes_on_in(folder.path()).is_err());
    }
}
