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
    let mut text = "[dial]\n".to_owned();
    for direction in directions().filter(|direction| direction.from == node) {
        let (name, link, relay) = (NODES[direction.to], direction.link, premises.relay(direction));
        _ = writeln!(
            text,
            "\"{name}/{link}\" = {{ peer = \"{relay}:{PEER_PORT}\", \
             heartbeat = \"{relay}:{HEARTBEAT_PORT}\" }}"
        );
    }
    text
}
