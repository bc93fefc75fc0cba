//! What nodes, operators and programs say to a node, and what a node wrote to its own disk.

pub(super) mod api;
pub(super) mod certificate;
pub(super) mod configuration;
pub(super) mod control_state;
pub(super) mod datagram;
pub(super) mod entry;
pub(super) mod heartbeat;
pub(super) mod join_token;
pub(super) mod launcher;
pub(super) mod local_texts;
pub(super) mod log_files;
pub(super) mod log_record;
pub(super) mod measurement;
pub(super) mod peer_frame;
pub(super) mod peer_message;
pub(super) mod raft_message;
pub(super) mod sealed_key;
pub(super) mod snapshot;
pub(super) mod state_file;
