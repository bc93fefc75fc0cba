//! The replicated control state, as a snapshot holds it.

use model::ClusterState;

use crate::Target;
use crate::round;

pub(crate) const TARGET: Target =
    Target::new("control-state", "the control state in a snapshot", read, seeds).memory(32 << 20);

fn read(input: &[u8]) {
    let _state = round::postcard::<ClusterState>(input);
}

fn seeds() -> Vec<Vec<u8>> {
    vec![round::encoded(&ClusterState::default())]
}
