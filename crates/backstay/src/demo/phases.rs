//! Where the time of a move went, as the cluster recorded it.

use model::Epoch;
use model::state::Timing;
use serde::Serialize;
use serde_json::Value;

/// The phases of one move, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Default)]
pub(super) struct Phases {
    /// From the fault until it was known.
    pub detect: f64,
    /// Until the decision was given to the log.
    pub decide: f64,
    /// Until it was committed.
    pub commit: f64,
    /// Until the old holder was proven unable to act.
    pub fence: f64,
    /// Until the new holder was active.
    pub promote: f64,
}

impl From<Timing> for Phases {
    fn from(timing: Timing) -> Phases {
        // Tenths of a millisecond: finer is noise.
        let ms = |us: u64| tenths(us as f64 / 1_000.0);
        Phases {
            detect: ms(timing.detect_us),
            decide: ms(timing.decide_us),
            commit: ms(timing.commit_us),
            fence: ms(timing.fence_us),
            promote: ms(timing.promote_us),
        }
    }
}

impl Phases {
    /// The phases of the move to this epoch, from the events that the API tells; `None` where
    /// they hold no such move.
    #[must_use]
    pub(super) fn from_events(events: &Value, resource: &str, epoch: Epoch) -> Option<Phases> {
        let active = events_of(events, "active", resource, epoch).last()?;
        let timing = active.pointer("/what/active/timing")?;
        serde_json::from_value::<Timing>(timing.clone()).ok().map(Phases::from)
    }

    /// The middle of each phase over several moves; nothing where there was none.
    #[must_use]
    pub(super) fn median(all: &[Phases]) -> Option<Phases> {
        let of = |pick: fn(&Phases) -> f64| median(all.iter().map(pick).collect()).map(tenths);
        Some(Phases {
            detect: of(|p| p.detect)?,
            decide: of(|p| p.decide)?,
            commit: of(|p| p.commit)?,
            fence: of(|p| p.fence)?,
            promote: of(|p| p.promote)?,
        })
    }
}

/// Milliseconds to the tenth.
#[must_use]
pub(super) fn tenths(ms: f64) -> f64 {
    (ms * 10.0).round() / 10.0
}

/// The middle value; of an even number, the mean of the middle two.
#[must_use]
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Why a resource was given its epoch: the reasons of the assignment, as sentences.
#[must_use]
pub(super) fn reasons_of(events: &Value, resource: &str, epoch: Epoch) -> Option<String> {
    let assigned = events_of(events, "assigned", resource, epoch).last()?;
    let reasons = assigned.get("reasons")?.as_array()?;
    // A reason is data, or the sentence that somebody made of it already.
    let sentence = |reason: &Value| match serde_json::from_value::<model::Reason>(reason.clone()) {
        Ok(reason) => Some(reason.to_string()),
        Err(_) => reason.as_str().map(str::to_owned),
    };
    let sentences: Vec<String> = reasons.iter().filter_map(sentence).collect();
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

/// Events of one kind about one resource under one epoch, in order.
fn events_of<'e>(
    events: &'e Value,
    kind: &'e str,
    resource: &'e str,
    epoch: Epoch,
) -> impl Iterator<Item = &'e Value> {
    let list = events.as_array().or_else(|| events.get("events").and_then(Value::as_array));
    list.into_iter().flatten().filter(move |event| {
        let Some(what) = event.get("what").and_then(|what| what.get(kind)) else { return false };
        let same = what.get("resource").and_then(Value::as_str) == Some(resource);
        same && what.get("epoch").and_then(epoch_of) == Some(epoch)
    })
}

/// An epoch as data or as text.
fn epoch_of(value: &Value) -> Option<Epoch> {
    match value {
        Value::String(text) => text.parse().ok(),
        data => serde_json::from_value(data.clone()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use model::state::{Event, EventKind};
    use model::{ClusterMs, ReplicaId};

    use super::*;

    fn events() -> Value {
        let active = |counter, promote_us| Event {
            index: counter,
            at: ClusterMs(0),
            wall_ms: 0,
            by: ReplicaId(1),
            what: EventKind::Active {
                resource: "orders".parse().unwrap(),
                node: "b".parse().unwrap(),
                epoch: Epoch { generation: 1, counter },
                timing: Timing { detect_us: 310_040, promote_us, ..Timing::default() },
            },
            reasons: Vec::new(),
        };
        let assigned = Event {
            what: EventKind::Assigned {
                resource: "orders".parse().unwrap(),
                from: None,
                to: "b".parse().unwrap(),
                epoch: Epoch { generation: 1, counter: 8 },
                planned: false,
            },
            reasons: vec![model::Reason::FirstPlacement],
            ..active(8, 0)
        };
        serde_json::to_value([active(7, 1_000), assigned, active(8, 4_210)]).unwrap()
    }

    #[test]
    fn the_phases_of_a_move_are_found_by_its_epoch() {
        let eight = Epoch { generation: 1, counter: 8 };
        let phases = Phases::from_events(&events(), "orders", eight).unwrap();
        assert_eq!((phases.detect, phases.promote, phases.commit), (310.0, 4.2, 0.0));
        assert!(Phases::from_events(&events(), "other", eight).is_none());
        assert!(Phases::from_events(&events(), "orders", eight.next()).is_none());
        let wrapped = serde_json::json!({ "events": events() });
        assert!(Phases::from_events(&wrapped, "orders", eight).is_some());
    }

    #[test]
    fn reasons_become_sentences() {
        let eight = Epoch { generation: 1, counter: 8 };
        let reasons = reasons_of(&events(), "orders", eight).unwrap();
        assert_eq!(reasons, model::Reason::FirstPlacement.to_string());
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        let phases = [1.0, 5.0, 3.0].map(|detect| Phases { detect, ..Phases::default() });
        assert_eq!(Phases::median(&phases).unwrap().detect, 3.0);
    }
}
