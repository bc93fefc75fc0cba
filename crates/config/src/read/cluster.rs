//! `[cluster]`.

use model::ids::NodeName;
use model::spec::Ports;

use super::table::Reader;
use super::{Draft, Found};
use crate::code::Code;
use crate::diagnostic::Diagnostic;

/// Reads `[cluster]` into the draft.
pub(super) fn read(mut cluster: Reader<'_>, draft: &mut Draft) {
    cluster.known_keys_only(&[]);
    cluster.named("cluster".to_string());
    let cluster = &cluster;
    draft.name = cluster.required_text("name").and_then(|name| checked_name(cluster, name));
    draft.profile = cluster.choice("profile").and_then(|found| {
        let profile = found.value.parse().ok()?;
        Some(found.with(profile))
    });
    draft.include = cluster.text("include");
    if let Some(ports) = cluster.table("ports") {
        draft.ports = ports_of(&ports, draft.ports);
    }
}

/// A cluster's name follows the rules of a node's.
fn checked_name(cluster: &Reader<'_>, name: Found<String>) -> Option<Found<String>> {
    match NodeName::new(name.value.clone()) {
        Ok(_) => Some(name),
        Err(error) => {
            cluster.sink.report(super::node::bad_name("the cluster's name", &name, &error));
            None
        }
    }
}

/// Reads ports; what is not said comes from `otherwise`.
pub(super) fn ports_of(reader: &Reader<'_>, otherwise: Ports) -> Ports {
    reader.known_keys_only(&[]);
    let port = |name: &str, default: u16| {
        reader.whole(name).and_then(|found| u16::try_from(found.value).ok()).unwrap_or(default)
    };
    let ports = Ports {
        peer: port("peer", otherwise.peer),
        heartbeat: port("heartbeat", otherwise.heartbeat),
        api: port("api", otherwise.api),
    };
    if ports.peer == ports.api {
        reader.sink.report(
            Diagnostic::new(
                Code::DuplicatePort,
                format!("peer and api would both listen on TCP port {}", ports.api),
                "give them two ports; the heartbeat's may equal either, as it is UDP",
            )
            .at(reader.place(), "in this table"),
        );
    }
    ports
}
