//! `[[node]]`.

use std::net::IpAddr;

use model::ids::{NameError, NodeName};
use model::spec::{Domains, Ports};

use super::table::Reader;
use super::{Found, cluster};
use crate::code::Code;
use crate::diagnostic::Diagnostic;

/// Longest name of a failure domain, in bytes.
const DOMAIN_MAX: usize = 63;

/// A node as the text says it.
#[derive(Debug)]
pub(crate) struct NodeDraft {
    pub(crate) name: Found<NodeName>,
    pub(crate) links: Vec<Found<IpAddr>>,
    pub(crate) ports: Option<Ports>,
    pub(crate) domains: Domains,
    pub(crate) witness: bool,
    pub(crate) voter: Option<Found<bool>>,
}

/// Reads one node. One without a usable name is reported and left out.
pub(super) fn read(mut reader: Reader<'_>, cluster_ports: Ports) -> Option<NodeDraft> {
    reader.known_keys_only(&[]);
    let name = node_name(&reader);
    if let Some(name) = &name {
        let path = format!("node.{}", name.value);
        reader.sink.place(path.clone(), name.place.clone());
        reader.named(path);
    }
    let reader = &reader;
    if reader.has("links").is_none() {
        reader.missing("links");
    }
    let texts = reader.texts("links");
    if texts.as_ref().is_some_and(Vec::is_empty) {
        reader.missing("links");
    }
    let links = texts.unwrap_or_default().iter().filter_map(|link| address(reader, link)).collect();
    let domain = |key: &str| reader.text(key).and_then(|found| domain(reader, key, &found));
    let ports = reader.table("ports").map(|ports| cluster::ports_of(&ports, cluster_ports));
    let draft = NodeDraft {
        name: name?,
        links,
        ports,
        domains: Domains { site: domain("site"), rack: domain("rack"), power: domain("power") },
        witness: reader.flag("witness").is_some_and(|found| found.value),
        voter: reader.flag("voter"),
    };
    Some(draft)
}

fn node_name(reader: &Reader<'_>) -> Option<Found<NodeName>> {
    let found = reader.required_text("name")?;
    match NodeName::new(found.value.clone()) {
        Ok(name) => Some(found.with(name)),
        Err(error) => {
            reader.sink.report(bad_name("this node's name", &found, &error));
            None
        }
    }
}

/// The error for a name that can't be one.
pub(super) fn bad_name(what: &str, found: &Found<String>, error: &NameError) -> Diagnostic {
    let help = match error {
        NameError::Character(c) if c.is_ascii_uppercase() => {
            format!("{error}\nwrite it in small letters: {:?}", found.value.to_lowercase())
        }
        _ => format!("{error}"),
    };
    let message = format!("{what} can't be {:?}", found.value);
    Diagnostic::new(Code::BadName, message, help).at(&found.place, "not a name")
}

fn address(reader: &Reader<'_>, link: &Found<String>) -> Option<Found<IpAddr>> {
    let problem = match link.value.parse::<IpAddr>() {
        Err(_) if link.value.contains('/') => "an address without the prefix length: no `/24`",
        Err(_) if link.value.parse::<std::net::SocketAddr>().is_ok() => {
            "an address without a port; ports are set by `ports`"
        }
        Err(_) => {
            "an IP address such as \"10.1.0.1\" or \"fd00::1\"; names are not looked up, \
                   so that the cluster works when name lookup does not"
        }
        Ok(ip) if ip.is_unspecified() => "the node's own address: peers send to it",
        Ok(ip) if ip.is_multicast() => "a unicast address",
        Ok(IpAddr::V4(ip)) if ip.is_broadcast() => "a unicast address",
        Ok(ip) => return Some(link.with(ip)),
    };
    reader.sink.report(
        Diagnostic::new(
            Code::BadAddress,
            format!("{:?} can't be a link", link.value),
            format!("write {problem}"),
        )
        .at(&link.place, "not a usable address"),
    );
    None
}

fn domain(reader: &Reader<'_>, key: &str, found: &Found<String>) -> Option<String> {
    let plain = |c: char| c.is_alphanumeric() || "-_.: ".contains(c);
    if !found.value.is_empty() && found.value.len() <= DOMAIN_MAX && found.value.chars().all(plain)
    {
        return Some(found.value.clone());
    }
    reader.sink.report(
        Diagnostic::new(
            Code::BadName,
            format!("{:?} can't name a {key}", found.value),
            format!("use 1 to {DOMAIN_MAX} letters, digits, spaces, '-', '_', '.' or ':'"),
        )
        .at(&found.place, "not a name"),
    );
    None
}
