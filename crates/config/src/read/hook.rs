//! `[[hook]]`.

use std::collections::BTreeSet;

use model::spec::{HookCall, HookEvent, HookSpec};

use super::process;
use super::table::Reader;
use crate::code::Code;
use crate::diagnostic::Diagnostic;

/// Reads one hook. One that can't be called is reported and left out.
pub(super) fn read(reader: &Reader<'_>) -> Option<HookSpec> {
    reader.known_keys_only(&[]);
    let timeout_ms = reader.whole_or("timeout_ms", HookSpec::TIMEOUT_MS);
    let on = events(reader);
    let call = match (reader.has("webhook"), reader.has("command")) {
        (Some(_), None) => webhook(reader),
        (None, Some(_)) => process::command(reader, "command").map(HookCall::Command),
        (None, None) => {
            reader.sink.report(
                Diagnostic::new(
                    Code::MissingKey,
                    "[[hook]] calls nothing",
                    "add `webhook = \"https://…\"` or `command = [\"/…\"]`",
                )
                .at(reader.place(), "in this table"),
            );
            None
        }
        (Some(_), Some(place)) => {
            reader.sink.report(
                Diagnostic::new(
                    Code::BadUrl,
                    "one hook calls one thing; `command` is a second one",
                    "write two [[hook]] tables",
                )
                .at(&place, "second"),
            );
            None
        }
    };
    Some(HookSpec { call: call?, on, timeout_ms })
}

fn webhook(reader: &Reader<'_>) -> Option<HookCall> {
    let found = reader.text("webhook")?;
    let rest = found.value.strip_prefix("https://").or_else(|| found.value.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let spaces = found.value.chars().any(|c| c.is_whitespace() || c.is_control());
    if !host.is_empty() && !host.starts_with(':') && !spaces {
        return Some(HookCall::Webhook(found.value));
    }
    reader.sink.report(
        Diagnostic::new(
            Code::BadUrl,
            format!("{:?} can't be called", found.value),
            "write it as \"https://host/path\"",
        )
        .at(&found.place, "not a URL"),
    );
    None
}

fn events(reader: &Reader<'_>) -> BTreeSet<HookEvent> {
    let words: Vec<&str> = HookEvent::ALL.into_iter().map(HookEvent::as_str).collect();
    let mut on = BTreeSet::new();
    for found in reader.texts("on").unwrap_or_default() {
        match HookEvent::ALL.into_iter().find(|event| event.as_str() == found.value) {
            Some(event) => {
                on.insert(event);
            }
            None => reader.not_a_choice("on", &found, &words),
        }
    }
    on
}
