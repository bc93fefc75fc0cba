//! What peers say: reports, operations, answers, and Raft's own messages within.

use kernel::PeerMessage;

use crate::Target;
use crate::targets::cluster::raft_message;

pub(crate) const TARGET: Target =
    Target::new("peer-message", "messages between nodes", read, seeds);

fn read(input: &[u8]) {
    let Ok(message) = PeerMessage::decode(input) else { return };
    let again = PeerMessage::decode(&message.encode());
    assert_eq!(again.as_ref(), Ok(&message));
    if let PeerMessage::Raft { bytes, .. } = message {
        raft_message::read(&bytes);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![PeerMessage::WantAbsence { boot: 1, request: 2, for_ms: 3 }.encode()];
    let raft = |bytes: Vec<u8>| PeerMessage::Raft { bytes, proof: None }.encode();
    seeds.extend(raft_message::seeds().into_iter().map(raft));
    seeds.extend("b".parse().map(|node| {
        let operation = model::Operation::Undrain { node };
        PeerMessage::Operate { number: 1, boot: 2, by: "ops".to_owned(), operation }.encode()
    }));
    seeds
}
