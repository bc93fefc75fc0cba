//! `vault prove-restore`: restores a backup into a scratch place, has it checked, and only then
//! calls it proven.

use super::opening::{RepositoryArgs, Which, protect_memory, readers, take_descriptors};
use super::output::{Output, size, timed};
use super::{CliResult, cluster};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use vault::chain::{Backup, SourceKind};
use vault::postgres::Position;
use vault::postgres::recovery::{
    Choice, Log, RecoverRequest, Target, plan, recover, space_numbers,
};
use vault::postgres::rehearsal::{RehearsalRequest, find_programs, rehearse};
use vault::rehearsal::{Checked, DirectoryRehearsal, check_digests, record};
use vault::repository::Repository;
use vault::restore::{Note, RestoreCounters};
use vault::{Result, VaultError};

/// Restore a backup into a scratch place and check it. A database is recovered, opened on a
/// private socket, and checked by pg_amcheck (or the extension amcheck where that is missing) and
/// by queries of yours.
#[derive(Debug, Args)]
pub(crate) struct ProveRestoreArgs {
    #[command(flatten)]
    opening: RepositoryArgs,
    #[command(flatten)]
    which: Which,
    /// Where the scratch directory is made; it goes afterwards.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    scratch: PathBuf,
    /// A database: this must succeed, and its first value must not be false.
    #[arg(long, value_name = "SQL")]
    query: Vec<String>,
    /// The database in which the queries run.
    #[arg(long, value_name = "NAME", default_value = "postgres")]
    database: String,
    /// A superuser of the database.
    #[arg(long, value_name = "ROLE", default_value = "postgres")]
    role: String,
    /// The directory of the server's programs; looked for where none is given.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// For root: the user as whom the server runs.
    #[arg(long, value_name = "USER", default_value = "postgres")]
    run_as: String,
    /// How many seconds recovery may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    patience: u64,
}

#[derive(Serialize)]
pub(crate) struct Proof {
    pub(crate) backup: u64,
    pub(crate) source: String,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) restore_ms: u64,
    pub(crate) open_ms: Option<u64>,
    pub(crate) checked: Vec<String>,
    pub(crate) unchecked: Vec<String>,
    pub(crate) answers: Vec<String>,
    pub(crate) record: u64,
}

/// A directory that goes when the proof ends, however it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn make(folder: &Path) -> Result<Scratch> {
        let path = folder.join(format!("backstay-prove-{}", std::process::id()));
        // Programs that run as their owner and devices come to lie in it.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(VaultError::file("make", path.clone()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = fs::remove_dir_all(&self.0).or_else(|_| {
            unlock(&self.0)?;
            fs::remove_dir_all(&self.0)
        });
        if let Err(error) = removed {
            eprintln!("warning: {} could not be removed: {error}", self.0.display());
        }
    }
}

/// Lets the owner of directories remove what is in them: they may be restored without that right.
fn unlock(directory: &Path) -> std::io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            unlock(&entry.path())?;
        }
    }
    Ok(())
}

/// Runs the command.
///
/// # Errors
/// Where the backup could not be restored, or is not what it must be: it is not proven then.
pub(crate) fn run(args: &ProveRestoreArgs, output: Output) -> CliResult {
    protect_memory();
    take_descriptors();
    let mut repository = args.opening.open()?;
    let (seq, backup) = args.which.find(&repository)?;
    let backup = backup.clone();
    let scratch = Scratch::make(&args.scratch)?;
    let proof = match backup.kind {
        SourceKind::Postgres => database(args, &mut repository, seq, &backup, &scratch.0)?,
        SourceKind::Directory | SourceKind::Command => {
            files(&mut repository, seq, &backup, &scratch.0)?
        }
    };
    output.show(&proof, text);
    cluster::end(&mut repository)
}

fn incomplete(notes: &[Note]) -> Result<()> {
    match notes.first() {
        None => Ok(()),
        Some(Note { path, what, .. }) => {
            let what = format!("the restore is NOT proven: {path}: {what}");
            Err(VaultError::Refused(what))
        }
    }
}

fn files(repository: &mut Repository, seq: u64, backup: &Backup, scratch: &Path) -> Result<Proof> {
    let blobs = repository.blobs()?;
    let place = scratch.join("restored");
    let restore = || DirectoryRehearsal::restore(&blobs, backup, &place, readers());
    let (rehearsal, took) = timed(restore);
    let Checked { files, bytes, checked, unchecked } = rehearsal?.check()?;
    let restore_ms = took.as_millis() as u64;
    let record = record(repository, seq, restore_ms, bytes, said(&checked, &unchecked))?;
    Ok(Proof {
        backup: seq,
        source: backup.source.clone(),
        files,
        bytes,
        restore_ms,
        open_ms: None,
        checked,
        unchecked,
        answers: Vec::new(),
        record,
    })
}

/// What the record says.
fn said(checked: &[String], unchecked: &[String]) -> String {
    let not = unchecked.iter().map(|what| format!("; NOT {what}")).collect::<String>();
    checked.join(", ") + &not
}

