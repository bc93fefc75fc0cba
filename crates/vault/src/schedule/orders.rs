//! The command lines of a run: what an operator would type to do the same by hand.

use super::{CleanupSection, JobKey, KeySection, Kind, ProofSection, ScheduleFile, SourceSection};
use std::path::Path;

/// Into how many parts a verification is divided where nothing is said.
const PARTS: u32 = 30;

/// One command line, without the program and without how the repository is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The words.
    pub words: Vec<String>,
}

impl Order {
    fn new(words: &[&str]) -> Order {
        Order { words: words.iter().map(|word| (*word).to_owned()).collect() }
    }

    fn flag(&mut self, flag: &str, given: bool) {
        if given {
            self.words.push(flag.to_owned());
        }
    }

    /// The value goes with `=`, so that one that begins with a dash is none of ours.
    fn option(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.words.push(format!("{name}={value}"));
        }
    }

    fn path(&mut self, name: &str, value: Option<&Path>) {
        self.option(name, value.map(|path| path.to_string_lossy()).as_deref());
    }

    fn number<N: ToString>(&mut self, name: &str, value: Option<N>) {
        self.option(name, value.map(|number| number.to_string()).as_deref());
    }
}

/// What a run of this job does, one after the other; nothing where the file has no such job.
/// `runs` is how many of it ended well.
pub fn orders(file: &ScheduleFile, key: &JobKey, runs: u64) -> Vec<Order> {
    let source = || file.source.iter().find(|source| source.name() == key.source);
    let mut orders = match key.kind {
        Kind::Backup => source().map(backup).into_iter().collect(),
        Kind::Prove => source().map(prove).into_iter().collect(),
        Kind::KeyTest => file.key_test.as_ref().map(key_test).unwrap_or_default(),
        Kind::Verify => file.verify.as_ref().map(|v| verify(v.parts, runs)).into_iter().collect(),
        Kind::Cleanup => file.cleanup.as_ref().map(cleanup).unwrap_or_default(),
        Kind::Record => file.cluster.iter().map(|_| Order::new(&["vault", "record"])).collect(),
    };
    for order in &mut orders {
        order.number("--limit-read", file.limits.read_kib);
        order.number("--limit-repository", file.limits.repository_kib);
        order.number("--limit-processor", file.limits.processor_percent);
    }
    orders
}

fn backup(source: &SourceSection) -> Order {
    let mut order = Order::new(&["backup"]);
    order.option("--name", source.name.as_deref());
    order.path("--image", source.image.as_deref());
    order.option("--command", source.command.as_deref());
    order.option("--postgres", source.postgres.as_deref());
    order.flag("--over-replication", source.over_replication);
    for pattern in &source.exclude {
        order.option("--exclude", Some(pattern));
    }
    order.flag("--one-file-system", source.one_file_system);
    order.option("--before", source.before.as_deref());
    order.option("--after", source.after.as_deref());
    if let Some(path) = &source.path {
        order.words.push(path.display().to_string());
    }
    order
}

fn prove(source: &SourceSection) -> Order {
    let mut order = Order::new(&["vault", "prove-restore"]);
    order.option("--source", source.name().as_deref());
    let ProofSection { scratch, query, database, role, run_as, programs, patience } = &source.proof;
    order.path("--scratch", scratch.as_deref());
    for sql in query {
        order.option("--query", Some(sql));
    }
    order.option("--database", database.as_deref());
    order.option("--role", role.as_deref());
    order.option("--run-as", run_as.as_deref());
    order.path("--programs", programs.as_deref());
    order.number("--patience", *patience);
    order
}

fn key_test(section: &KeySection) -> Vec<Order> {
    let own = Order::new(&["vault", "key", "test"]);
    let mut orders = vec![own.clone()];
    if section.recovery_key.is_some() {
        let mut order = own.clone();
        order.path("--recovery-key", section.recovery_key.as_deref());
        orders.push(order);
    }
    if !section.share.is_empty() {
        let mut order = own;
        section.share.iter().for_each(|share| order.path("--share", Some(share)));
        orders.push(order);
    }
    orders
}

fn verify(parts: Option<u32>, runs: u64) -> Order {
    let parts = parts.unwrap_or(PARTS).max(1);
    let part = runs % u64::from(parts);
    let mut order = Order::new(&["vault", "verify"]);
    order.option("--part", Some(&format!("{part}/{parts}")));
    order
}

