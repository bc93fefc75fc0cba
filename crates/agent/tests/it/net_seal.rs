//! Sealed datagrams: what is accepted once, and everything that is dropped and counted.

use agent::identity::{ClusterId, DatagramKey};
use agent::net::seal::{DATAGRAM_MAX, HEADER, Keys, LINKS_MAX, PAYLOAD_MAX, SealError, TAG};
use agent::net::{Counters, Dropped, Opener, Sealer};

struct Pair {
    cluster: ClusterId,
    keys: [DatagramKey; 2],
    public: Keys,
    counters: Counters,
    sealer: Sealer,
    opener: Opener,
}

/// Replica 1 sends to replica 2.
fn pair() -> Pair {
    let cluster = ClusterId::random();
    let keys = [DatagramKey::generate(), DatagramKey::generate()];
    let public = Keys::from([(1, keys[0].public()), (2, keys[1].public())]);
    let counters = Counters::default();
    let mut sealer = Sealer::new(cluster, 1, 10);
    let mut opener = Opener::new(cluster, 2, counters.clone());
    assert!(sealer.set_peers(&keys[0], &public).is_empty());
    assert!(opener.set_peers(&keys[1], &public).is_empty());
    Pair { cluster, keys, public, counters, sealer, opener }
}

impl Pair {
    fn seal(&mut self, link: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.sealer.seal(2, link, payload, &mut out).unwrap();
        out
    }

    /// A sealer of replica 1 after another start.
    fn restarted(&self, start: u64) -> Sealer {
        let mut sealer = Sealer::new(self.cluster, 1, start);
        assert!(sealer.set_peers(&self.keys[0], &self.public).is_empty());
        sealer
    }

    fn dropped(&mut self, datagram: &[u8], reason: Dropped) {
        let before = self.counters.datagrams_dropped(reason);
        assert_eq!(self.opener.open(datagram).map(|opened| opened.sender), Err(reason));
        assert_eq!(self.counters.datagrams_dropped(reason), before + 1);
    }

    fn accepted(&mut self, datagram: &[u8], payload: &[u8]) {
        let opened = self.opener.open(datagram).unwrap();
        assert_eq!((opened.sender, opened.payload), (1, payload));
    }
}

#[test]
fn a_datagram_is_accepted_once_and_carries_its_payload() {
    let mut pair = pair();
    for payload in [&b""[..], b"heartbeat", &[9; PAYLOAD_MAX]] {
        let datagram = pair.seal(3, payload);
        assert_eq!(datagram.len(), HEADER + payload.len() + TAG);
        let opened = pair.opener.open(&datagram).unwrap();
        assert_eq!((opened.sender, opened.link, opened.boot.start), (1, 3, 10));
        assert_eq!(opened.payload, payload);
        pair.dropped(&datagram, Dropped::Replay);
    }
}

