//! Health checks of the instances on this node: which run, and what they say.
//!
//! The checks themselves are the drivers'; here is only which instances are asked, and since when.

use drivers::protocol::Event;
use model::state::ClusterState;

/// The running checks.
#[derive(Default)]
pub struct Checks {}

impl Checks {
    /// Takes over the committed specification.
    pub fn specify(&self, _state: &ClusterState) {}

    /// Takes in what the launcher says.
    pub fn on_event(&self, _event: &Event) {}
}
