//! From TOML to a draft: every table read by its key table, every wrong value reported where it
//! stands. What a value means together with others is for `rules`.

mod address;
mod cluster;
mod found;
mod health;
mod hook;
mod node;
mod process;
mod resource;
mod table;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::spec::{HookSpec, Ports};
use toml::de::DeTable;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::keys;
use crate::sink::Sink;
use crate::source::{Place, Source};

pub(crate) use found::Found;
pub(crate) use node::NodeDraft;
pub(crate) use resource::ResourceDraft;
use table::Reader;

/// What the texts said, before it is known whether it fits together.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) name: Option<Found<String>>,
    pub(crate) profile: Option<Found<model::Profile>>,
    pub(crate) include: Option<Found<String>>,
    pub(crate) ports: Ports,
    pub(crate) nodes: Vec<NodeDraft>,
    pub(crate) resources: Vec<ResourceDraft>,
    pub(crate) hooks: Vec<HookSpec>,
    /// The place of each text's `[cluster]`, or its beginning: for errors about what is missing.
    pub(crate) head: Option<Place>,
}

/// Reads the main file into the draft.
pub(crate) fn main_file(source: &Arc<Source>, draft: &mut Draft, sink: &Sink) {
    let start = Place::new(source, 0..0);
    draft.head = Some(start.clone());
    document(source, sink, |table| {
        let file = Reader::new(table, &keys::FILE, source, start.clone(), sink);
        file.known_keys_only(&[]);
        if let Some(cluster) = file.required_table("cluster") {
            draft.head = Some(cluster.place().clone());
            cluster::read(cluster, draft);
        }
        lists(&file, draft);
    });
}

/// Reads a snippet into the draft.
pub(crate) fn snippet(source: &Arc<Source>, draft: &mut Draft, sink: &Sink) {
    document(source, sink, |table| {
        if let Some((key, _)) = table.get_key_value("cluster") {
            sink.report(
                Diagnostic::new(
                    Code::Snippet,
                    "a snippet can't hold [cluster]: the cluster is described in one place",
                    "move it to the main file, or out of the included directory",
                )
                .at(&Place::new(source, key.span()), "belongs in the main file"),
            );
        }
        let start = Place::new(source, 0..0);
        let file = Reader::new(table, &keys::SNIPPET, source, start, sink);
        file.known_keys_only(&["cluster"]);
        lists(&file, draft);
    });
}

fn lists(file: &Reader<'_>, draft: &mut Draft) {
    for reader in file.tables("node") {
        draft.nodes.extend(node::read(reader, draft.ports));
    }
    for reader in file.tables("resource") {
        draft.resources.extend(resource::read(reader));
    }
    for reader in file.tables("hook") {
        draft.hooks.extend(hook::read(&reader));
    }
}

/// Parses a text and hands on what could be read of it. Where it is not TOML, only its syntax
/// errors are reported: what follows from a slip of the pen would bury it.
fn document(source: &Arc<Source>, sink: &Sink, read: impl FnOnce(&DeTable<'_>)) {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    if errors.is_empty() {
        return read(table.get_ref());
    }
    sink.set_unread();
    let mut lines = BTreeMap::new();
    for error in errors {
        let end = source.text.len();
        let place = Place::new(source, error.span().unwrap_or(end..end));
        lines.entry(place.position().line).or_insert((place, error));
    }
    for (place, error) in lines.into_values() {
        let word = &source.text[place.span.clone()];
        let bare = word.starts_with(|c: char| c.is_alphabetic());
        let help = if bare && error.message().starts_with("invalid") {
            format!("text stands in quotes: {word:?}")
        } else {
            "mend the syntax; keys and values are looked at once it is right".to_string()
        };
        let message = format!("this is not TOML: {}", error.message());
        sink.report(Diagnostic::new(Code::Syntax, message, help).at(&place, "here"));
    }
}
