//! How many voters there are, and what that survives.

use model::NodeName;

use super::{Case, list};
use crate::code::Code;
use crate::diagnostic::Diagnostic;

/// From so many implicit voters on, a note says who votes.
const IMPLICIT_VOTERS_NOTED: usize = 4;

/// Warns of one, two, and other even numbers of voters.
pub(super) fn check(case: &Case<'_>, found: &mut Vec<Diagnostic>) {
    let voters: Vec<_> = case.spec.voters().collect();
    let machines = case.spec.nodes.values().filter(|node| !node.witness).count();
    let place = case.places.first(&["cluster.name"]);
    let mut warn = |code, message: String, help: &str| {
        found.push(Diagnostic::new(code, message, help).at_known(place, "this cluster"));
    };
    let all = list(&voters);
    match voters.len() {
        1 if machines > 1 => warn(
            Code::OneVoter,
            format!("only {all} votes: while it is down, nothing fails over and nothing changes"),
            "give votes to two more nodes, or to one more and a witness",
        ),
        1 => warn(
            Code::OneVoter,
            format!("the cluster is {all} alone: what it runs is restarted, but has nowhere to go"),
            "add two nodes, or a node and a witness",
        ),
        2 => warn(
            Code::TwoVoters,
            format!(
                "{all} vote and no third: the loss of either stops all decisions, so nothing fails \
                 over"
            ),
            "add a witness (`witness = true`) on a small machine elsewhere, or a third node",
        ),
        count if count % 2 == 0 => warn(
            Code::EvenVoters,
            format!(
                "{count} nodes vote; they survive the loss of {}, as {} would, and each commit \
                 waits for one more",
                (count - 1) / 2,
                count - 1
            ),
            "take the vote from one (`voter = false`), or add a witness",
        ),
        _ => {}
    }
    let implicit = |name: &&NodeName| {
        let node = case.spec.nodes.get(*name);
        node.is_some_and(|node| !node.witness) && !case.places.says(&format!("node.{name}.voter"))
    };
    let implicit: Vec<_> = voters.into_iter().filter(implicit).collect();
    if place.is_some() && implicit.len() >= IMPLICIT_VOTERS_NOTED {
        warn(
            Code::VotersImplicit,
            format!("these vote because none is chosen: {}", list(&implicit)),
            "say `voter = true` where you want votes, so that a node added later has none by \
             default",
        );
    }
}
