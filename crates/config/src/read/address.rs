//! The keys of `kind = "address"`.

use std::net::IpAddr;

use model::AddressSpec;
use model::address::INTERFACE_MAX;

use super::Found;
use super::table::Reader;
use crate::code::Code;
use crate::diagnostic::Diagnostic;

/// Keys that only a resource of kind `process` has.
const PROCESS_KEYS: &[&str] = &[
    "command",
    "user",
    "group",
    "environment",
    "directory",
    "limits",
    "log",
    "ready",
    "start_ms",
    "stop_signal",
    "stop_ms",
    "promote",
    "promote_ms",
];
/// Keys that only a resource of kind `address` has.
const ADDRESS_KEYS: &[&str] = &["address", "interface"];

/// Reads the keys of an address; nothing where it is no address that could move.
pub(super) fn read(reader: &Reader<'_>) -> Option<Found<AddressSpec>> {
    if reader.has("address").is_none() {
        reader.missing("address");
    }
    let interface = interface(reader);
    let found = reader.text("address")?;
    match parse(&found.value) {
        Ok(spec) => Some(found.with(AddressSpec { interface, ..spec })),
        Err((wrong, help)) => {
            let message = format!("{:?} is {wrong}", found.value);
            let diagnostic = Diagnostic::new(Code::BadAddress, message, help);
            reader.sink.report(diagnostic.at(&found.place, "can't be held by a node"));
            None
        }
    }
}

/// Reports keys that mean something for another kind only.
pub(super) fn no_keys_of_others(reader: &Reader<'_>, kind: &str) {
    let (others, other) =
        if kind == "address" { (PROCESS_KEYS, "process") } else { (ADDRESS_KEYS, "address") };
    for key in others {
        let Some(place) = reader.has(key) else { continue };
        reader.sink.report(
            Diagnostic::new(
                Code::UnknownKey,
                format!("a resource of kind {kind:?} has no key {key:?}"),
                format!("`{key}` is a key of kind {other:?}; remove it, or change the kind"),
            )
            .at(&place, "has no meaning here"),
        );
    }
}

fn parse(text: &str) -> Result<AddressSpec, (&'static str, &'static str)> {
    let (ip, prefix) = text.split_once('/').ok_or((
        "an address without the length of its network's prefix",
        "write it as in `ip address`: \"10.1.0.100/24\"",
    ))?;
    let shape =
        ("no IP address with a prefix", "write it as in \"10.1.0.100/24\" or \"fd00::64/64\"");
    let ip: IpAddr = ip.parse().map_err(|_| shape)?;
    let prefix: u8 = prefix.parse().map_err(|_| shape)?;
    let spec = AddressSpec { ip, prefix, interface: None };
    let width = if ip.is_ipv4() { 32 } else { 128 };
    if prefix == 0 || prefix > width {
        return Err((
            "an address whose prefix is not between 1 and its own length",
            "the prefix is that of the network it lies in, as on the nodes' own addresses",
        ));
    }
    let special = match ip {
        IpAddr::V4(ip) if ip.is_link_local() => Some("a link-local address"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("a link-local address"),
        ip if ip.is_loopback() => Some("a loopback address"),
        ip if ip.is_multicast() => Some("a multicast address"),
        ip if ip.is_unspecified() => Some("no address at all"),
        IpAddr::V4(ip) if ip.is_broadcast() => Some("the broadcast address"),
        _ => None,
    };
    if let Some(special) = special {
        return Err((special, "use a unicast address that clients can reach"));
    }
    if spec.is_reserved() {
        return Err((
            "the first or last address of its network, which no host may have",
            "use one in between, or write the network's real prefix",
        ));
    }
    Ok(spec)
}

fn interface(reader: &Reader<'_>) -> Option<String> {
    let found = reader.text("interface")?;
    let name = found.value.as_str();
    let plain = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if !name.is_empty() && name.len() <= INTERFACE_MAX && name.chars().all(plain) {
        return Some(found.value);
    }
    let help = format!("names have 1 to {INTERFACE_MAX} characters; `ip link` lists them");
    let message = format!("{name:?} is no name that an interface can have");
    reader.sink.report(Diagnostic::new(Code::BadName, message, help).at(&found.place, "no name"));
    None
}
