//! Sealed datagrams: as they come from the wire, and with a header and payload of the input's
//! choosing under the right key, after which nothing may be accepted twice.

use std::cell::RefCell;
use std::collections::BTreeMap;

use agent::identity::{ClusterId, DatagramKey};
use agent::net::seal::{HEADER, Keys, PAYLOAD_MAX, TAG};
use agent::net::{Counters, Opener, Sealer};

use crate::Target;
use crate::cursor::Cursor;

pub(crate) const TARGET: Target =
    Target::new("datagram", "sealed datagrams, before and behind the seal", read, seeds)
        .input(2_048);

const CLUSTER: ClusterId = ClusterId([9; 16]);

struct Pair {
    sealer: Sealer,
    opener: Opener,
    sealed: Vec<u8>,
}

impl Pair {
    fn new() -> Pair {
        let (mine, yours) = (DatagramKey::generate(), DatagramKey::generate());
        let keys: Keys = BTreeMap::from([(1, mine.public()), (2, yours.public())]);
        let mut sealer = Sealer::new(CLUSTER, 1, 7);
        let mut opener = Opener::new(CLUSTER, 2, Counters::default());
        assert!(sealer.set_peers(&mine, &keys).is_empty(), "keys that were made are usable");
        assert!(opener.set_peers(&yours, &keys).is_empty(), "keys that were made are usable");
        Pair { sealer, opener, sealed: Vec::new() }
    }
}

thread_local! {
    static PAIR: RefCell<Pair> = RefCell::new(Pair::new());
}

fn read(input: &[u8]) {
    PAIR.with_borrow_mut(|pair| {
        let mut input = Cursor(input);
        match input.byte() % 3 {
            0 => assert!(pair.opener.open(input.0).is_err(), "nobody guesses a tag"),
            1 => {
                let link = input.byte();
                sealed(pair, link, input.0);
            }
            _ => {
                let (link, at, with) = (input.byte() % 2, input.array::<2>(), input.byte());
                flipped(pair, link, usize::from(u16::from_le_bytes(at)), with, input.0);
            }
        }
    });
}

/// What was sealed is opened once, whatever it is; a link or length that can't be is refused.
fn sealed(pair: &mut Pair, link: u8, payload: &[u8]) {
    let Pair { sealer, opener, sealed } = pair;
    if sealer.seal(2, link, payload, sealed).is_err() {
        assert!(payload.len() > PAYLOAD_MAX || usize::from(link) >= agent::net::seal::LINKS_MAX);
        return;
    }
    let opened = opener.open(sealed).expect("what was sealed is opened");
    assert_eq!((opened.sender, opened.link, opened.payload), (1, link, payload));
    assert!(opener.open(sealed).is_err(), "and never again");
}

/// One changed bit is noticed, wherever it is.
fn flipped(pair: &mut Pair, link: u8, at: usize, with: u8, payload: &[u8]) {
    let payload = &payload[..payload.len().min(PAYLOAD_MAX)];
    let Pair { sealer, opener, sealed } = pair;
    sealer.seal(2, link, payload, sealed).expect("it fits");
    let at = at % sealed.len();
    assert_eq!(sealed.len(), HEADER + payload.len() + TAG);
    sealed[at] ^= with | 1;
    assert!(opener.open(sealed).is_err(), "a changed byte {at} is noticed");
}

fn seeds() -> Vec<Vec<u8>> {
    let mut raw = vec![0];
    raw.extend_from_slice(b"BS\x01\x00");
    raw.extend_from_slice(&CLUSTER.0[..4]);
    raw.extend_from_slice(&1u64.to_be_bytes());
    raw.extend_from_slice(&8u64.to_be_bytes());
    raw.extend_from_slice(&[0; 8]);
    raw.extend_from_slice(&1u64.to_be_bytes());
    raw.extend_from_slice(&[5; 40]);
    let sealed = [&[1, 0][..], b"payload"].concat();
    let flipped = [&[2, 0, 40, 0, 1][..], b"payload"].concat();
    vec![raw, sealed, flipped]
}
