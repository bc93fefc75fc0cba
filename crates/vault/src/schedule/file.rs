//! What an operator writes: `vault.toml`. Every mistake is named with its line.

use super::{Job, JobKey, Kind, Place, Plan, When, Window};
use crate::error::{Result, VaultError};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Sources of one file, at most.
pub const SOURCES_MAX: usize = 1000;
/// Runs under way at once, at most.
const AT_ONCE_MAX: usize = 16;
/// Parts into which a verification may be divided.
const PARTS_MAX: u32 = 3650;
/// The longest file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleFile {
    /// When in the day runs may begin, for all that have no window of their own.
    pub window: Option<Window>,
    /// Runs under way at once; one where nothing is said.
    pub at_once: Option<usize>,
    /// What each run may use.
    #[serde(default)]
    pub limits: LimitSection,
    /// The cluster that is told of what is done, and asked where it is done.
    pub cluster: Option<ClusterSection>,
    /// What is backed up.
    #[serde(default)]
    pub source: Vec<SourceSection>,
    /// Verification of the repository.
    pub verify: Option<VerifySection>,
    /// Tests of the keys.
    pub key_test: Option<KeySection>,
    /// Forgetting and clean-up.
    pub cleanup: Option<CleanupSection>,
}

/// `[limits]`: what each run may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSection {
    /// KiB a second read from the source.
    pub read_kib: Option<u64>,
    /// KiB a second to and from the repository.
    pub repository_kib: Option<u64>,
    /// Percent of all processors.
    pub processor_percent: Option<u8>,
}

/// `[cluster]`: how the cluster is reached; as a node of it, where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSection {
    /// A node's data directory.
    pub data: Option<PathBuf>,
    /// A credential instead.
    pub credential: Option<PathBuf>,
    /// API addresses instead.
    #[serde(default)]
    pub api: Vec<SocketAddr>,
    /// How often the cluster is told how far the repository has come, beside what every run tells;
    /// every 10 minutes where nothing is said.
    pub record: Option<When>,
}

/// How often the cluster is told, where nothing is said, in milliseconds.
const RECORD_MS: i64 = 600_000;

/// `[[source]]`: one of `path`, `image`, `command` and `postgres`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSection {
    /// Its name in the repository; the path where none is given.
    pub name: Option<String>,
    /// A directory or file.
    pub path: Option<PathBuf>,
    /// A disk image or a block device that stands still while it is backed up.
    pub image: Option<PathBuf>,
    /// A shell command whose output is backed up.
    pub command: Option<String>,
    /// A PostgreSQL server, as `backup --postgres` has it.
    pub postgres: Option<String>,
    /// Whether the server sends its files, instead of their being read in its data directory.
    #[serde(default)]
    pub over_replication: bool,
    /// What is left out of a directory.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Stay on the directory's file system.
    #[serde(default)]
    pub one_file_system: bool,
    /// A hook.
    pub before: Option<String>,
    /// A hook.
    pub after: Option<String>,
    /// When it is backed up.
    pub backup: Option<When>,
    /// When its newest backup is restored and checked.
    pub prove: Option<When>,
    /// When in the day its runs may begin.
    pub window: Option<Window>,
    /// Where in a cluster its runs begin: `active of NAME`, `standby of NAME`.
    pub only: Option<Place>,
    /// How a proof is made.
    #[serde(default)]
    pub proof: ProofSection,
}

/// `[source.proof]`: how a restore is proven.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofSection {
    /// Where the scratch directory is made.
    pub scratch: Option<PathBuf>,
    /// Queries that must succeed, and whose first value must not be false.
    #[serde(default)]
    pub query: Vec<String>,
    /// The database in which they run.
    pub database: Option<String>,
    /// A superuser.
    pub role: Option<String>,
    /// The user as whom the server runs.
    pub run_as: Option<String>,
    /// The directory of the server's programs.
    pub programs: Option<PathBuf>,
    /// How many seconds recovery may take.
    pub patience: Option<u64>,
}

/// `[verify]`: one part of the repository each time, another one the next time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifySection {
    /// How often.
    pub when: When,
    /// After so many runs every byte was read; 30 where nothing is said.
    pub parts: Option<u32>,
    /// When in the day it may begin.
    pub window: Option<Window>,
}

/// `[key_test]`: this machine's key, and others where they are named.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySection {
    /// How often.
    pub when: When,
    /// A file with the recovery key's words, on a medium that is there at that time.
    pub recovery_key: Option<PathBuf>,
    /// Files with custodians' shares.
    #[serde(default)]
    pub share: Vec<PathBuf>,
}

