//! The limits of the whole, after all snippets were added.

use model::spec::{HOOKS_MAX, NODES_MAX, RESOURCES_MAX};

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::read::Draft;
use crate::sink::Sink;

/// Reports more nodes, resources or hooks than there may be.
pub(super) fn check(draft: &Draft, sink: &Sink) {
    let counts = [
        ("nodes", draft.nodes.len(), NODES_MAX),
        ("resources", draft.resources.len(), RESOURCES_MAX),
        ("hooks", draft.hooks.len(), HOOKS_MAX),
    ];
    for (what, count, max) in counts {
        if count > max {
            sink.report(
                Diagnostic::new(
                    Code::TooMany,
                    format!(
                        "there are {count} {what} with those of all snippets; {max} is the most"
                    ),
                    "remove some, or make two clusters of it",
                )
                .at_known(draft.head.as_ref(), "this cluster"),
            );
        }
    }
    if draft.nodes.is_empty() && !sink.failed() {
        sink.report(
            Diagnostic::new(
                Code::NoNode,
                "there is no node",
                "add a [[node]] with `name` and `links` for each machine",
            )
            .at_known(draft.head.as_ref(), "this cluster"),
        );
    }
}
