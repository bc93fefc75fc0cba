//! The figures of all runs of a fault together, as `--json` prints them and the table shows them.

use model::{Profile, Span};
use serde::Serialize;

use super::judge::Figures;
use super::options::Fault;
use super::phases::{Phases, median, tenths};

/// The object that `--json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    /// The cluster's profile.
    pub profile: Profile,
    /// How often each fault was made.
    pub runs: u32,
    /// The faults.
    pub faults: Vec<FaultSummary>,
}

/// One fault over all runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct FaultSummary {
    /// Its name.
    pub fault: &'static str,
    /// Gap between successful completions around the fault.
    pub outage_ms: Spread,
    /// Orders acknowledged, over all runs.
    pub acknowledged: u64,
    /// Acknowledged but not stored, over all runs.
    pub lost: u64,
    /// Stored twice, over all runs.
    pub duplicated: u64,
    /// Outcome never learnt, over all runs.
    pub unknown: u64,
    /// Refused for an old epoch, over all runs.
    pub refused_stale: u64,
    /// Time with two active instances, over all runs, in milliseconds.
    pub two_active_ms: Number,
    /// What happened, of the last run or of the first that was not clean.
    pub evidence: String,
    /// Median of the cluster's own figures; nulls where the service did not move.
    #[serde(serialize_with = "phases_or_nulls")]
    pub phases_ms: Option<Phases>,
    /// Whether every run was clean.
    #[serde(skip)]
    pub clean: bool,
}

/// Smallest, middle, largest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    /// The smallest.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

/// A number of milliseconds, printed without a point where it is whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0 == 0.0 { to.serialize_u64(0) } else { to.serialize_f64(self.0) }
    }
}

/// The same keys, whether the service moved or not.
#[expect(clippy::ref_option, reason = "serde hands over the field")]
fn phases_or_nulls<S: serde::Serializer>(
    phases: &Option<Phases>,
    to: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Default, Serialize)]
    struct Nulls {
        detect: (),
        decide: (),
        commit: (),
        fence: (),
        promote: (),
    }
    match phases {
        Some(phases) => phases.serialize(to),
        None => Nulls::default().serialize(to),
    }
}

/// One run of a fault, judged.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    /// Which.
    pub fault: Fault,
    /// What it did.
    pub figures: Figures,
    /// What happened.
    pub evidence: String,
    /// Where the time went.
    pub phases: Option<Phases>,
}

impl Judged {
    /// Whether nothing was lost, doubled or active twice, and whether a frozen node was refused.
    #[must_use]
    pub(super) fn is_clean(&self) -> bool {
        let refused = self.fault != Fault::NodeFrozen || self.figures.refused_stale >= 1;
        self.figures.is_clean() && refused
    }
}

impl FaultSummary {
    /// Puts the runs of one fault together; `None` where there is none.
    #[must_use]
    pub(super) fn of(runs: &[Judged]) -> Option<FaultSummary> {
        let told = runs.iter().find(|run| !run.is_clean()).or(runs.last())?;
        let outages: Vec<f64> =
            runs.iter().map(|run| tenths(run.figures.outage.as_ms_f64())).collect();
        let sum = |pick: fn(&Figures) -> u64| runs.iter().map(|run| pick(&run.figures)).sum();
        let two_active = runs.iter().fold(Span::ZERO, |sum, run| sum + run.figures.two_active);
        let phases: Vec<Phases> = runs.iter().filter_map(|run| run.phases).collect();
        Some(FaultSummary {
            fault: told.fault.as_str(),
            outage_ms: Spread {
                min: outages.iter().copied().fold(f64::INFINITY, f64::min),
                median: tenths(median(outages.clone())?),
                max: outages.iter().copied().fold(0.0, f64::max),
            },
            acknowledged: sum(|f| f.acknowledged),
            lost: sum(|f| f.lost),
            duplicated: sum(|f| f.duplicated),
            unknown: sum(|f| f.unknown),
            refused_stale: sum(|f| f.refused_stale),
            two_active_ms: Number(two_active.as_ms_f64()),
            evidence: evidence(told, runs),
            phases_ms: Phases::median(&phases),
            clean: runs.iter().all(Judged::is_clean),
        })
    }
}

