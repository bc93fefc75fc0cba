//! The files that the demo's cluster is made from.

use std::fmt::Write as _;
use std::path::Path;

use model::Profile;

use super::calls::RESOURCE;
use super::premises::{API_PORT, HEARTBEAT_PORT, LINKS, NODES, PEER_PORT, Premises, directions};

/// `cluster.toml`: three nodes with two links each, and the order server with hot standbys.
/// `program` is our own binary.
#[must_use]
pub(super) fn cluster_toml(
    premises: &Premises,
    profile: Profile,
    program: &Path,
    heedless: bool,
) -> String {
    let mut text = format!(
        "[cluster]\nname = \"demo\"\nprofile = \"{profile}\"\n\
         ports = {{ peer = {PEER_PORT}, heartbeat = {HEARTBEAT_PORT}, api = {API_PORT} }}\n"
    );
    for (node, name) in NODES.iter().enumerate() {
        let links: Vec<String> =
            (0..LINKS).map(|link| format!("\"{}\"", premises.link(node, link))).collect();
        let links = links.join(", ");
        // Writing to a string can't fail.
        _ = write!(text, "\n[[node]]\nname = \"{name}\"\nlinks = [{links}]\n");
    }
    let listen: Vec<String> =
        (0..NODES.len()).map(|n| format!("{}={}", NODES[n], premises.orders(n))).collect();
    let mut command = vec![
        program.to_string_lossy().into_owned(),
        "example".to_owned(),
        "orders-server".to_owned(),
        "--listen".to_owned(),
        listen.join(","),
        "--store".to_owned(),
        premises.store().to_string(),
        "--active-log".to_owned(),
        premises.file("active.jsonl").to_string_lossy().into_owned(),
    ];
    if heedless {
        command.push("--heedless".to_owned());
    }
    let command: Vec<String> = command.iter().map(|word| format!("  {word:?},\n")).collect();
    let command = command.concat();
    _ = write!(
        text,
        "\n[[resource]]\nname = \"{RESOURCE}\"\nkind = \"process\"\ncommand = [\n{command}]\n\
         mode = \"active-passive\"\nstandby = \"hot\"\nready = \"notify\"\npromote = \"socket\"\n\n\
         # Every fault is meant: none of them makes a node or the service suspicious.\n\
         [resource.recovery]\nrestarts = 1000\nwindow_ms = 1000\nbackoff_ms = 20\n\
         backoff_max_ms = 20\n"
    );
    text
}

/// A node's local file: where it reaches the others, which is through the relays.
#[must_use]
pub(super) fn dial_toml(premises: &Premises, node: usize) -> String {
    let side = |heading: &str, port: u16| {
        let mut text = format!("[dial.{heading}]\n");
        for direction in directions().filter(|direction| direction.from == node) {
            let (name, relay) = (NODES[direction.to], premises.relay(direction));
            // Writing to a string can't fail.
            _ = writeln!(text, "\"{name}/{}\" = \"{relay}:{port}\"", direction.link);
        }
        text
    };
    side("peer", PEER_PORT) + &side("heartbeat", HEARTBEAT_PORT)
}

#[cfg(test)]
mod tests {
    use model::spec::{Promote, Ready, ResourceKind, Standby};

    use super::*;

    #[test]
    fn the_cluster_is_accepted_without_errors() {
        let premises = Premises::for_test("/tmp/x", [77, 7]);
        let program = Path::new("/usr/bin/backstay");
        let text = cluster_toml(&premises, Profile::Lan, program, false);
        let parsed = config::parse(&text, "cluster.toml");
        let errors: Vec<_> = parsed.diagnostics.iter().filter(|d| d.is_error()).collect();
        assert!(errors.is_empty(), "{}", config::render(&parsed.diagnostics, false));
        let spec = parsed.spec.unwrap();
        assert_eq!((spec.profile, spec.nodes.len()), (Profile::Lan, NODES.len()));
        let orders = spec.resources.values().next().unwrap();
        let ResourceKind::Process(process) = &orders.kind else { panic!("{orders:?}") };
        assert_eq!((orders.standby, process.ready.clone()), (Standby::Hot, Ready::Notify));
        assert_eq!(process.promote, Promote::Socket);
        assert!(!text.contains("--heedless"));
        assert!(cluster_toml(&premises, Profile::Fast, program, true).contains("--heedless"));
    }

    #[test]
    fn a_node_reaches_every_other_through_its_own_relays() {
        let premises = Premises::for_test("/tmp/x", [77, 7]);
        let text = dial_toml(&premises, 1);
        let local: toml::Table = text.parse().unwrap();
        let address = |side: &str, key: &str| local["dial"][side].get(key).cloned();
        assert_eq!(local["dial"]["peer"].as_table().unwrap().len(), 2 * LINKS);
        assert_eq!(address("peer", "a/0"), Some("127.77.7.110:7400".into()));
        assert_eq!(address("heartbeat", "c/1"), Some("127.77.7.162:7401".into()));
        assert_eq!(address("peer", "b/0"), None);
    }
}