fn database(
    args: &ProveRestoreArgs,
    repository: &mut Repository,
    seq: u64,
    backup: &Backup,
    scratch: &Path,
) -> Result<Proof> {
    let position = Position::parse(&backup.subject.position);
    let bad = || VaultError::Refused(format!("backup {seq} says no position"));
    let programs = match &args.programs {
        Some(programs) => programs.clone(),
        None => find_programs(position.ok_or_else(bad)?.version)?,
    };
    let is_root = rustix::process::geteuid().is_root();
    let owner = if is_root { Some(user(&args.run_as)?) } else { None };
    let data = scratch.join("data");
    let choice = Choice { source: None, backup: Some(seq) };
    let (restored, took) = timed(|| -> Result<_> {
        let plan = plan(repository, &choice, Target::Latest)?;
        let request = RecoverRequest {
            target: data.clone(),
            spaces: spaces(repository, &plan.backup, scratch)?,
            log: Log::Fetched,
            owners: is_root,
            workers: readers(),
            counters: Arc::new(RestoreCounters::default()),
        };
        recover(repository, &plan, &request)
    });
    incomplete(&restored?.notes)?;
    let (files, bytes) = digests(repository, backup, scratch)?;
    if let Some(owner) = owner {
        give(scratch, owner)?;
    }
    let queries = args.query.iter().map(|sql| (args.database.clone(), sql.clone()));
    let rehearsed = rehearse(&RehearsalRequest {
        data,
        scratch: scratch.to_owned(),
        programs,
        owner,
        role: args.role.clone(),
        patience: Duration::from_secs(args.patience),
        queries: queries.collect(),
    })?;
    let restore_ms = took.as_millis() as u64;
    let mut checked = vec!["every file's digest".to_owned()];
    checked.extend(rehearsed.checked);
    let took_ms = restore_ms + rehearsed.opened_ms;
    let unchecked = rehearsed.unchecked;
    let record = record(repository, seq, took_ms, bytes, said(&checked, &unchecked))?;
    Ok(Proof {
        backup: seq,
        source: backup.source.clone(),
        files,
        bytes,
        restore_ms,
        open_ms: Some(rehearsed.opened_ms),
        checked,
        unchecked,
        answers: rehearsed.answers,
        record,
    })
}

/// Tablespaces go into the scratch directory, too.
fn spaces(
    repository: &Repository,
    backup: &Backup,
    scratch: &Path,
) -> Result<BTreeMap<String, PathBuf>> {
    let numbers = space_numbers(&repository.blobs()?, backup)?;
    Ok(numbers.into_iter().map(|n| (n.clone(), scratch.join("spaces").join(n))).collect())
}

fn digests(repository: &Repository, backup: &Backup, scratch: &Path) -> Result<(u64, u64)> {
    let blobs = repository.blobs()?;
    // The settings were written for this recovery; everything else is as it was.
    let except = ["postgresql.auto.conf"];
    let (mut files, mut bytes) =
        check_digests(&blobs, backup, b"data", &scratch.join("data"), &except)?;
    for number in space_numbers(&blobs, backup)? {
        let place = scratch.join("spaces").join(&number);
        let path = format!("spaces/{number}");
        let more = check_digests(&blobs, backup, path.as_bytes(), &place, &[])?;
        (files, bytes) = (files + more.0, bytes + more.1);
    }
    Ok((files, bytes))
}

/// A user's and group's number.
pub(crate) fn user(name: &str) -> Result<(u32, u32)> {
    let path = "/etc/passwd";
    let users = fs::read_to_string(path).map_err(VaultError::file("read", path))?;
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut found = fields.filter(|f| f.first() == Some(&name));
    let number = |f: &[&str], n: usize| f.get(n).and_then(|text| text.parse().ok());
    found.find_map(|f| Some((number(&f, 2)?, number(&f, 3)?))).ok_or_else(|| {
        VaultError::NotFound(format!("there is no user `{name}`; a server does not run as root"))
    })
}

/// Gives everything below a directory to the server's user.
pub(crate) fn give(place: &Path, (uid, gid): (u32, u32)) -> Result<()> {
    let mut open = vec![place.to_owned()];
    while let Some(path) = open.pop() {
        let failed = |action| VaultError::file(action, path.clone());
        lchown(&path, Some(uid), Some(gid)).map_err(failed("set the owner of"))?;
        if fs::symlink_metadata(&path).map_err(failed("look at"))?.is_dir() {
            for entry in fs::read_dir(&path).map_err(failed("list"))? {
                open.push(entry.map_err(failed("list"))?.path());
            }
        }
    }
    Ok(())
}

fn text(p: &Proof) -> String {
    let seconds = |ms: u64| format!("{:.2} s", ms as f64 / 1000.0);
    let opened = p.open_ms.map_or(String::new(), |ms| format!(", open after {}", seconds(ms)));
    let mut text = format!(
        "Backup {} of {} is PROVEN: {} files, {} restored in {}{opened}\n  checked: {}\n  \
         record {}",
        p.backup,
        p.source,
        p.files,
        size(p.bytes),
        seconds(p.restore_ms),
        p.checked.join(", "),
        p.record,
    );
    for what in &p.unchecked {
        text += &format!("\n  NOT checked: {what}");
    }
    for answer in &p.answers {
        text += &format!("\n  answer: {answer}");
    }
    text
}
