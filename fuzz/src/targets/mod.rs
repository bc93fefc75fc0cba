//! The targets, a file each. To add one: its file, and its line in the list.

mod cluster;
mod vault;

use crate::Target;

/// All of them.
pub(crate) static ALL: &[Target] = &[
    cluster::api::TARGET,
    cluster::certificate::TARGET,
    cluster::configuration::TARGET,
    cluster::control_state::TARGET,
    cluster::datagram::TARGET,
    cluster::entry::TARGET,
    cluster::heartbeat::TARGET,
    cluster::join_token::TARGET,
    cluster::launcher::TARGET,
    cluster::local_texts::TARGET,
    cluster::log_files::TARGET,
    cluster::log_record::TARGET,
    cluster::measurement::TARGET,
    cluster::peer_frame::TARGET,
    cluster::peer_message::TARGET,
    cluster::raft_message::TARGET,
    cluster::sealed_key::TARGET,
    cluster::snapshot::TARGET,
    cluster::state_file::TARGET,
    vault::canonical::TARGET,
    vault::chain::TARGET,
    vault::index::TARGET,
    vault::key_texts::TARGET,
    vault::log_pages::TARGET,
    vault::log_piece::TARGET,
    vault::memories::TARGET,
    vault::node::TARGET,
    vault::pack::TARGET,
    vault::postgres::TARGET,
    vault::proof::TARGET,
    vault::record::TARGET,
    vault::schedule::TARGET,
    vault::spool::TARGET,
    vault::wrapped_key::TARGET,
];