#[test]
fn datagrams_may_overtake_each_other_and_links_do_not_disturb_each_other() {
    let mut pair = pair();
    let early = pair.seal(0, b"early");
    let slow_link = pair.seal(1, b"slow");
    let later: Vec<_> = (0..200).map(|_| pair.seal(0, b"later")).collect();
    for datagram in later.iter().rev() {
        pair.accepted(datagram, b"later");
    }
    pair.accepted(&early, b"early");
    for _ in 0..1_000 {
        let datagram = pair.seal(0, b"on");
        pair.accepted(&datagram, b"on");
    }
    pair.accepted(&slow_link, b"slow");
    pair.dropped(&early, Dropped::Replay);
    pair.dropped(&slow_link, Dropped::Replay);
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_and_does_no_lasting_harm() {
    let mut pair = pair();
    let genuine = pair.seal(0, b"heartbeat");
    for at in 0..genuine.len() * 8 {
        let mut flipped = genuine.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        assert!(pair.opener.open(&flipped).is_err(), "bit {at}");
    }
    pair.accepted(&genuine, b"heartbeat");
    let counted: u64 = Dropped::ALL.iter().map(|r| pair.counters.datagrams_dropped(*r)).sum();
    assert_eq!(counted, genuine.len() as u64 * 8, "each is counted once");
}

#[test]
fn truncated_and_oversized_datagrams_are_dropped() {
    let mut pair = pair();
    let genuine = pair.seal(0, &[5; PAYLOAD_MAX]);
    for length in 0..genuine.len() {
        assert!(pair.opener.open(&genuine[..length]).is_err(), "{length}");
    }
    let mut longer = genuine.clone();
    longer.push(0);
    pair.dropped(&longer, Dropped::Oversized);
    assert_eq!(genuine.len(), DATAGRAM_MAX);
    pair.accepted(&genuine, &[5; PAYLOAD_MAX]);
    pair.dropped(b"", Dropped::Garbage);
    pair.dropped(&[0xff; 500], Dropped::Garbage);
}

#[test]
fn strangers_and_other_clusters_are_not_heard() {
    let mut ours = pair();
    let stranger = DatagramKey::generate();
    let known = Keys::from([(2, ours.keys[1].public())]);
    let mut out = Vec::new();

    let mut unknown = Sealer::new(ours.cluster, 7, 1);
    unknown.set_peers(&stranger, &known);
    unknown.seal(2, 0, b"hello", &mut out).unwrap();
    ours.dropped(&out, Dropped::UnknownSender);

    let mut impostor = Sealer::new(ours.cluster, 1, 99);
    impostor.set_peers(&stranger, &known);
    impostor.seal(2, 0, b"I am 1", &mut out).unwrap();
    ours.dropped(&out, Dropped::BadTag);

    let mut other = Sealer::new(ClusterId::random(), 1, 99);
    other.set_peers(&ours.keys[0], &known);
    other.seal(2, 0, b"hello", &mut out).unwrap();
    ours.dropped(&out, Dropped::Cluster);

    // The four bytes in the clear are a filter only: the key knows the whole id.
    let mut nearly = ours.cluster;
    nearly.0[15] ^= 1;
    let mut other = Sealer::new(nearly, 1, 99);
    other.set_peers(&ours.keys[0], &known);
    other.seal(2, 0, b"hello", &mut out).unwrap();
    ours.dropped(&out, Dropped::BadTag);

    let genuine = ours.seal(0, b"still heard");
    ours.accepted(&genuine, b"still heard");
}

#[test]
fn a_datagram_cannot_be_turned_round() {
    let mut ours = pair();
    let datagram = ours.seal(0, b"from 1 to 2");
    let mut mine = Opener::new(ours.cluster, 1, ours.counters.clone());
    mine.set_peers(&ours.keys[0], &ours.public);
    assert_eq!(mine.open(&datagram).map(|_| ()), Err(Dropped::UnknownSender));
    let mut renamed = datagram.clone();
    renamed[15] = 2;
    assert_eq!(mine.open(&renamed).map(|_| ()), Err(Dropped::BadTag), "another key each way");
}

#[test]
fn a_restart_is_heard_at_once_and_what_was_sent_before_no_more() {
    let mut pair = pair();
    let before = pair.seal(0, b"before");
    let unseen = pair.seal(0, b"unseen");
    pair.accepted(&before, b"before");
    let mut restarted = pair.restarted(11);
    let mut after = Vec::new();
    restarted.seal(2, 0, b"after", &mut after).unwrap();
    pair.accepted(&after, b"after");
    pair.dropped(&unseen, Dropped::OldBoot);
    pair.dropped(&after, Dropped::Replay);
    let mut set_back = pair.restarted(9);
    set_back.seal(2, 0, b"restored image", &mut after).unwrap();
    pair.dropped(&after, Dropped::OldBoot);
}

#[test]
fn a_forged_later_start_does_not_silence_the_sender() {
    let mut pair = pair();
    let first = pair.seal(0, b"first");
    pair.accepted(&first, b"first");
    let mut forged = pair.seal(0, b"second");
    forged[16] = 0xff;
    pair.dropped(&forged, Dropped::BadTag);
    let third = pair.seal(0, b"third");
    pair.accepted(&third, b"third");
}

#[test]
fn what_cannot_be_sent_is_refused_by_its_limit() {
    let mut pair = pair();
    let mut out = Vec::new();
    let large = [0; PAYLOAD_MAX + 1];
    let refused = pair.sealer.seal(2, 0, &large, &mut out);
    assert_eq!(refused, Err(SealError::TooLarge(PAYLOAD_MAX + 1)));
    assert_eq!(pair.sealer.seal(2, LINKS_MAX as u8, b"", &mut out), Err(SealError::Link(8)));
    assert_eq!(pair.sealer.seal(3, 0, b"", &mut out), Err(SealError::UnknownReceiver(3)));
    assert!(out.is_empty());
}

#[test]
fn a_replaced_key_ends_the_old_one() {
    let mut pair = pair();
    let genuine = pair.seal(0, b"old key");
    let replaced = Keys::from([(1, DatagramKey::generate().public())]);
    pair.opener.set_peers(&pair.keys[1], &replaced);
    pair.dropped(&genuine, Dropped::BadTag);
    pair.opener.set_peers(&pair.keys[1], &Keys::new());
    pair.dropped(&genuine, Dropped::UnknownSender);
    let small_order = Keys::from([(1, agent::identity::DatagramPublicKey([0; 32]))]);
    assert_eq!(pair.opener.set_peers(&pair.keys[1], &small_order), [1]);
}
