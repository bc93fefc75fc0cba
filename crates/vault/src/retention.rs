//! Which backups are kept. Pure: backups and rules in, decisions with their reasons out.

use crate::chain::Backup;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};

/// The rules. A backup that any of them keeps is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many.
    pub last: u32,
    /// The newest of each of so many hours that have one.
    pub hourly: u32,
    /// Of days.
    pub daily: u32,
    /// Of weeks.
    pub weekly: u32,
    /// Of months.
    pub monthly: u32,
    /// Of years.
    pub yearly: u32,
    /// Everything younger than this.
    pub within_ms: i64,
}

impl Policy {
    /// Whether it keeps nothing, as no operator means it.
    pub fn is_empty(&self) -> bool {
        *self == Policy::default()
    }
}

/// A decision about one backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its record.
    pub seq: u64,
    /// Why it is kept; where there is no reason, it is forgotten.
    pub reasons: Vec<String>,
}

/// A backup that began later than now by this was made by a clock that was wrong, or now is.
const AHEAD_MS: i64 = 3_600_000;

/// Decides, source by source, newest first. The newest backup of a source, by time and by the
/// chain, and its newest proven one are always kept. One of a clock that was ahead is kept until
/// its time has come, and takes no other's place: it would pass for the newest until then.
pub fn decide(
    backups: &BTreeMap<u64, Backup>,
    proven: &BTreeSet<u64>,
    policy: &Policy,
    now_ms: i64,
    zone: &TimeZone,
) -> Vec<Decision> {
    let mut by_source: BTreeMap<&str, Vec<(u64, &Backup)>> = BTreeMap::new();
    for (seq, backup) in backups {
        by_source.entry(&backup.source).or_default().push((*seq, backup));
    }
    let mut decisions = Vec::new();
    for group in by_source.values_mut() {
        group.sort_by_key(|(seq, b)| std::cmp::Reverse((b.subject.begun_ms, *seq)));
        decisions.extend(decide_source(group, proven, policy, now_ms, zone));
    }
    decisions.sort_by_key(|d| d.seq);
    decisions
}

