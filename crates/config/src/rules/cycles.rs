//! `with` and `after` make no circle: resources in one would wait for each other for ever.

use std::collections::{BTreeMap, BTreeSet};

use model::ids::ResourceName;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::read::Draft;
use crate::sink::Sink;
use crate::source::Place;

type Edges<'a> = BTreeMap<&'a ResourceName, Vec<(&'a ResourceName, &'a Place)>>;

/// Reports each circle once, at the reference that closes it.
pub(super) fn check(draft: &Draft, sink: &Sink) {
    let mut edges: Edges<'_> = BTreeMap::new();
    for resource in &draft.resources {
        let Some(body) = &resource.body else { continue };
        let others = body.with.iter().chain(&body.after).filter(|o| o.value != resource.name.value);
        edges.insert(
            &resource.name.value,
            others.map(|other| (&other.value, &other.place)).collect(),
        );
    }
    let mut done = BTreeSet::new();
    for resource in &draft.resources {
        visit(&resource.name.value, &edges, &mut done, sink);
    }
}

/// Walks everything that a resource waits for, without recursion: chains can be thousands long.
fn visit<'a>(
    start: &'a ResourceName,
    edges: &Edges<'a>,
    done: &mut BTreeSet<&'a ResourceName>,
    sink: &Sink,
) {
    if done.contains(start) {
        return;
    }
    let mut path: Vec<(&ResourceName, usize)> = vec![(start, 0)];
    let mut on_path = BTreeSet::from([start]);
    while let Some((name, next)) = path.last_mut() {
        let Some((other, place)) = edges.get(*name).and_then(|list| list.get(*next)) else {
            done.insert(*name);
            on_path.remove(*name);
            path.pop();
            continue;
        };
        *next += 1;
        if on_path.contains(*other) {
            let from = path.iter().position(|(on, _)| on == other).unwrap_or(0);
            let names: Vec<&str> = path[from..].iter().map(|(on, _)| on.as_str()).collect();
            sink.report(circle(&names, place));
        } else if !done.contains(*other) {
            on_path.insert(*other);
            path.push((*other, 0));
        }
    }
}

/// Longest circle that is written out.
const SHOWN_MAX: usize = 8;

fn circle(names: &[&str], place: &Place) -> Diagnostic {
    let mut shown = names[..names.len().min(SHOWN_MAX)].join(" → ");
    if names.len() > SHOWN_MAX {
        shown += &format!(" → … ({} in all)", names.len());
    }
    Diagnostic::new(
        Code::Cycle,
        format!("these wait for each other in a circle: {shown} → {}", names[0]),
        "none of them could ever start; remove one `with` or `after`",
    )
    .at(place, "closes the circle")
}
