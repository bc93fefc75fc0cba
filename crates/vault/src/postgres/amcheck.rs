//! The check of all tables and indexes of a server: by `pg_amcheck` where it is there (14 and
//! newer, and not in every package), else by the same functions of the extension `amcheck`.

use super::{ConnInfo, Connection};
use crate::error::{Result, VaultError};

/// B-tree indexes, with every row of their tables looked up in them.
const INDEXES: &str = "SELECT count(*) FROM (SELECT bt_index_check(i.indexrelid, true) \
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam \
    WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't' \
    AND i.indisready AND i.indisvalid) checked";
/// Rows of tables that are not what they must be.
const TABLES: &str = "SELECT c.relname || ', block ' || coalesce(v.blkno::text, '?') || ': ' \
    || v.msg FROM pg_class c JOIN pg_am a ON a.oid = c.relam, LATERAL verify_heapam(c.oid) v \
    WHERE a.amname = 'heap' AND c.relkind IN ('r', 't', 'm') AND c.relpersistence <> 't' LIMIT 1";
/// From this version on, tables can be checked.
const TABLES_SINCE: u32 = 140_000;

/// Checks every database that lets anyone in. Returns what was checked, or nothing where the
/// server has no such extension.
///
/// # Errors
/// What is wrong, in the server's words.
pub fn by_extension(info: &dyn Fn(&str) -> ConnInfo) -> Result<Option<String>> {
    let mut first = Connection::open(&info("postgres"))?;
    let has = first.query("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'")?;
    if has.is_empty() {
        return Ok(None);
    }
    let version = first.row("SELECT current_setting('server_version_num')", 1)?;
    let tables = version[0].parse::<u32>().is_ok_and(|version| version >= TABLES_SINCE);
    let databases = first.query("SELECT datname FROM pg_database WHERE datallowconn")?;
    for database in databases.iter().filter_map(|row| row.first()?.as_deref()) {
        let server = info(database);
        let mut connection = Connection::open(&server)?;
        connection.query("CREATE EXTENSION IF NOT EXISTS amcheck")?;
        connection.query(INDEXES)?;
        if !tables {
            continue;
        }
        if let Some(Some(wrong)) = connection.query(TABLES)?.first().and_then(|row| row.first()) {
            let what = format!("in database {database}, {wrong}");
            return Err(VaultError::Postgres { server: server.shown(), what });
        }
    }
    let what = if tables { "amcheck of indexes and tables" } else { "amcheck of indexes" };
    Ok(Some(what.to_owned()))
}
