//! What nodes say to each other over the peer connection.

use model::operation::{Operation, Outcome, Refusal};
use model::report::Report;
use model::state::Renounced;
use serde::{Deserialize, Serialize};

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// A message of the log library, with the renounce entry that lets a candidate stand or be
    /// told to stand before promises end.
    Raft {
        /// Its encoding.
        bytes: Vec<u8>,
        /// The proof, where there is one.
        proof: Option<Renounced>,
    },
    /// A member's report, for the coordinator.
    Report(Report),
    /// An operation that the sender took in, for the coordinator.
    Operate {
        /// Names the request at the sender.
        number: u64,
        /// The start count of the sender's agent.
        boot: u64,
        /// Who asks.
        by: String,
        /// What for.
        operation: Operation,
    },
    /// The coordinator's answer, where it doesn't come through the log.
    Answer {
        /// Names the request at the receiver.
        number: u64,
        /// The start count of the receiver's agent when it asked.
        boot: u64,
        /// The answer.
        result: Result<Outcome, Refusal>,
    },
    /// A node wants a longer lease (rule 7).
    WantAbsence {
        /// The start count of the sender's agent.
        boot: u64,
        /// Numbers such requests.
        request: u64,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a peer message")]
pub struct BadMessage;

impl PeerMessage {
    /// The encoding.
    ///
    /// # Panics
    /// Never: every message has an encoding, and memory for it is taken as needed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a message of plain data has an encoding")
    }

    /// Reads an encoding, all of it.
    ///
    /// # Errors
    /// [`BadMessage`] for anything else than one whole message.
    pub fn decode(bytes: &[u8]) -> Result<PeerMessage, BadMessage> {
        match postcard::take_from_bytes(bytes) {
            Ok((message, [])) => Ok(message),
            _ => Err(BadMessage),
        }
    }
}
