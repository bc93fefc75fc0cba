//! Where what a server sends belongs in the tree of a backup.

use crate::error::{Result, VaultError};
use crate::postgres::exclude::{Fate, fate};

/// Where a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Into the tree.
    Kept,
    /// Beside it, under this name: what is read last of a data directory.
    Aside(&'static str),
    /// Nowhere: the server makes it anew.
    LeftOut,
}

/// A path of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) place: Place,
    /// The path in the tree.
    pub(super) path: Vec<u8>,
    /// The path as the manifest has it: from the data directory on.
    pub(super) named: Vec<u8>,
    /// Whether it is a directory that is kept empty.
    pub(super) is_emptied: bool,
}

/// Where a path of an archive goes: of the data directory's, or of a tablespace's.
///
/// # Errors
/// Where it leads out of its directory.
pub(super) fn place(space: Option<u32>, path: &[u8]) -> Result<Placed> {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let is_plain = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    if !path.split(|b| *b == b'/').all(is_plain) {
        let shown = String::from_utf8_lossy(path);
        let what =
            format!("the server sent a file at `{shown}`, which is no place of a database's");
        return Err(VaultError::Refused(what));
    }
    let text = String::from_utf8_lossy(path).into_owned();
    let (inner, place_in_tree, named) = match space {
        None => (text.clone(), join("data", path), path.to_vec()),
        Some(number) => {
            let inner = format!("spaces/{number}/{text}");
            let named = join(&format!("pg_tblspc/{number}"), path);
            (inner, join(&format!("spaces/{number}"), path), named)
        }
    };
    let aside = ["backup_label", "tablespace_map"].into_iter().find(|name| inner == *name);
    let aside = aside.or((inner == "global/pg_control").then_some("pg_control"));
    let decided = fate(&inner);
    let place = match (aside, is_below_emptied(&inner), decided) {
        (Some(name), _, _) => Place::Aside(name),
        (None, false, Fate::Kept) => Place::Kept,
        _ => Place::LeftOut,
    };
    let is_emptied = decided == Fate::Emptied;
    Ok(Placed { place, path: place_in_tree, named, is_emptied })
}

fn join(folder: &str, path: &[u8]) -> Vec<u8> {
    [folder.as_bytes(), b"/", path].concat()
}

/// Whether it lies in a directory that is kept empty.
fn is_below_emptied(path: &str) -> bool {
    path.match_indices('/').any(|(end, _)| fate(&path[..end]) == Fate::Emptied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_where_a_copy_of_the_directory_has_them() {
        let cases: [(Option<u32>, &str, Place, &str, &str); 9] = [
            (None, "base/5/16384", Place::Kept, "data/base/5/16384", "base/5/16384"),
            (None, "backup_label", Place::Aside("backup_label"), "data/backup_label", ""),
            (None, "global/pg_control", Place::Aside("pg_control"), "data/global/pg_control", ""),
            (None, "standby.signal", Place::LeftOut, "data/standby.signal", ""),
            (None, "./pg_wal/archive_status/", Place::LeftOut, "data/pg_wal/archive_status", ""),
            (None, "pg_walker/x", Place::Kept, "data/pg_walker/x", ""),
            (Some(7), "PG_15/5/9", Place::Kept, "spaces/7/PG_15/5/9", "pg_tblspc/7/PG_15/5/9"),
            (Some(7), "PG_15/5/t3_9", Place::LeftOut, "spaces/7/PG_15/5/t3_9", ""),
            (Some(7), "backup_label", Place::Kept, "spaces/7/backup_label", ""),
        ];
        for (space, path, expect, in_tree, named) in cases {
            let placed = place(space, path.as_bytes()).unwrap();
            assert_eq!((placed.place, &placed.path[..]), (expect, in_tree.as_bytes()), "{path}");
            assert!(named.is_empty() || placed.named == named.as_bytes(), "{path}");
        }
        assert!(place(None, b"pg_wal/").unwrap().is_emptied);
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["", "/", "/etc/passwd", "a/../b", "..", "a//b", "a/./b", "a\0b"] {
            assert!(place(None, path.as_bytes()).is_err(), "{path:?}");
        }
    }
}
