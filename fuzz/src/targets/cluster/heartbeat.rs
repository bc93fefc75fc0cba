//! The payload of a datagram.

use model::heartbeat::{Ack, Grant, Heartbeat, Promised, Round};
use model::{ReplicaId, Span};

use crate::Target;
use crate::round;

pub(crate) const TARGET: Target =
    Target::new("heartbeat", "the payload of a datagram", read, seeds).input(1_392);

fn read(input: &[u8]) {
    if let Some(heartbeat) = round::postcard::<Heartbeat>(input) {
        let length = round::encoded(&heartbeat).len();
        assert!(length <= agent::net::seal::PAYLOAD_MAX, "any heartbeat fits into a datagram");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let ack = Ack { boot: 3, seq: 9 };
    let plain = Heartbeat {
        sender: ReplicaId(2),
        boot: 3,
        seq: 10,
        term: 4,
        ack: Some(ack),
        round: Some(Round { term: 4, promise: Span::from_ms(300) }),
        promised: Some(Promised { term: 4, round: ack }),
        grant: None,
        lapses: 1,
        stalled: false,
    };
    let bare = Heartbeat { ack: None, round: None, promised: None, ..plain.clone() };
    let _shape: Option<Grant> = plain.grant;
    vec![round::encoded(&plain), round::encoded(&bare)]
}