/// `[cleanup]`: what is forgotten by rules, and the room that comes back.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanupSection {
    /// How often.
    pub when: When,
    /// When in the day it may begin.
    pub window: Option<Window>,
    /// The deletion key of an append-only repository.
    pub deletion_key: Option<PathBuf>,
    /// The newest so many of each source are kept. Without a rule nothing is forgotten.
    pub keep_last: Option<u32>,
    /// The newest of each of so many hours.
    pub keep_hourly: Option<u32>,
    /// Of days.
    pub keep_daily: Option<u32>,
    /// Of weeks.
    pub keep_weekly: Option<u32>,
    /// Of months.
    pub keep_monthly: Option<u32>,
    /// Of years.
    pub keep_yearly: Option<u32>,
    /// Everything of so many days.
    pub keep_within_days: Option<u32>,
}

impl SourceSection {
    /// The name in the repository.
    pub fn name(&self) -> Option<String> {
        let path = self.path.as_ref().or(self.image.as_ref());
        let path = || path.map(|path| path.display().to_string());
        self.name.clone().or_else(path)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let paths = [&self.path, &self.image];
        let given = [&self.command, &self.postgres].into_iter().flatten().count();
        if given + paths.into_iter().flatten().count() != 1 {
            return Err("give one of `path`, `image`, `command` and `postgres`".to_owned());
        }
        if self.name().is_none_or(|name| name.is_empty()) {
            return Err("give it a `name`".to_owned());
        }
        if paths.into_iter().flatten().any(|path| !path.is_absolute()) {
            return Err("write the whole path, from / on".to_owned());
        }
        if self.postgres.is_none() && self.over_replication {
            return Err("`over_replication` is for `postgres`".to_owned());
        }
        if self.path.is_none() && (!self.exclude.is_empty() || self.one_file_system) {
            return Err("`exclude` and `one_file_system` are for directories".to_owned());
        }
        if self.backup.is_none() && self.prove.is_none() {
            return Err("say when: `backup`, `prove`, or both".to_owned());
        }
        Ok(())
    }
}