fn cleanup(section: &CleanupSection) -> Vec<Order> {
    let mut forget = Order::new(&["vault", "forget"]);
    let rules = [
        ("--keep-last", section.keep_last),
        ("--keep-hourly", section.keep_hourly),
        ("--keep-daily", section.keep_daily),
        ("--keep-weekly", section.keep_weekly),
        ("--keep-monthly", section.keep_monthly),
        ("--keep-yearly", section.keep_yearly),
        ("--keep-within-days", section.keep_within_days),
    ];
    for (name, count) in rules {
        forget.number(name, count.filter(|count| *count > 0));
    }
    let mut cleanup = Order::new(&["vault", "cleanup"]);
    let mut orders = Vec::new();
    if forget.words.len() > 2 {
        forget.path("--deletion-key", section.deletion_key.as_deref());
        orders.push(forget);
    }
    cleanup.path("--deletion-key", section.deletion_key.as_deref());
    orders.push(cleanup);
    orders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, kind: Kind, source: Option<&str>, expect: &[&str]) {
        let file = ScheduleFile::parse(file).unwrap();
        let key = JobKey { kind, source: source.map(str::to_owned) };
        let lines = orders(&file, &key, 31);
        let lines: Vec<String> = lines.iter().map(|order| order.words.join(" ")).collect();
        assert_eq!(lines, expect);
    }

    #[test]
    fn a_run_is_what_an_operator_would_type() {
        let base = "[limits]\nread_kib = 9\nprocessor_percent = 50\n\
                    [[source]]\nname = \"d\"\npath = \"/d\"\nexclude = [\"-x\"]\n\
                    backup = \"every 1h\"\nprove = \"every 1d\"\n";
        let limits = "--limit-read=9 --limit-processor=50";
        let line = format!("backup --name=d --exclude=-x /d {limits}");
        check(base, Kind::Backup, Some("d"), &[&line]);
        let line = format!("vault prove-restore --source=d {limits}");
        check(base, Kind::Prove, Some("d"), &[&line]);
        check(base, Kind::Backup, Some("e"), &[]);
        let image = "[[source]]\nimage = \"/i\"\nbackup = \"every 1d\"\nbefore = \"freeze\"\n";
        check(image, Kind::Backup, Some("/i"), &["backup --image=/i --before=freeze"]);
        check(base, Kind::Verify, None, &[]);
        let verify = "[verify]\nwhen = \"every 1d\"";
        check(verify, Kind::Verify, None, &["vault verify --part=1/30"]);
        let database = "[[source]]\nname = \"l\"\npostgres = \"host=/run\"\nprove = \"every 1d\"\n\
                        [source.proof]\nquery = [\"SELECT 1\"]\nrun_as = \"postgres\"\n";
        let line = "vault prove-restore --source=l --query=SELECT 1 --run-as=postgres";
        check(database, Kind::Prove, Some("l"), &[line]);
        let far = "[[source]]\nname = \"l\"\npostgres = \"host=/run\"\nbackup = \"every 1d\"\n\
                   over_replication = true\n";
        let line = "backup --name=l --postgres=host=/run --over-replication";
        check(far, Kind::Backup, Some("l"), &[line]);
        let key =
            "[key_test]\nwhen = \"every 1d\"\nrecovery_key = \"/k\"\nshare = [\"/a\", \"/b\"]";
        let lines = [
            "vault key test",
            "vault key test --recovery-key=/k",
            "vault key test --share=/a --share=/b",
        ];
        check(key, Kind::KeyTest, None, &lines);
    }

    #[test]
    fn nothing_is_forgotten_without_a_rule() {
        let cleanup = "[cleanup]\nwhen = \"every 1d\"\n";
        check(cleanup, Kind::Cleanup, None, &["vault cleanup"]);
        let none = format!("{cleanup}keep_daily = 0");
        check(&none, Kind::Cleanup, None, &["vault cleanup"]);
        let rules = format!("{cleanup}keep_daily = 7\nkeep_monthly = 12\ndeletion_key = \"/k\"");
        let lines = [
            "vault forget --keep-daily=7 --keep-monthly=12 --deletion-key=/k",
            "vault cleanup --deletion-key=/k",
        ];
        check(&rules, Kind::Cleanup, None, &lines);
    }
}
