//! What of a data directory is not backed up: what a server makes anew when it starts, as
//! `pg_basebackup` has it (`src/backend/backup/basebackup.c`).

/// Directories whose contents are left out; they themselves are kept.
const EMPTIED: [&str; 8] = [
    "pg_wal",
    "pg_replslot",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
];
/// Files at the top that are left out.
const LEFT_OUT: [&str; 10] = [
    "backup_label",
    "backup_label.old",
    "backup_manifest",
    "tablespace_map",
    "tablespace_map.old",
    "postmaster.pid",
    "postmaster.opts",
    "current_logfiles",
    "current_logfiles.tmp",
    "postgresql.auto.conf.tmp",
];
/// Where a relation of a database lies: below these, a directory a database.
const DATABASES: [&str; 2] = ["base", "spaces"];

/// What becomes of a path below the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is backed up.
    Kept,
    /// A directory that is kept empty.
    Emptied,
    /// It is left out.
    LeftOut,
}

/// What becomes of a path in the data directory.
pub fn fate(path: &str) -> Fate {
    let name = path.rsplit('/').next().unwrap_or(path);
    if EMPTIED.contains(&path) {
        return Fate::Emptied;
    }
    // It is copied last, beside the backup's label.
    if LEFT_OUT.contains(&path) || path == "global/pg_control" {
        return Fate::LeftOut;
    }
    if name.starts_with("pgsql_tmp") || name.starts_with("pg_internal.init") {
        return Fate::LeftOut;
    }
    if is_temporary(name) && DATABASES.iter().any(|d| path.starts_with(&format!("{d}/"))) {
        return Fate::LeftOut;
    }
    Fate::Kept
}

/// A relation's file: its number and what follows it (`_fsm`, `.1`, …).
pub fn relation(name: &str) -> Option<(&str, &str)> {
    let end = name.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(name.len());
    let (number, rest) = name.split_at(end);
    let fork = rest.split('.').next().unwrap_or("");
    let known = matches!(fork, "" | "_fsm" | "_vm" | "_init");
    let segment = rest.split_once('.').is_none_or(|(_, n)| n.parse::<u32>().is_ok());
    (!number.is_empty() && known && segment).then_some((number, fork))
}

/// Whether a file of an unlogged relation is emptied at the start after a crash: every fork but
/// the one from which it is made anew.
pub fn is_unlogged(name: &str, has_init: impl Fn(&str) -> bool) -> bool {
    relation(name).is_some_and(|(number, fork)| fork != "_init" && has_init(number))
}

/// `t3_16384`, `t3_16384_fsm`, `t3_16384.1`: a session's own table.
fn is_temporary(name: &str) -> bool {
    let Some((session, rest)) = name.strip_prefix('t').and_then(|n| n.split_once('_')) else {
        return false;
    };
    !session.is_empty() && session.bytes().all(|b| b.is_ascii_digit()) && relation(rest).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_makes_anew_is_left_out_and_nothing_else() {
        let cases = [
            ("base/1/2619", Fate::Kept),
            ("base/1/2619_vm", Fate::Kept),
            ("base/5/t3_16384", Fate::LeftOut),
            ("base/5/t3_16384_fsm", Fate::LeftOut),
            ("base/5/t3_16384.1", Fate::LeftOut),
            ("base/5/t_16384", Fate::Kept),
            ("base/5/thing_1", Fate::Kept),
            ("base/5/pg_internal.init", Fate::LeftOut),
            ("base/pgsql_tmp", Fate::LeftOut),
            ("global/pg_control", Fate::LeftOut),
            ("pg_wal", Fate::Emptied),
            ("pg_walker", Fate::Kept),
            ("postmaster.pid", Fate::LeftOut),
            ("sub/postmaster.pid", Fate::Kept),
            ("pg_xact/0000", Fate::Kept),
        ];
        for (path, expect) in cases {
            assert_eq!(fate(path), expect, "{path}");
        }
    }

    #[test]
    fn unlogged_relations_keep_their_first_fork_only() {
        let has_init = |number: &str| number == "16400";
        assert!(is_unlogged("16400", has_init) && is_unlogged("16400_fsm", has_init));
        assert!(is_unlogged("16400.2", has_init) && !is_unlogged("16400_init", has_init));
        assert!(!is_unlogged("16401", has_init) && !is_unlogged("PG_VERSION", has_init));
    }
}
