//! Where the time of a move goes, measured on the coordinator's own clock.

use model::command::Command;
use model::report::{Evidence, EvidenceGround};
use model::state::Timing;
use model::{Moment, ResourceName, Span};

use super::Coordinator;

/// The moments of one move, as far as they have come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trace {
    /// The last moment at which all was well.
    pub fault: Option<Moment>,
    /// When the coordinator knew that it wasn't.
    pub known: Option<Moment>,
    /// When the old holder was proven unable to act.
    pub fenced: Option<Moment>,
    /// When the assignment was given to the log.
    pub proposed: Option<Moment>,
    /// When it was applied.
    pub applied: Option<Moment>,
}

impl Coordinator {
    /// The old holder is out: notes since when the fault lasts and when it was known.
    pub(super) fn trace_fenced(&mut self, now: Moment, evidence: &Evidence) {
        let suspect = self.suspect_since.get(&evidence.replica).copied();
        let trace = self.traces.entry(evidence.resource.clone()).or_default();
        if trace.fenced.is_some() {
            return;
        }
        trace.fenced = Some(now);
        let began = now.before(Span::from_us(evidence.age_us));
        match (evidence.ground, trace.fault) {
            // A planned move: the order to release was the beginning.
            (EvidenceGround::Demoted | EvidenceGround::NeverStarted, Some(_)) => {}
            (EvidenceGround::Lapsed, _) => {
                trace.fault = Some(began);
                trace.known = Some(suspect.unwrap_or(now).max(began));
            }
            _ => {
                trace.fault = Some(trace.fault.map_or(began, |fault| fault.min(began)));
                trace.known = trace.known.or(Some(now));
            }
        }
    }

    pub(super) fn trace_proposed(&mut self, now: Moment, command: &Command) {
        if let Command::Assign { resource, .. } = command {
            self.traces.entry(resource.clone()).or_default().proposed = Some(now);
        }
    }

    pub(super) fn trace_applied(&mut self, now: Moment, command: &Command) {
        match command {
            Command::Release { resource, .. } => {
                let trace = Trace { fault: Some(now), known: Some(now), ..Trace::default() };
                self.traces.insert(resource.clone(), trace);
            }
            Command::Assign { resource, .. } => {
                self.traces.entry(resource.clone()).or_default().applied = Some(now);
            }
            Command::Active { resource, .. } => {
                self.traces.remove(resource);
            }
            _ => {}
        }
    }

    /// The phases of a move whose new holder is active as of now.
    pub(super) fn timing(&self, now: Moment, resource: &ResourceName) -> Timing {
        let Some(trace) = self.traces.get(resource) else { return Timing::default() };
        let mut last = trace.fault.or(trace.known).or(trace.proposed).unwrap_or(now);
        let mut lap = |moment: Option<Moment>| {
            let moment = moment.unwrap_or(last).max(last);
            let span = moment.since(last);
            last = moment;
            span.as_us()
        };
        Timing {
            detect_us: lap(trace.known),
            fence_us: lap(trace.fenced),
            decide_us: lap(trace.proposed),
            commit_us: lap(trace.applied),
            promote_us: lap(Some(now)),
        }
    }
}
