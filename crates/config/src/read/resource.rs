//! `[[resource]]`: what holds for every kind.

use model::AddressSpec;
use model::ids::{NodeName, ResourceName};
use model::spec::{DomainKind, Failback, HealthSpec, ProcessSpec, RecoverySpec, Standby};

use super::table::Reader;
use super::{Found, address, health, node, process};
use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::keys::{KINDS, KINDS_LATER};
use crate::suggest;

/// A resource as the text says it. One of a kind or mode that can't be run is `broken`: it is
/// kept so that others may refer to it without a second error.
#[derive(Debug)]
pub(crate) struct ResourceDraft {
    pub(crate) name: Found<ResourceName>,
    pub(crate) body: Option<Body>,
}

/// All of a resource but its name.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) process: ProcessSpec,
    /// Of kind `address`: the process means nothing then.
    pub(crate) address: Option<Found<AddressSpec>>,
    pub(crate) standby: Standby,
    pub(crate) prefer: Vec<Found<NodeName>>,
    pub(crate) nodes: Vec<Found<NodeName>>,
    pub(crate) spread: Option<DomainKind>,
    pub(crate) with: Option<Found<ResourceName>>,
    pub(crate) after: Vec<Found<ResourceName>>,
    pub(crate) health: Vec<HealthSpec>,
    pub(crate) rto_ms: Option<u64>,
    pub(crate) rpo_bytes: Option<u64>,
    pub(crate) recovery: RecoverySpec,
    pub(crate) failback: Failback,
}

/// Reads one resource. One without a usable name is reported and left out.
pub(super) fn read(mut reader: Reader<'_>) -> Option<ResourceDraft> {
    let name = resource_name(&reader);
    if let Some(name) = &name {
        let path = format!("resource.{}", name.value);
        reader.sink.place(path.clone(), name.place.clone());
        reader.named(path);
    }
    let supported = kind_is_supported(&reader) & mode_is_supported(&reader);
    let body = if supported {
        reader.known_keys_only(&[]);
        body(&reader)
    } else {
        None
    };
    Some(ResourceDraft { name: name?, body })
}

fn body(reader: &Reader<'_>) -> Option<Body> {
    let is_address = reader.text("kind").is_some_and(|found| found.value == "address");
    address::no_keys_of_others(reader, if is_address { "address" } else { "process" });
    let address = if is_address { Some(address::read(reader)?) } else { None };
    let one_of = |key: &str, words: &[&str]| {
        reader.choice(key).and_then(|found| words.iter().position(|word| *word == found.value))
    };
    let domains = DomainKind::ALL.map(DomainKind::as_str);
    let said = one_of("standby", &["cold", "hot"]);
    // The program that waits with an address is small, and knows its interface already.
    let hot = said.map_or(is_address, |index| index == 1);
    let process = if is_address { ProcessSpec::default() } else { process::read(reader, hot) };
    Some(Body {
        process,
        address,
        standby: if hot { Standby::Hot } else { Standby::Cold },
        prefer: names(reader, "prefer"),
        nodes: names(reader, "nodes"),
        spread: one_of("spread", &domains).map(|index| DomainKind::ALL[index]),
        with: reader.text("with").and_then(|found| resource_ref(reader, &found)),
        after: references(reader, "after"),
        health: health::read_all(reader),
        rto_ms: reader.whole("rto_ms").map(|found| found.value),
        rpo_bytes: reader.whole("rpo_bytes").map(|found| found.value),
        recovery: recovery(reader),
        failback: failback(reader),
    })
}

fn resource_name(reader: &Reader<'_>) -> Option<Found<ResourceName>> {
    let found = reader.required_text("name")?;
    match ResourceName::new(found.value.clone()) {
        Ok(name) => Some(found.with(name)),
        Err(error) => {
            reader.sink.report(node::bad_name("this resource's name", &found, &error));
            None
        }
    }
}

