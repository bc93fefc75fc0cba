//! A new generation places nothing before the leases of the ones before have run out: nobody is
//! left who could say that their instances have stopped.

use alloc::vec::Vec;

use model::Span;
use model::command::Command;
use model::state::ClusterState;

use super::{Coordinator, Decision, Now, Subject};
use crate::plant::Plant;
use crate::pulse::Pulse;

impl Coordinator {
    /// Whether places may be given. Where leases of an earlier generation may run still, this
    /// coordinator waits from its own election on, and says so in the log once that is over: a
    /// successor that does not find it there waits anew.
    pub(super) fn has_waited_out(
        &mut self,
        now: Now,
        state: &ClusterState,
        pulse: &Pulse,
        out: &mut Vec<Decision>,
    ) -> bool {
        let Some(wait) = state.wait_out else { return true };
        if pulse.plants().has(Plant::WaitOutSkipped) {
            return true;
        }
        let Some(since) = pulse.leading_since() else { return false };
        let short = pulse.plants().has(Plant::WaitsOutPresentLease);
        let span = if short { pulse.timers().lease } else { Span::from_ms(wait.ms) };
        let span = span.stretched(pulse.timers().drift_ppm);
        if now.moment >= since + span && !self.pending.contains(&Subject::WaitedOut) {
            let generation = state.generation;
            self.propose(now, Command::WaitedOut { generation }, Vec::new(), out);
        }
        false
    }
}
