//! Exported control states, behind their digest.

use agent::node::state_file::{self, Source};
use model::ClusterState;

use crate::Target;
use crate::cursor::Cursor;

pub(crate) const TARGET: Target =
    Target::new("state-file", "exported control states, before and behind the digest", read, seeds)
        .input(16_384)
        .memory(32 << 20);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    let sealed = input.byte() % 2 == 1;
    let mut text = input.text();
    if sealed {
        let digest = blake3::hash(text.as_bytes()).to_hex();
        text += &format!("{{\"blake3\":\"{digest}\"}}\n");
    }
    let Ok(file) = state_file::read(&text) else { return };
    let _windows = state_file::windows(&file.state);
    let source = Source {
        node: file.header.node.clone(),
        coordinator: file.header.coordinator.clone(),
        wall_ms: file.header.exported_wall_ms,
    };
    let again = state_file::read(&state_file::write(&file.state, &source));
    let again = again.expect("what was read can be exported");
    let mut kept = file.state;
    kept.tokens.clear();
    assert_eq!(again.state, kept);
}

fn seeds() -> Vec<Vec<u8>> {
    let Ok(node) = "a".parse() else { return Vec::new() };
    let state = ClusterState { cluster_id: 7, ..ClusterState::default() };
    let text = state_file::write(&state, &Source { node, coordinator: None, wall_ms: 5 });
    let body: String = text.split_inclusive('\n').take(2).collect();
    vec![[&[0], text.as_bytes()].concat(), [&[1], body.as_bytes()].concat()]
}
