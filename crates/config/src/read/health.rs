//! `health` of a resource.

use std::net::{IpAddr, SocketAddr};

use model::spec::{HealthSpec, Probe};

use super::table::Reader;
use super::{Found, process};
use crate::code::Code;
use crate::diagnostic::Diagnostic;

/// Reads all health checks of a resource.
pub(super) fn read_all(resource: &Reader<'_>) -> Vec<HealthSpec> {
    resource.tables("health").iter().filter_map(read).collect()
}

fn read(reader: &Reader<'_>) -> Option<HealthSpec> {
    reader.known_keys_only(&[]);
    let probe = probe(reader);
    let every_ms = reader.whole_or("every_ms", HealthSpec::EVERY_MS);
    let said = reader.whole("timeout_ms");
    let timeout_ms = said.as_ref().map_or(HealthSpec::timeout_ms_for(every_ms), |f| f.value);
    if let Some(found) = &said
        && found.value >= every_ms
    {
        reader.sink.report(
            Diagnostic::new(
                Code::TimeoutTooLong,
                format!(
                    "a timeout of {timeout_ms} ms reaches the interval of {every_ms} ms: the \
                     next check would be due before this one has ended"
                ),
                format!(
                    "choose less than {every_ms}, or leave it out: the default is {}",
                    HealthSpec::timeout_ms_for(every_ms)
                ),
            )
            .at(&found.place, "too long"),
        );
    }
    let failures = reader.whole_or("failures", u64::from(HealthSpec::FAILURES));
    Some(HealthSpec {
        probe: probe?,
        every_ms,
        timeout_ms,
        failures: u32::try_from(failures).unwrap_or(HealthSpec::FAILURES),
        active_only: reader.flag("active_only").is_some_and(|found| found.value),
    })
}

fn probe(reader: &Reader<'_>) -> Option<Probe> {
    let kinds = ["tcp", "http", "exec"];
    let said: Vec<_> = kinds.iter().filter_map(|k| Some((*k, reader.has(k)?))).collect();
    match said.as_slice() {
        [("tcp", _)] => reader.text("tcp").and_then(|found| tcp(reader, &found)),
        [("http", _)] => reader.text("http").and_then(|found| http(reader, &found)),
        [_] => process::command(reader, "exec").map(Probe::Exec),
        [] => {
            let message = "this health check asks nothing";
            let help = "add one of `tcp = \"127.0.0.1:9001\"`, `http = \"http://…\"` and \
                        `exec = [\"/…\"]`";
            report(reader, message, help, reader.place());
            None
        }
        [_, (second, place), ..] => {
            let message = format!("one health check asks one thing; `{second}` is a second one");
            report(reader, &message, "write two entries; all of them must pass", place);
            None
        }
    }
}

fn tcp(reader: &Reader<'_>, found: &Found<String>) -> Option<Probe> {
    endpoint(reader, found, &found.value, true)?;
    Some(Probe::Tcp(found.value.clone()))
}

fn http(reader: &Reader<'_>, found: &Found<String>) -> Option<Probe> {
    let Some(rest) = found.value.strip_prefix("http://") else {
        let help = if found.value.starts_with("https://") {
            "this version checks over plain HTTP only; ask on loopback, or use `exec`"
        } else {
            "write it as \"http://127.0.0.1:8080/healthz\""
        };
        report(reader, &format!("{:?} can't be asked", found.value), help, &found.place);
        return None;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if found.value.chars().any(|c| c.is_whitespace() || c.is_control()) || authority.contains('@') {
        let message = format!("{:?} is not a URL that can be asked", found.value);
        report(reader, &message, "a URL has no spaces and no user name here", &found.place);
        return None;
    }
    endpoint(reader, found, authority, false)?;
    Some(Probe::Http(found.value.clone()))
}

/// Checks `host:port`, and warns where the host is a name.
fn endpoint(
    reader: &Reader<'_>,
    found: &Found<String>,
    text: &str,
    port_needed: bool,
) -> Option<()> {
    if text.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0) {
        return Some(());
    }
    let bare_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !bare_v6 && !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_is_right = match port {
        Some(port) => port.parse::<u16>().is_ok_and(|port| port != 0),
        None => !port_needed,
    };
    let name = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if !port_is_right || !(address || (!host.is_empty() && host.chars().all(name))) {
        let sample = if bare_v6 { format!("[{text}]:9001") } else { "127.0.0.1:9001".into() };
        let (message, help) = if port.is_none() && port_needed {
            (format!("{text:?} names no port"), format!("write address and port: {sample:?}"))
        } else {
            let help = format!("write address and port: {sample:?}; ports are 1 to 65535");
            (format!("{text:?} is not an address and a port"), help)
        };
        report(reader, &message, &help, &found.place);
        return None;
    }
    if !address && host != "localhost" {
        reader.sink.report(
            Diagnostic::new(
                Code::NameLookup,
                format!(
                    "this health check looks up the name {host:?}: when name lookup fails, every \
                     instance looks ill at once"
                ),
                "write the IP address; checks run on the instance's own node, so it is most \
                 often 127.0.0.1",
            )
            .at(&found.place, "a name"),
        );
    }
    Some(())
}

fn report(reader: &Reader<'_>, message: &str, help: &str, place: &crate::source::Place) {
    reader.sink.report(Diagnostic::new(Code::BadProbe, message, help).at(place, "here"));
}