fn decide_source(
    group: &[(u64, &Backup)],
    proven: &BTreeSet<u64>,
    policy: &Policy,
    now_ms: i64,
    zone: &TimeZone,
) -> Vec<Decision> {
    let periods: [(&str, u32, &str); 5] = [
        ("hourly", policy.hourly, "%Y-%m-%d %H"),
        ("daily", policy.daily, "%Y-%m-%d"),
        ("weekly", policy.weekly, "%G-W%V"),
        ("monthly", policy.monthly, "%Y-%m"),
        ("yearly", policy.yearly, "%Y"),
    ];
    let mut seen: [BTreeSet<String>; 5] = Default::default();
    let mut has_proven = false;
    let mut decisions = Vec::new();
    let is_ahead = |backup: &Backup| backup.subject.begun_ms.saturating_sub(now_ms) > AHEAD_MS;
    let newest_record = group.iter().map(|(seq, _)| *seq).max();
    let mut rank = 0;
    for (seq, backup) in group {
        let mut reasons = Vec::new();
        if is_ahead(backup) {
            let reasons = vec!["the clock that made it was ahead".to_owned()];
            decisions.push(Decision { seq: *seq, reasons });
            continue;
        }
        if rank == 0 {
            reasons.push("the newest".to_owned());
        } else if newest_record == Some(*seq) {
            reasons.push("the newest recorded".to_owned());
        }
        if proven.contains(seq) && !std::mem::replace(&mut has_proven, true) {
            reasons.push("the newest proven".to_owned());
        }
        if rank < policy.last {
            reasons.push("last".to_owned());
        }
        rank = rank.saturating_add(1);
        let begun_ms = backup.subject.begun_ms;
        if policy.within_ms > 0 && now_ms.saturating_sub(begun_ms) <= policy.within_ms {
            reasons.push("within".to_owned());
        }
        // A time outside the calendar fits no period; the other rules still apply.
        if let Ok(time) = Timestamp::from_millisecond(begun_ms) {
            let time = time.to_zoned(zone.clone());
            for ((word, count, format), seen) in periods.iter().zip(&mut seen) {
                let period = time.strftime(format).to_string();
                if seen.len() < *count as usize && seen.insert(period) {
                    reasons.push((*word).to_owned());
                }
            }
        }
        decisions.push(Decision { seq: *seq, reasons });
    }
    decisions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{RunId, SourceKind, Statistics, Subject};
    use crate::tree::{Entry, EntryKind, Metadata, Stamp, Totals};

    fn backup(source: &str, begun: &str) -> Backup {
        let begun_ms = begun.parse::<Timestamp>().unwrap().as_millisecond();
        Backup {
            run: RunId([0; 16]),
            source: source.to_owned(),
            host: String::new(),
            origin: String::new(),
            kind: SourceKind::Directory,
            subject: Subject {
                root: [0; 32],
                position: String::new(),
                begun_ms,
                ended_ms: begun_ms,
                parent: None,
                copied: None,
            },
            top: Entry {
                name: Vec::new(),
                meta: Metadata::default(),
                kind: EntryKind::Fifo,
                stamp: Stamp::default(),
            },
            totals: Totals::default(),
            statistics: Statistics::default(),
            skipped: Vec::new(),
            skipped_more: 0,
        }
    }

    fn check(begun: &[&str], proven: &[u64], policy: &Policy, expect: &[(u64, &str)]) {
        let backups =
            (1..).zip(begun).map(|(seq, b)| (seq, backup("data", b))).collect::<BTreeMap<_, _>>();
        let proven = proven.iter().copied().collect();
        let now_ms = "2026-11-22T12:00:00Z".parse::<Timestamp>().unwrap().as_millisecond();
        let decisions = decide(&backups, &proven, policy, now_ms, &TimeZone::UTC);
        let found: Vec<(u64, String)> = decisions
            .into_iter()
            .filter(|d| !d.reasons.is_empty())
            .map(|d| (d.seq, d.reasons.join(", ")))
            .collect();
        let expect: Vec<(u64, String)> =
            expect.iter().map(|(seq, why)| (*seq, (*why).to_owned())).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn each_period_keeps_its_newest() {
        let begun = [
            "2026-10-31T01:00:00Z",
            "2026-11-20T01:00:00Z",
            "2026-11-20T23:00:00Z",
            "2026-11-21T23:00:00Z",
            "2026-11-22T01:00:00Z",
        ];
        let policy = Policy { daily: 2, monthly: 2, ..Policy::default() };
        let expect = [(1, "monthly"), (4, "daily"), (5, "the newest, daily, monthly")];
        check(&begun, &[], &policy, &expect);
    }

    #[test]
    fn the_newest_and_the_newest_proven_are_never_forgotten() {
        let begun = ["2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z", "2022-01-01T00:00:00Z"];
        let expect = [(2, "the newest proven"), (3, "the newest")];
        check(&begun, &[1, 2], &Policy::default(), &expect);
    }

    #[test]
    fn what_is_young_and_the_last_few_stay() {
        let begun = ["2026-11-01T00:00:00Z", "2026-11-22T10:00:00Z", "2026-11-22T11:00:00Z"];
        let day = Policy { within_ms: 86_400_000, ..Policy::default() };
        check(&begun, &[], &day, &[(2, "within"), (3, "the newest, within")]);
        let last = Policy { last: 2, ..Policy::default() };
        check(&begun, &[], &last, &[(2, "last"), (3, "the newest, last")]);
    }

    #[test]
    fn a_wrong_clock_costs_no_newest_backup_its_place() {
        let last = Policy { last: 2, daily: 2, ..Policy::default() };
        // Two were made by a clock that was years ahead; the right ones after them count as if
        // those were not there.
        let begun = [
            "2026-11-19T01:00:00Z",
            "2031-01-01T00:00:00Z",
            "2031-01-02T00:00:00Z",
            "2026-11-20T01:00:00Z",
            "2026-11-21T01:00:00Z",
            "2026-11-22T01:00:00Z",
        ];
        let ahead = "the clock that made it was ahead";
        let expect = [(2, ahead), (3, ahead), (5, "last, daily"), (6, "the newest, last, daily")];
        check(&begun, &[], &last, &expect);
        // One was made by a clock that was years behind: it is the newest there is.
        let begun = ["2026-11-21T01:00:00Z", "2026-11-22T01:00:00Z", "1990-01-01T00:00:00Z"];
        let newest = Policy { last: 1, ..Policy::default() };
        check(&begun, &[], &newest, &[(2, "the newest, last"), (3, "the newest recorded")]);
        // A clock that is behind forgets nothing: everything lies ahead of it.
        let backups = (1..).zip(begun).map(|(seq, b)| (seq, backup("data", b))).collect();
        let now_ms = "1980-01-01T00:00:00Z".parse::<Timestamp>().unwrap().as_millisecond();
        let kept = decide(&backups, &BTreeSet::new(), &newest, now_ms, &TimeZone::UTC);
        assert!(kept.iter().all(|d| d.reasons == [ahead]), "{kept:?}");
    }

    #[test]
    fn sources_are_judged_apart() {
        let backups = BTreeMap::from([
            (1, backup("a", "2026-01-01T00:00:00Z")),
            (2, backup("b", "2026-01-02T00:00:00Z")),
        ]);
        let policy = Policy { last: 1, ..Policy::default() };
        let decisions = decide(&backups, &BTreeSet::new(), &policy, 0, &TimeZone::UTC);
        assert!(decisions.iter().all(|d| !d.reasons.is_empty()));
    }
}
