//! Who votes. The rule is made so that adding a node never takes the vote of another: where no
//! node says `voter = true`, all that do not say `false` vote, as long as they are few; where one
//! does, only those that say so.

use std::collections::BTreeSet;

use model::ids::NodeName;
use model::spec::VOTERS_MAX;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::read::Draft;
use crate::sink::Sink;

/// Most voters where none is chosen. Beyond it every commit waits for more machines and nothing
/// is gained, so the operator should choose.
const IMPLICIT_VOTERS_MAX: usize = 7;

/// The nodes that vote, witnesses included.
pub(super) fn choose(draft: &Draft, sink: &Sink) -> BTreeSet<NodeName> {
    let machines = || draft.nodes.iter().filter(|node| !node.witness);
    let says = |wanted: bool| {
        machines().any(|node| node.voter.as_ref().is_some_and(|found| found.value == wanted))
    };
    let chosen = says(true);
    let mut voters = BTreeSet::new();
    let mut implicit = 0;
    for node in &draft.nodes {
        match &node.voter {
            Some(found) if node.witness && !found.value => sink.report(
                Diagnostic::new(
                    Code::WitnessVote,
                    format!(
                        "node \"{}\" is a witness without a vote: it would do nothing",
                        node.name.value
                    ),
                    "remove `voter = false`, or `witness = true` if it shall run resources",
                )
                .at(&found.place, "a witness votes"),
            ),
            Some(found) if !found.value => continue,
            None if !node.witness && chosen => continue,
            None if !node.witness => implicit += 1,
            _ => {}
        }
        voters.insert(node.name.value.clone());
    }
    count(draft, &voters, implicit, sink);
    voters
}

fn count(draft: &Draft, voters: &BTreeSet<NodeName>, implicit: usize, sink: &Sink) {
    let witnesses = draft.nodes.iter().filter(|node| node.witness).count();
    let report = |code, message: String, help: &str| {
        sink.report(
            Diagnostic::new(code, message, help).at_known(draft.head.as_ref(), "this cluster"),
        );
    };
    if implicit > 0 && voters.len() > IMPLICIT_VOTERS_MAX {
        report(
            Code::VotersNotChosen,
            format!(
                "{} nodes would vote, as none is chosen; each commit would wait for {} machines",
                voters.len(),
                voters.len() / 2 + 1
            ),
            "say `voter = true` on 3, 5 or 7 nodes in different failure domains; the others \
             then run resources without a vote",
        );
    } else if voters.len() > VOTERS_MAX {
        report(
            Code::TooManyVoters,
            format!("{} nodes vote; {VOTERS_MAX} is the most", voters.len()),
            "take `voter = true` from some: 5 voters survive the loss of 2, 7 of 3",
        );
    } else if voters.len() == witnesses && !draft.nodes.is_empty() && !sink.failed() {
        report(
            Code::NoVoter,
            match witnesses {
                0 => "no node votes, so nothing could ever be decided".to_string(),
                _ => {
                    "only witnesses vote; they don't coordinate, so nothing could be decided".into()
                }
            },
            "remove `voter = false` from 3 nodes, or from 2 beside a witness",
        );
    }
}