impl Summary {
    /// Whether every fault was clean in every run.
    #[must_use]
    pub(super) fn is_clean(&self) -> bool {
        self.faults.iter().all(|fault| fault.clean)
    }
}

fn evidence(told: &Judged, runs: &[Judged]) -> String {
    let mut parts = vec![told.evidence.clone()];
    let settled: u64 = runs.iter().map(|run| run.figures.settled).sum();
    if settled > 0 {
        parts.push(format!("{settled} unanswered orders were settled with the store"));
    }
    let overlap = runs.iter().map(|run| run.figures.freeze_overlap).max().unwrap_or_default();
    if told.fault == Fault::NodeFrozen {
        parts.push(format!("overlap of the deliberate freeze: {} ms", overlap.as_ms_f64()));
    }
    let broken: u64 = runs.iter().map(|run| run.figures.epochs_broken).sum();
    if broken > 0 {
        parts.push(format!("{broken} orders accepted under an epoch that went back"));
    }
    parts.join("; ")
}

/// Milliseconds with one digit after the point: finer is noise.
#[cfg(test)]
mod tests {
    use super::*;

    fn judged(fault: Fault, outage_ms: u64, refused_stale: u64) -> Judged {
        let outage = Span::from_ms(outage_ms);
        let figures = Figures { outage, refused_stale, acknowledged: 100, ..Figures::default() };
        Judged { fault, figures, evidence: format!("run of {outage_ms}"), phases: None }
    }

    #[test]
    fn runs_are_put_together_and_the_worst_is_told() {
        let mut runs = [30, 10, 20].map(|ms| judged(Fault::NodeCut, ms, 1)).to_vec();
        let all = FaultSummary::of(&runs).unwrap();
        assert_eq!(all.outage_ms, Spread { min: 10.0, median: 20.0, max: 30.0 });
        assert_eq!((all.acknowledged, all.refused_stale, all.clean), (300, 3, true));
        assert_eq!(all.evidence, "run of 20");
        runs[1].figures.two_active = Span::from_us(300);
        let all = FaultSummary::of(&runs).unwrap();
        assert!(!all.clean && all.two_active_ms.0 > 0.0);
        assert_eq!(all.evidence, "run of 10");
        assert!(FaultSummary::of(&[]).is_none());
    }

    #[test]
    fn a_frozen_node_that_was_not_refused_is_not_clean() {
        assert!(!judged(Fault::NodeFrozen, 1, 0).is_clean());
        assert!(judged(Fault::NodeFrozen, 1, 1).is_clean());
        assert!(judged(Fault::NodeKilled, 1, 0).is_clean());
    }

    #[test]
    fn the_json_object_has_the_promised_shape() {
        let mut run = judged(Fault::ProcessKilled, 12, 0);
        run.phases = Some(Phases { detect: 1.5, ..Phases::default() });
        let faults = vec![FaultSummary::of(&[run]).unwrap()];
        let json = serde_json::to_string(&Summary { profile: Profile::Lan, runs: 1, faults });
        assert_eq!(
            json.unwrap(),
            "{\"profile\":\"lan\",\"runs\":1,\"faults\":[{\"fault\":\"process-killed\",\
             \"outage_ms\":{\"min\":12.0,\"median\":12.0,\"max\":12.0},\"acknowledged\":100,\
             \"lost\":0,\"duplicated\":0,\"unknown\":0,\"refused_stale\":0,\"two_active_ms\":0,\
             \"evidence\":\"run of 12\",\"phases_ms\":{\"detect\":1.5,\"decide\":0.0,\
             \"commit\":0.0,\"fence\":0.0,\"promote\":0.0}}]}"
        );
    }
}