impl ScheduleFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Naming the line, or what does not fit together.
    pub fn read(path: &Path) -> Result<ScheduleFile> {
        let mut text = String::new();
        let read = File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
        read.map_err(VaultError::file("read", path))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            let what = path.display().to_string();
            return Err(VaultError::Limit { what, limit: FILE_BYTES_MAX });
        }
        let parsed = ScheduleFile::parse(&text);
        parsed.map_err(|why| VaultError::Refused(format!("{}: {why}", path.display())))
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// As [`ScheduleFile::read`].
    pub fn parse(text: &str) -> std::result::Result<ScheduleFile, String> {
        let file: ScheduleFile = toml::from_str(text).map_err(|error| error.to_string())?;
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.source.len() > SOURCES_MAX {
            return Err(format!("more than {SOURCES_MAX} sources"));
        }
        let mut names = BTreeSet::new();
        for (number, source) in self.source.iter().enumerate() {
            let name = source.name().unwrap_or_else(|| format!("number {}", number + 1));
            source.check().map_err(|why| format!("source {name}: {why}"))?;
            if source.only.is_some() && self.cluster.is_none() {
                return Err(format!("source {name}: `only` needs [cluster]"));
            }
            if !names.insert(name.clone()) {
                return Err(format!("source {name} is there twice"));
            }
        }
        let rates = [self.limits.read_kib, self.limits.repository_kib];
        if rates.contains(&Some(0)) || self.limits.processor_percent == Some(0) {
            return Err("a limit of 0 would let nothing run; leave it out".to_owned());
        }
        if self.limits.processor_percent.is_some_and(|percent| percent > 100) {
            return Err("processor_percent is more than 100".to_owned());
        }
        if self.at_once.is_some_and(|n| n == 0 || n > AT_ONCE_MAX) {
            return Err(format!("at_once is not from 1 to {AT_ONCE_MAX}"));
        }
        let parts = self.verify.as_ref().and_then(|verify| verify.parts);
        if parts.is_some_and(|n| n == 0 || n > PARTS_MAX) {
            return Err(format!("verify.parts is not from 1 to {PARTS_MAX}"));
        }
        if self.plan().jobs.is_empty() {
            return Err("it names nothing to do".to_owned());
        }
        Ok(())
    }

    /// The jobs.
    pub fn plan(&self) -> Plan {
        let mut jobs = Vec::new();
        let mut add = |kind, source: Option<&SourceSection>, when, window: Option<Window>| {
            let key = JobKey { kind, source: source.and_then(SourceSection::name) };
            let only = source.and_then(|source| source.only.clone());
            jobs.push(Job { key, when, window: window.or(self.window), only });
        };
        for source in &self.source {
            for (kind, when) in [(Kind::Backup, source.backup), (Kind::Prove, source.prove)] {
                if let Some(when) = when {
                    add(kind, Some(source), when, source.window);
                }
            }
        }
        if let Some(test) = &self.key_test {
            add(Kind::KeyTest, None, test.when, None);
        }
        if let Some(verify) = &self.verify {
            add(Kind::Verify, None, verify.when, verify.window);
        }
        if let Some(cleanup) = &self.cleanup {
            add(Kind::Cleanup, None, cleanup.when, cleanup.window);
        }
        if let Some(cluster) = &self.cluster {
            // It is told at any time of day: it costs nothing, and what is told late guards late.
            let key = JobKey { kind: Kind::Record, source: None };
            let when = cluster.record.unwrap_or(When::Every { ms: RECORD_MS });
            jobs.push(Job { key, when, window: None, only: None });
        }
        Plan { jobs, at_once: self.at_once.unwrap_or(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_guide_is_read() {
        let guide = include_str!("../../../../docs/guides/vault.md");
        let example = guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let plan = ScheduleFile::parse(example).unwrap().plan();
        let keys: Vec<String> = plan.jobs.iter().map(|job| job.key.to_string()).collect();
        let expect = ["backup of ledger", "prove of ledger", "backup of /srv/gateway"];
        assert_eq!(keys[..3], expect);
        assert_eq!(keys[3..], ["prove of /srv/gateway", "key-test", "verify", "cleanup"]);
        assert!(plan.jobs.iter().all(|job| job.window.is_some()));
    }

    /// The keys of a section, by what the reader says to one that it doesn't know.
    fn known_keys(section: &str) -> BTreeSet<String> {
        let header = match section {
            "top" => String::new(),
            "source" => "[[source]]\n".to_owned(),
            "source.proof" => "[[source]]\n[source.proof]\n".to_owned(),
            other => format!("[{other}]\n"),
        };
        let said = ScheduleFile::parse(&format!("{header}nothing = 1")).unwrap_err();
        let known = said.split("expected one of").nth(1).unwrap();
        known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_reference_has_the_keys_that_are_read_and_no_others() {
        let reference = include_str!("../../../../docs/reference/vault-configuration.md");
        let mut sections: Vec<&str> = reference.split("\n## ").skip(1).collect();
        for section in &sections {
            let (name, rows) = section.split_once('\n').unwrap();
            let row = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
            let written: BTreeSet<String> = rows.lines().filter_map(row).collect();
            assert_eq!(written, known_keys(name), "{name}");
        }
        sections.retain(|section| !section.starts_with("top\n"));
        let inner =
            ["limits", "cluster", "source", "source.proof", "verify", "key_test", "cleanup"];
        assert_eq!(sections.len(), inner.len());
    }

    #[test]
    fn mistakes_are_named() {
        let source = "[[source]]\npath = \"/srv\"\n";
        let cases = [
            (String::new(), "nothing to do"),
            (format!("{source}backup = \"every 6\""), "line 3"),
            (format!("window = \"22-6\"\n{source}backup = \"every 6h\""), "22:00-06:00"),
            (format!("{source}backup = \"every 6h\"\nbackups = 3"), "unknown field `backups`"),
            (source.to_owned(), "source /srv: say when"),
            (format!("{source}command = \"x\"\nbackup = \"every 6h\""), "give one of `path`"),
            ("[[source]]\ncommand = \"x\"\nbackup = \"every 6h\"".to_owned(), "give it a `name`"),
            ("[[source]]\npath = \"srv\"\nbackup = \"every 6h\"".to_owned(), "whole path"),
            (format!("{0}backup = \"every 6h\"\n{0}backup = \"every 6h\"", source), "twice"),
            (format!("at_once = 0\n{source}backup = \"every 6h\""), "at_once"),
            (format!("{source}backup = \"every 6h\"\n[limits]\nread_kib = 0"), "a limit of 0"),
            (
                format!("{source}backup = \"every 6h\"\n[limits]\nprocessor_percent = 101"),
                "more than 100",
            ),
            ("[verify]\nwhen = \"every 1d\"\nparts = 0".to_owned(), "verify.parts"),
            (
                format!("{source}backup = \"every 6h\"\nonly = \"active of r\""),
                "`only` needs [cluster]",
            ),
            (format!("{source}backup = \"every 6h\"\nonly = \"r\"\n[cluster]"), "no place"),
        ];
        for (text, expect) in cases {
            let error = ScheduleFile::parse(&text).unwrap_err();
            assert!(error.contains(expect), "{text}\n{error}");
        }
    }
}
