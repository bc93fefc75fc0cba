//! Nodes and resources have names of their own.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::read::{Draft, Found};
use crate::sink::Sink;
use crate::source::Place;

/// Reports names that occur twice, and leaves only the first of them in the draft.
pub(super) fn check(draft: &mut Draft, sink: &Sink) {
    let mut seen = BTreeMap::new();
    draft.nodes.retain(|node| first(&node.name, "node", &mut seen, sink));
    let mut seen = BTreeMap::new();
    draft.resources.retain(|resource| first(&resource.name, "resource", &mut seen, sink));
}

fn first<T: Ord + Clone + Display>(
    name: &Found<T>,
    what: &str,
    seen: &mut BTreeMap<T, Place>,
    sink: &Sink,
) -> bool {
    let Some(other) = seen.get(&name.value) else {
        seen.insert(name.value.clone(), name.place.clone());
        return true;
    };
    sink.report(
        Diagnostic::new(
            Code::DuplicateName,
            format!("two {what}s are named \"{}\"", name.value),
            "rename one, or remove it if it is the same",
        )
        .at(&name.place, "second")
        .and(other, "first"),
    );
    false
}
