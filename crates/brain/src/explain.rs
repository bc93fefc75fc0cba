//! Why a resource is where it is, why it last moved, and why not elsewhere.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use model::state::{ClusterState, EventKind, Timing};
use model::{Reason, ResourceName};
use serde::{Deserialize, Serialize};

use crate::placement::{self, View};

/// An explanation: sentences in order, with times where they have one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The resource.
    pub resource: ResourceName,
    /// Where it is and since when.
    pub now: Vec<Sentence>,
    /// Its last moves, newest first.
    pub moves: Vec<Sentence>,
    /// Why not each other node.
    pub elsewhere: Vec<Sentence>,
    /// What failed lately, newest first.
    pub failures: Vec<Sentence>,
}

/// One sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentence {
    /// When, Unix milliseconds; none for what holds now.
    pub wall_ms: Option<u64>,
    /// What.
    pub text: String,
    /// Why, one by one.
    pub because: Vec<String>,
}

impl Sentence {
    fn now(text: String) -> Sentence {
        Sentence { wall_ms: None, text, because: Vec::new() }
    }
}

/// Explains a resource; `None` where there is no such.
#[must_use]
pub fn explain(
    state: &ClusterState,
    view: Option<&View>,
    resource: &ResourceName,
) -> Option<Explanation> {
    let held = state.resources.get(resource)?;
    let moves = held.moves.iter().rev().map(|m| {
        let from = m.from.as_ref().filter(|from| **from != m.to);
        let how = if m.planned { "planned" } else { "unplanned" };
        let text = match from {
            Some(from) => format!("{how} move from {from} to {}, epoch {}", m.to, m.epoch),
            None => format!("placed on {}, epoch {}", m.to, m.epoch),
        };
        let text = match &m.timing {
            Some(timing) => format!("{text}; {}", phases(timing)),
            None => text,
        };
        Sentence { wall_ms: Some(m.wall_ms), text, because: sentences(&m.reasons) }
    });
    let failures = held.failures.iter().rev().map(|f| Sentence {
        wall_ms: Some(f.wall_ms),
        text: format!("on {} {}", f.node, f.failure),
        because: Vec::new(),
    });
    Some(Explanation {
        resource: resource.clone(),
        now: now(state, resource),
        moves: moves.collect(),
        elsewhere: elsewhere(state, view, resource),
        failures: failures.collect(),
    })
}

fn now(state: &ClusterState, resource: &ResourceName) -> Vec<Sentence> {
    let Some(held) = state.resources.get(resource) else { return Vec::new() };
    let mut out = Vec::new();
    match &held.holder {
        Some(h) => {
            let doing = match (h.releasing, h.active) {
                (true, _) => "is giving up",
                (false, true) => "is active",
                (false, false) => "was told to be active",
            };
            out.push(Sentence {
                wall_ms: Some(h.wall_ms),
                text: format!("{} {doing} under epoch {}", h.node, h.epoch),
                because: held.moves.back().map(|m| sentences(&m.reasons)).unwrap_or_default(),
            });
        }
        None => out.push(Sentence::now(String::from("it runs nowhere"))),
    }
    if let Some(quarantine) = &held.quarantine {
        out.push(Sentence {
            wall_ms: Some(quarantine.wall_ms),
            text: String::from("it is quarantined until `backstay clear`"),
            because: sentences(&quarantine.reasons),
        });
    }
    if let Some(wanted) = &held.switchover {
        out.push(Sentence::now(format!("a switchover to {} is under way", wanted.to)));
    }
    if state.in_maintenance(resource) {
        out.push(Sentence::now(String::from("it is in maintenance and left alone")));
    }
    if held.hold_until > state.now {
        let ms = held.hold_until.since(state.now);
        out.push(Sentence::now(format!("it is held back for {ms} ms after its last failure")));
    }
    let vacated = state.history.iter().rev().find(
        |event| matches!(&event.what, EventKind::Vacated { resource: r, .. } if r == resource),
    );
    if let (None, Some(event)) = (&held.holder, vacated) {
        out.push(Sentence {
            wall_ms: Some(event.wall_ms),
            text: String::from("its last holder was out, and no one could take it"),
            because: sentences(&event.reasons),
        });
    }
    out
}

fn elsewhere(state: &ClusterState, view: Option<&View>, resource: &ResourceName) -> Vec<Sentence> {
    let here = state.resources.get(resource).and_then(|held| held.node());
    let others = state.spec.nodes.keys().filter(|node| Some(*node) != here);
    others
        .map(|node| {
            let verdict = match view {
                Some(view) => placement::may_take(state, view, resource, node),
                None => placement::may_run(state, resource, node),
            };
            Sentence::now(match verdict {
                Ok(()) => format!("{node} could take it"),
                Err(why) => format!("{node} could not take it: {why}"),
            })
        })
        .collect()
}

/// The phases of a move in words.
#[must_use]
pub fn phases(timing: &Timing) -> String {
    let ms = |us: u64| us as f64 / 1e3;
    format!(
        "{:.1} ms (detect {:.1}, fence {:.1}, decide {:.1}, commit {:.1}, promote {:.1})",
        ms(timing.total_us()),
        ms(timing.detect_us),
        ms(timing.fence_us),
        ms(timing.decide_us),
        ms(timing.commit_us),
        ms(timing.promote_us)
    )
}

fn sentences(reasons: &[Reason]) -> Vec<String> {
    reasons.iter().map(ToString::to_string).collect()
}
