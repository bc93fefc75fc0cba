//! What a member without a vote may say: its certificate is good for its own replica's reports and
//! acknowledgements, and for nothing that changes the log or tells others what to do.
//!
//! The consensus library believes whoever names a higher term, learner or not, and a coordinator
//! believes what a node forwards of its operators. Voters have to be believed in both; others are
//! not (S9).

use journal::MessageType;
use model::ReplicaId;
use model::operation::Refusal;
use model::state::MemberRole;

use crate::{Kernel, Output, PeerMessage};

impl Kernel {
    /// Whether a replica of its role may say this. One that this node does not know yet may be a
    /// voter: the transport lets in nobody but members, and a log that lags must be helped.
    pub(crate) fn may_say(&self, from: ReplicaId, message: &PeerMessage) -> bool {
        let role = self.state.members.values().find(|m| m.replica == from).map(|m| m.role);
        if role != Some(MemberRole::Member) {
            return true;
        }
        match message {
            PeerMessage::Raft { bytes, .. } => self.is_learners_answer(bytes),
            PeerMessage::Report(_) | PeerMessage::WantAbsence { .. } => true,
            PeerMessage::Operate { .. } | PeerMessage::Answer { .. } => false,
        }
    }

    /// What a learner sends: answers, in no term that this node does not know. A coordinator that
    /// was replaced learns of the later term from those who voted in it.
    fn is_learners_answer(&self, bytes: &[u8]) -> bool {
        let Ok(message) = journal::decode_message(bytes) else { return false };
        let answers = matches!(
            message.msg_type(),
            MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse
        );
        answers && message.term <= self.replica.role().term
    }

    /// Counts what its role forbids. A member's agent may have taken a call of an operator in:
    /// it sends the caller here, who then shows a certificate of its own.
    pub(crate) fn hold_to_role(
        &mut self,
        from: ReplicaId,
        message: PeerMessage,
        out: &mut Vec<Output>,
    ) {
        self.filtered.role += 1;
        if let PeerMessage::Operate { number, boot, .. } = message {
            let coordinator = self.leader.and_then(|l| self.state.node_of(l)).cloned();
            let result = Err(Refusal::NotCoordinator { coordinator });
            out.push(Output::Send(from, PeerMessage::Answer { number, boot, result }));
        }
    }
}