fn kind_is_supported(reader: &Reader<'_>) -> bool {
    let Some(found) = reader.required_text("kind") else { return true };
    let kind = found.value.as_str();
    if KINDS.contains(&kind) {
        return true;
    }
    if KINDS_LATER.contains(&kind) {
        reader.sink.report(
            Diagnostic::new(
                Code::NotSupported,
                format!("resources of kind {kind:?} are not supported by this version"),
                format!("this version runs: {}; remove this resource until then", KINDS.join(", ")),
            )
            .at(&found.place, "not supported yet"),
        );
        return false;
    }
    let near = suggest::nearest(kind, KINDS.iter().copied());
    reader.not_a_choice("kind", &found, KINDS);
    near.is_some()
}

fn mode_is_supported(reader: &Reader<'_>) -> bool {
    if reader.has("mode").is_none() {
        return true;
    }
    let Some(found) = reader.text("mode") else { return true };
    if found.value == "active-active" {
        reader.sink.report(
            Diagnostic::new(
                Code::NotSupported,
                "mode \"active-active\" is not supported by this version",
                "use `mode = \"active-passive\"` with `standby = \"hot\"`, or one resource for \
                 each node, with `nodes = [\"…\"]`",
            )
            .at(&found.place, "not supported yet"),
        );
        return false;
    }
    reader.choice("mode");
    true
}

fn names(reader: &Reader<'_>, key: &str) -> Vec<Found<NodeName>> {
    let texts = reader.texts(key).unwrap_or_default();
    let checked = texts.iter().filter_map(|found| match NodeName::new(found.value.clone()) {
        Ok(name) => Some(found.with(name)),
        Err(error) => {
            reader.sink.report(node::bad_name("a node's name", found, &error));
            None
        }
    });
    checked.collect()
}

fn resource_ref(reader: &Reader<'_>, found: &Found<String>) -> Option<Found<ResourceName>> {
    match ResourceName::new(found.value.clone()) {
        Ok(name) => Some(found.with(name)),
        Err(error) => {
            reader.sink.report(node::bad_name("a resource's name", found, &error));
            None
        }
    }
}

fn references(reader: &Reader<'_>, key: &str) -> Vec<Found<ResourceName>> {
    let texts = reader.texts(key).unwrap_or_default();
    texts.iter().filter_map(|found| resource_ref(reader, found)).collect()
}

fn recovery(reader: &Reader<'_>) -> RecoverySpec {
    let default = RecoverySpec::default();
    let Some(table) = reader.table("recovery") else { return default };
    table.known_keys_only(&[]);
    let small = |key: &str, default: u32| {
        u32::try_from(table.whole_or(key, u64::from(default))).unwrap_or(default)
    };
    let recovery = RecoverySpec {
        restarts: small("restarts", default.restarts),
        window_ms: table.whole_or("window_ms", default.window_ms),
        backoff_ms: table.whole_or("backoff_ms", default.backoff_ms),
        backoff_max_ms: table.whole_or("backoff_max_ms", default.backoff_max_ms),
        node_ban_ms: table.whole_or("node_ban_ms", default.node_ban_ms),
        poison_nodes: small("poison_nodes", default.poison_nodes),
    };
    if recovery.backoff_max_ms < recovery.backoff_ms {
        let place = table.has("backoff_max_ms").or_else(|| table.has("backoff_ms"));
        reader.sink.report(
            Diagnostic::new(
                Code::BackoffOrder,
                format!(
                    "the longest pause ({} ms) is shorter than the first ({} ms)",
                    recovery.backoff_max_ms, recovery.backoff_ms
                ),
                "make `backoff_max_ms` at least `backoff_ms`",
            )
            .at_known(place.as_ref(), "too short for the other"),
        );
    }
    recovery
}

fn failback(reader: &Reader<'_>) -> Failback {
    if !reader.is_table("failback") {
        reader.choice("failback");
        return Failback::Manual;
    }
    let Some(table) = reader.table("failback") else { return Failback::Manual };
    table.known_keys_only(&[]);
    if table.has("after_ms").is_none() {
        table.missing("after_ms");
    }
    table.whole("after_ms").map_or(Failback::Manual, |found| Failback::AfterMs(found.value))
}
