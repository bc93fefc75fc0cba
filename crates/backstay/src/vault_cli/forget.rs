//! `vault forget`: decides which backups are no longer wanted. Their room comes back with
//! `vault cleanup`, after the waiting time.

use super::CliResult;
use super::opening::{DeletionArgs, RepositoryArgs};
use super::output::{Output, moment};
use clap::Args;
use serde::Serialize;
use std::process::ExitCode;
use vault::VaultError;
use vault::chain::{Body, State};
use vault::repository::Repository;
use vault::retention::{Decision, Policy, decide};

/// How often it is decided anew where others forget at the same time.
const TRIES_MAX: u32 = 10;

/// Decide which backups are no longer wanted.
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    #[command(flatten)]
    pub(crate) opening: RepositoryArgs,
    #[command(flatten)]
    pub(crate) deletion: DeletionArgs,
    /// Forget this backup, whatever the rules say; may be given more than once.
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["keep_last", "keep_hourly",
        "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly", "keep_within_days"])]
    pub(crate) backup: Vec<u64>,
    /// Keep the newest so many of each source.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) keep_last: u32,
    /// Keep the newest of each of so many hours.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) keep_hourly: u32,
    /// Of so many days.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) keep_daily: u32,
    /// Of so many weeks.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) keep_weekly: u32,
    /// Of so many months.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) keep_monthly: u32,
    /// Of so many years.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) keep_yearly: u32,
    /// Keep everything of the last so many days.
    #[arg(long, default_value_t = 0, value_name = "DAYS")]
    pub(crate) keep_within_days: u32,
    /// Only say what would be forgotten.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Serialize)]
struct Shown {
    dry_run: bool,
    forgotten: Vec<u64>,
    kept: Vec<(u64, Vec<String>)>,
    record: Option<u64>,
    times: Vec<(u64, String)>,
}

/// Runs the command.
///
/// # Errors
/// Where no rule is given, or the deletion key is needed.
pub(crate) fn run(args: &ForgetArgs, output: Output) -> CliResult {
    let deletion = args.deletion.read()?;
    let mut repository = args.opening.open()?;
    let mut tries = 0;
    loop {
        tries += 1;
        let mut shown = decide_all(args, &repository)?;
        if args.dry_run || shown.forgotten.is_empty() {
            output.show(&shown, text);
            return Ok(ExitCode::SUCCESS);
        }
        let body = Body::Forget { backups: shown.forgotten.clone(), why: rule(args) };
        let all_there = |state: &State| {
            let is_there = |seq: &u64| state.backups.contains_key(seq);
            match shown.forgotten.iter().all(is_there) {
                true => Ok(()),
                false => Err(VaultError::Refused("someone else forgot some of them".to_owned())),
            }
        };
        match repository.append(body, deletion.as_ref(), all_there) {
            Ok(record) => {
                shown.record = Some(record);
                output.show(&shown, text);
                return super::cluster::end(&mut repository);
            }
            // By rules it is decided anew, with what the other one left; what an operator named
            // is not.
            Err(VaultError::Refused(_)) if args.backup.is_empty() && tries < TRIES_MAX => {}
            Err(error) => return Err(error),
        }
    }
}

fn decide_all(args: &ForgetArgs, repository: &Repository) -> Result<Shown, VaultError> {
    let decisions = decisions(args, repository)?;
    let (gone, kept): (Vec<Decision>, Vec<Decision>) =
        decisions.into_iter().partition(|d| d.reasons.is_empty());
    let backups = &repository.state().backups;
    let time = |seq: &u64| backups.get(seq).map_or(0, |b| b.subject.begun_ms);
    Ok(Shown {
        dry_run: args.dry_run,
        times: backups.keys().map(|seq| (*seq, moment(time(seq)))).collect(),
        kept: kept.into_iter().map(|d| (d.seq, d.reasons)).collect(),
        forgotten: gone.iter().map(|d| d.seq).collect(),
        record: None,
    })
}

fn decisions(args: &ForgetArgs, repository: &Repository) -> Result<Vec<Decision>, VaultError> {
    let state = repository.state();
    if !args.backup.is_empty() {
        for seq in &args.backup {
            if !state.backups.contains_key(seq) {
                return Err(VaultError::NotFound(format!("there is no backup {seq}")));
            }
        }
        let reasons = |seq: &u64| match args.backup.contains(seq) {
            true => Vec::new(),
            false => vec!["not named".to_owned()],
        };
        let all = state.backups.keys().map(|seq| Decision { seq: *seq, reasons: reasons(seq) });
        return Ok(all.collect());
    }
    let policy = Policy {
        last: args.keep_last,
        hourly: args.keep_hourly,
        daily: args.keep_daily,
        weekly: args.keep_weekly,
        monthly: args.keep_monthly,
        yearly: args.keep_yearly,
        within_ms: i64::from(args.keep_within_days) * 86_400_000,
    };
    if policy.is_empty() {
        let what = "give a rule, such as --keep-daily 7 --keep-monthly 12, or --backup NUMBER";
        return Err(VaultError::Refused(what.to_owned()));
    }
    let proven = state.proven.keys().copied().collect();
    let zone = jiff::tz::TimeZone::system();
    Ok(decide(&state.backups, &proven, &policy, repository.now_ms(), &zone))
}

fn rule(args: &ForgetArgs) -> String {
    if !args.backup.is_empty() {
        return "named by the operator".to_owned();
    }
    format!(
        "last {}, hourly {}, daily {}, weekly {}, monthly {}, yearly {}, within {} days",
        args.keep_last,
        args.keep_hourly,
        args.keep_daily,
        args.keep_weekly,
        args.keep_monthly,
        args.keep_yearly,
        args.keep_within_days
    )
}

fn text(shown: &Shown) -> String {
    let time = |seq: &u64| {
        let found = shown.times.iter().find(|(s, _)| s == seq);
        found.map_or(String::new(), |(_, t)| t.clone())
    };
    let mut lines = Vec::new();
    for (seq, reasons) in &shown.kept {
        lines.push(format!("keep   {seq:>6}  {}  {}", time(seq), reasons.join(", ")));
    }
    let verb = if shown.dry_run { "would forget" } else { "forget" };
    for seq in &shown.forgotten {
        lines.push(format!("{verb} {seq:>6}  {}", time(seq)));
    }
    if shown.forgotten.is_empty() {
        lines.push("nothing to forget".to_owned());
    }
    lines.join("\n")
}
