//! Messages between nodes over mutual TLS, on loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::identity::{Credential, NodeKey, Role, TrustBundle, Validity, wall_s};
use agent::net::tls::PEER_PROTOCOL;
use agent::net::{
    Counters, DialMap, Generations, Local, OnSuperseded, Peer, PeerOptions, Peers, Port, Refused,
    Sent, Tls, Undelivered,
};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use crate::support::{Issuer, attack, soon, until};

const STALL: Duration = Duration::from_millis(600);

struct Node {
    peers: Peers,
    name: String,
    replica: u64,
    received: UnboundedReceiver<(u64, Bytes)>,
    counters: Counters,
    tls: Arc<Tls>,
    members: Arc<Mutex<BTreeSet<(String, u64)>>>,
    generation: Arc<AtomicU64>,
    superseded: Arc<AtomicU64>,
}

impl Node {
    fn start(credential: &Credential, replica: u64, listen: &[&str]) -> Node {
        Node::start_with(credential, replica, listen, DialMap::default())
    }

    fn start_on(credential: &Credential, replica: u64, port: u16) -> Node {
        let listen = vec![SocketAddr::new("127.0.0.1".parse().unwrap(), port)];
        Node::start_at(credential, replica, listen, DialMap::default())
    }

    fn start_with(credential: &Credential, replica: u64, listen: &[&str], dial: DialMap) -> Node {
        let listen = listen.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
        Node::start_at(credential, replica, listen, dial)
    }

    fn start_at(
        credential: &Credential,
        replica: u64,
        listen: Vec<SocketAddr>,
        dial: DialMap,
    ) -> Node {
        let (sender, received) = unbounded_channel();
        let counters = Counters::default();
        let known = [("a", 1), ("b", 2), ("c", 3)].map(|(name, id)| (name.to_string(), id));
        let members = Arc::new(Mutex::new(BTreeSet::from(known)));
        let asked = Arc::clone(&members);
        let generation: Arc<AtomicU64> = Arc::default();
        let heard: Arc<AtomicU64> = Arc::default();
        let hears = Arc::clone(&heard);
        let superseded: OnSuperseded = Arc::new(move |higher| hears.store(higher, SeqCst));
        let options = PeerOptions {
            stall: STALL,
            handshake: Duration::from_secs(5),
            dial,
            belongs: Arc::new(move |name, replica| {
                asked.lock().unwrap().contains(&(name.to_string(), replica))
            }),
            counters: counters.clone(),
            generations: Generations { mine: Arc::clone(&generation), superseded },
        };
        let tls = Arc::new(Tls::new(credential).unwrap());
        let peers = Peers::start(
            Handle::current(),
            Local { replica, listen },
            Arc::clone(&tls),
            options,
            Arc::new(move |from, message| drop(sender.send((from, message)))),
        )
        .unwrap();
        let name = credential.caller().name.to_string();
        let superseded = heard;
        Node { peers, name, replica, received, counters, tls, members, generation, superseded }
    }

    fn as_peer(&self) -> (u64, Peer) {
        self.at(self.peers.addresses())
    }

    fn at(&self, addresses: &[SocketAddr]) -> (u64, Peer) {
        let name = self.name.parse().unwrap();
        (self.replica, Peer { name, addresses: addresses.to_vec() })
    }

    async fn receive(&mut self) -> (u64, Bytes) {
        soon("a message arrives", self.received.recv()).await.unwrap()
    }

    /// Whether the last error with a peer says this.
    fn told_of(&self, peer: u64, words: &str) -> bool {
        let stats = self.peers.stats().remove(&peer).unwrap();
        stats.last_error.is_some_and(|error| error.contains(words))
    }

    async fn refused(&self, reason: Refused) {
        let what = format!("a connection is refused for {reason}");
        until(&what, || self.counters.connections_refused(Port::Peer, reason) > 0).await;
    }
}

fn text(message: &str) -> Bytes {
    Bytes::copy_from_slice(message.as_bytes())
}

#[tokio::test]
async fn two_nodes_exchange_messages_in_order() {
    let issuer = Issuer::new();
    let mut a = Node::start(&issuer.credential(Role::Voter, "a"), 1, &["127.0.0.1"]);
    let mut b = Node::start(&issuer.credential(Role::Witness, "b"), 2, &["127.0.0.1"]);
    a.peers.set_peers(&BTreeMap::from([b.as_peer()]));
    b.peers.set_peers(&BTreeMap::from([a.as_peer()]));
    for n in 0..100 {
        assert_eq!(a.peers.send(2, text(&format!("to b {n}"))), Sent::Queued);
        assert_eq!(b.peers.send(1, text(&format!("to a {n}"))), Sent::Queued);
    }
    for n in 0..100 {
        assert_eq!(b.receive().await, (1, text(&format!("to b {n}"))));
        assert_eq!(a.receive().await, (2, text(&format!("to a {n}"))));
    }
    until("both sides count", || {
        let stats = &a.peers.stats()[&2];
        stats.connected() && stats.inbound && stats.sent == 100 && stats.received == 100
    })
    .await;
    let nobody = a.peers.send(9, text("nobody"));
    assert_eq!(nobody, Sent::Dropped(Undelivered::UnknownPeer));
}

#[tokio::test]
async fn a_large_message_arrives_whole_and_small_ones_pass_it() {
    let issuer = Issuer::new();
    let a = Node::start(&issuer.credential(Role::Voter, "a"), 1, &["127.0.0.1"]);
    let mut b = Node::start(&issuer.credential(Role::Voter, "b"), 2, &["127.0.0.1"]);
    let large: Bytes = (0..24_u32 << 20).map(|n| (n % 251) as u8).collect();
    a.peers.set_peers(&BTreeMap::from([b.as_peer()]));
    assert_eq!(a.peers.send(2, large.clone()), Sent::Queued);
    assert_eq!(a.peers.send(2, text("vote")), Sent::Queued);
    assert_eq!(b.receive().await, (1, text("vote")), "queued later, arrives first");
    assert!(b.receive().await == (1, large));
}

/// A relay between two nodes that can be cut as a network is: bytes stop, nothing is closed.
struct Relay {
    address: SocketAddr,
    cut: tokio::sync::watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Relay {
    async fn start(ip: &str, to: SocketAddr) -> Relay {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, watched) = tokio::sync::watch::channel(false);
        let task = tokio::spawn(async move {
            let mut pairs = tokio::task::JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut watched = watched.clone();
                pairs.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(to).await else { return };
                    let copy = tokio::io::copy_bidirectional(&mut near, &mut far);
                    tokio::select! {
                        _ = copy => return,
                        _ = watched.wait_for(|cut| *cut) => {}
                    }
                    // Holds both ends open and silent.
                    std::future::pending::<()>().await;
                });
            }
        });
        Relay { address, cut, task }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_silent_link_is_given_up_for_the_next() {
    let issuer = Issuer::new();
    let a = Node::start(&issuer.credential(Role::Voter, "a"), 1, &["127.0.0.1"]);
    let mut b = Node::start(&issuer.credential(Role::Voter, "b"), 2, &["127.0.0.1", "127.0.0.2"]);
    let first = Relay::start("127.0.0.3", b.peers.addresses()[0]).await;
    let second = Relay::start("127.0.0.4", b.peers.addresses()[1]).await;
    a.peers.set_peers(&BTreeMap::from([b.at(&[first.address, second.address])]));
    a.peers.send(2, text("one"));
    assert_eq!(b.receive().await, (1, text("one")));
    assert_eq!(a.peers.stats()[&2].link, Some(0));

    first.cut.send_replace(true);
    until("the second link is in use", || a.peers.stats()[&2].link == Some(1)).await;
    a.peers.send(2, text("two"));
    assert_eq!(b.receive().await, (1, text("two")));
    let stats = a.peers.stats()[&2].clone();
    assert_eq!((stats.connects, stats.last_error.is_some()), (2, true));

    second.cut.send_replace(true);
    drop(first);
    drop(second);
    until("no link is left", || !a.peers.stats()[&2].connected()).await;
    a.peers.set_peers(&BTreeMap::from([b.as_peer()]));
    a.peers.send(2, text("three"));
    assert_eq!(b.receive().await, (1, text("three")), "new addresses are used at once");
}

/// Passes bytes on, a few at a time.
async fn trickle(from: &mut (impl AsyncReadExt + Unpin), to: &mut (impl AsyncWriteExt + Unpin)) {
    let mut buffer = [0; 16 << 10];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        tokio::time::sleep(STALL / 8).await;
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_slow_link_is_kept_as_long_as_anything_moves() {
    let issuer = Issuer::new();
    let a = Node::start(&issuer.credential(Role::Voter, "a"), 1, &["127.0.0.1"]);
    let mut b = Node::start(&issuer.credential(Role::Voter, "b"), 2, &["127.0.0.1"]);
    let listener = TcpListener::bind("127.0.0.5:0").await.unwrap();
    let (relay, to) = (listener.local_addr().unwrap(), b.peers.addresses()[0]);
    let relaying = tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(to).await.unwrap();
        let ((mut near_in, mut near_out), (mut far_in, mut far_out)) =
            (near.into_split(), far.into_split());
        tokio::join!(trickle(&mut near_in, &mut far_out), trickle(&mut far_in, &mut near_out));
    });
    // One part of this takes longer than a stall may, and so does the whole by far.
    let large = Bytes::from(vec![5; 512 << 10]);
    a.peers.set_peers(&BTreeMap::from([b.at(&[relay])]));
    assert_eq!(a.peers.send(2, large.clone()), Sent::Queued);
    assert!(b.receive().await == (1, large));
    assert_eq!(a.peers.stats()[&2].connects, 1);
    relaying.abort();
}

#[tokio::test]
async fn a_peer_that_restarts_is_found_again() {
    let issuer = Issuer::new();
    let a = Node::start(&issuer.credential(Role::Voter, "a"), 1, &["127.0.0.1"]);
    let credential = issuer.credential(Role::Voter, "b");
    let mut b = Node::start(&credential, 2, &["127.0.0.1"]);
    a.peers.set_peers(&BTreeMap::from([b.as_peer()]));
    a.peers.send(2, text("one"));
    assert_eq!(b.receive().await, (1, text("one")));
    let port = b.peers.addresses()[0].port();
    drop(b);
    until("a notices", || !a.peers.stats()[&2].connected()).await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "nobody listens any more");
    let mut b = Node::start_on(&credential, 2, port);
    a.peers.send(2, text("two"));
    assert_eq!(b.receive().await, (1, text("two")));
}

#[tokio::test]
async fn a_dial_map_replaces_stated_addresses() {
    let issuer = Issuer::new();
    let mut b = Node::start(&issuer.credential(Role::Voter, "b"), 2, &["127.0.0.1"]);
    let mut dial = DialMap::default();
    dial.peer.insert(("b".parse().unwrap(), 0), b.peers.addresses()[0]);
    let a = Node::start_with(&issuer.credential(Role::Voter, "a"), 1, &["127.0.0.1"], dial);
    let unreachable = "127.0.0.9:9".parse().unwrap();
    a.peers.set_peers(&BTreeMap::from([b.at(&[unreachable])]));
    a.peers.send(2, text("through the relay"));
    assert_eq!(b.receive().await, (1, text("through the relay")));
}

#[tokio::test]
async fn whoever_has_no_business_on_the_peer_port_is_refused_and_counted() {
    let issuer = Issuer::new();
    let b = Node::start(&issuer.credential(Role::Voter, "b"), 2, &["127.0.0.1"]);
    let cases = [
        (issuer.credential(Role::Operator, "a"), Refused::Role),
        (issuer.credential(Role::Viewer, "a"), Refused::Role),
        (issuer.credential_within(Role::Voter, "a", tomorrow()), Refused::NotYet),
        (Issuer::new().credential(Role::Voter, "a"), Refused::Cluster),
        (Issuer::of(issuer.cluster).credential(Role::Voter, "a"), Refused::Authority),
    ];
    for (credential, reason) in cases {
        attack(b.peers.addresses()[0], Some(&credential), PEER_PROTOCOL).await.unwrap_err();
        b.refused(reason).await;
    }
    attack(b.peers.addresses()[0], None, PEER_PROTOCOL).await.unwrap_err();
    b.refused(Refused::NoCertificate).await;
    for name in ["stranger", "c"] {
        let before = b.counters.connections_refused(Port::Peer, Refused::Replica);
        let a = Node::start(&issuer.credential(Role::Voter, name), 1, &["127.0.0.1"]);
        a.peers.set_peers(&BTreeMap::from([b.as_peer()]));
        until(name, || b.counters.connections_refused(Port::Peer, Refused::Replica) > before).await;
        assert!(!a.peers.stats()[&2].connected(), "{name}");
    }
}

fn tomorrow() -> Validity {
    let now = wall_s();
    Validity { begins_s: now + 86_400, ends_s: now + 2 * 86_400 }
}

#[tokio::test]
async fn a_node_does_not_speak_to_one_that_is_not_the_expected() {
    let (issuer, elsewhere) = (Issuer::new(), Issuer::new());
    let a = Node::start(&issuer.credential(Role::Voter, "a"), 1, &["127.0.0.1"]);
    for (credential, words) in [
        (issuer.credential(Role::Voter, "c"), "its certificate says c"),
        (elsewhere.credential(Role::Voter, "b"), "is for cluster"),
        (Issuer::of(issuer.cluster).credential(Role::Voter, "b"), "not believed here"),
    ] {
        let mut other = Node::start(&credential, 2, &["127.0.0.1"]);
        other.name = "b".to_string();
        a.peers.set_peers(&BTreeMap::from([other.as_peer()]));
        until(words, || a.told_of(2, words)).await;
        assert!(other.received.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_removed_node_is_cut_off_while_connected() {
    let issuer = Issuer::new();
    let a = Node::start(&issuer.credential(Role::Voter, "a"), 1, &["127.0.0.1"]);
    let mut b = Node::start(&issuer.credential(Role::Voter, "b"), 2, &["127.0.0.1"]);
    a.peers.set_peers(&BTreeMap::from([b.as_peer()]));
    a.peers.send(2, text("one"));
    assert_eq!(b.receive().await, (1, text("one")));
    b.members.lock().unwrap().remove(&("a".to_string(), 1));
    b.refused(Refused::Replica).await;
    until("a is told", || a.told_of(2, "the cluster has no")).await;
}

#[tokio::test]
async fn a_renewed_certificate_is_used_for_new_connections() {
    let issuer = Issuer::new();
    let mut b = Node::start(&issuer.credential(Role::Voter, "b"), 2, &["127.0.0.1"]);
    let stale = Issuer::of(issuer.cluster).credential(Role::Voter, "a");
    let stale = Credential::new(
        issuer.bundle(),
        &stale.chain_pem(),
        NodeKey::from_pem(&stale.key().to_pem()).unwrap(),
    );
    let tls = Arc::new(Tls::new(&stale.unwrap()).unwrap());
    let options = PeerOptions {
        stall: STALL,
        handshake: Duration::from_secs(5),
        dial: DialMap::default(),
        belongs: Arc::new(|_, _| true),
        counters: Counters::default(),
        generations: Generations::default(),
    };
    let local = Local { replica: 1, listen: vec!["127.0.0.1:0".parse().unwrap()] };
    let on_message = Arc::new(|_, _| ());
    let peers =
        Peers::start(Handle::current(), local, Arc::clone(&tls), options, on_message).unwrap();
    peers.set_peers(&BTreeMap::from([b.as_peer()]));
    b.refused(Refused::Authority).await;
    tls.replace(&issuer.credential(Role::Voter, "a")).unwrap();
    peers.send(2, text("renewed"));
    assert_eq!(b.receive().await, (1, text("renewed")));
}

/// The data path does not end by a date: membership is asked instead, at every hello.
#[tokio::test]
async fn a_member_whose_certificate_ran_out_takes_part_and_nobody_else_does() {
    let issuer = Issuer::new();
    let a = Node::start(&issuer.expired(Role::Voter, "a"), 1, &["127.0.0.1"]);
    let mut b = Node::start(&issuer.expired(Role::Witness, "b"), 2, &["127.0.0.1"]);
    a.peers.set_peers(&BTreeMap::from([b.as_peer()]));
    a.peers.send(2, text("one"));
    assert_eq!(b.receive().await, (1, text("one")));
    for (role, refused) in [
        (Role::Operator, Refused::Role),
        (Role::Viewer, Refused::Role),
        (Role::Voter, Refused::Replica),
    ] {
        let before = b.counters.connections_refused(Port::Peer, refused);
        let stranger = Node::start(&issuer.expired(role, "stranger"), 9, &["127.0.0.1"]);
        stranger.peers.set_peers(&BTreeMap::from([b.as_peer()]));
        until("refused", || b.counters.connections_refused(Port::Peer, refused) > before).await;
        assert!(!stranger.peers.stats()[&2].connected(), "{role}");
    }
    // Nor is its word taken for a generation.
    b.generation.store(7, SeqCst);
    let higher = Node::start(&issuer.expired(Role::Voter, "c"), 3, &["127.0.0.1"]);
    higher.generation.store(8, SeqCst);
    higher.peers.set_peers(&BTreeMap::from([b.as_peer()]));
    b.refused(Refused::Generation).await;
    assert_eq!(b.superseded.load(SeqCst), 0);
}

/// Connections of those who renewed in time are not the old authority's: they go on.
#[tokio::test]
async fn what_rests_on_the_new_authority_outlives_the_old_one() {
    let old = Issuer::new();
    let new = Issuer::of(old.cluster);
    let both = old.bundle().with(new.authority.certificate().clone()).unwrap();
    let renewed = |name: &str, bundle: &TrustBundle| {
        let key = NodeKey::generate().unwrap();
        let chain = new.chain(Role::Voter, name, &key, Validity::days(wall_s(), 30));
        let endorsement = old.authority.endorse(&new.authority, wall_s()).unwrap();
        Credential::new(bundle.clone(), &format!("{chain}{endorsement}"), key).unwrap()
    };
    let a = Node::start(&renewed("a", &both), 1, &["127.0.0.1"]);
    let mut b = Node::start(&renewed("b", &both), 2, &["127.0.0.1"]);
    a.peers.set_peers(&BTreeMap::from([b.as_peer()]));
    a.peers.send(2, text("one"));
    assert_eq!(b.receive().await, (1, text("one")));
    let changes = a.peers.changes();
    a.tls.replace(&renewed("a", &new.bundle())).unwrap();
    b.tls.replace(&renewed("b", &new.bundle())).unwrap();
    // Several looks at what connections rest on, at each pong.
    for _ in 0..6 {
        a.peers.send(2, text("on"));
        assert_eq!(b.receive().await, (1, text("on")));
        tokio::time::sleep(STALL / 4).await;
    }
    assert_eq!(a.peers.changes(), changes, "the connection was never lost");
}

#[tokio::test]
async fn a_dropped_authority_ends_the_connections_that_rested_on_it() {
    let old = Issuer::new();
    let new = Issuer::of(old.cluster);
    let both = old.bundle().with(new.authority.certificate().clone()).unwrap();
    let under = |issuer: &Issuer, bundle: &TrustBundle, name: &str| {
        let key = NodeKey::generate().unwrap();
        let chain = issuer.chain(Role::Voter, name, &key, Validity::days(wall_s(), 30));
        Credential::new(bundle.clone(), &chain, key).unwrap()
    };
    // a was forgotten in the rotation: its certificate is the old authority's.
    let a = Node::start(&under(&old, &both, "a"), 1, &["127.0.0.1"]);
    let mut b = Node::start(&under(&new, &both, "b"), 2, &["127.0.0.1"]);
    a.peers.set_peers(&BTreeMap::from([b.as_peer()]));
    a.peers.send(2, text("one"));
    assert_eq!(b.receive().await, (1, text("one")));
    b.tls.replace(&under(&new, &new.bundle(), "b")).unwrap();
    b.refused(Refused::Authority).await;
    until("a is cut off", || !a.peers.stats()[&2].connected()).await;
    // And in the other direction: the one that dialled ends it.
    let mut c = Node::start(&under(&old, &both, "c"), 3, &["127.0.0.1"]);
    let d = Node::start(&under(&new, &both, "a"), 1, &["127.0.0.1"]);
    d.peers.set_peers(&BTreeMap::from([c.as_peer()]));
    d.peers.send(3, text("one"));
    assert_eq!(c.receive().await, (1, text("one")));
    d.tls.replace(&under(&new, &new.bundle(), "a")).unwrap();
    until("d refuses c", || d.told_of(3, "not believed here")).await;
}

#[tokio::test]
async fn what_waits_for_an_unreachable_peer_is_bounded() {
    let issuer = Issuer::new();
    let a = Node::start(&issuer.credential(Role::Voter, "a"), 1, &["127.0.0.1"]);
    let name = "b".parse().unwrap();
    let nowhere = Peer { name, addresses: vec!["127.0.0.1:1".parse().unwrap()] };
    a.peers.set_peers(&BTreeMap::from([(2, nowhere)]));
    for _ in 0..agent::net::peers::SMALL_MAX {
        assert_eq!(a.peers.send(2, text("waits")), Sent::Queued);
    }
    assert_eq!(a.peers.send(2, text("newest")), Sent::Displaced(1));
    assert_eq!(a.counters.messages_undelivered(Undelivered::Displaced), 1);
    assert_eq!(a.peers.stats()[&2].dropped, 1);
}

#[tokio::test]
async fn garbage_and_silence_are_refused_while_peers_get_through() {
    let issuer = Issuer::new();
    let mut b = Node::start(&issuer.credential(Role::Voter, "b"), 2, &["127.0.0.1"]);
    let port = b.peers.addresses()[0];
    let mut garbage = TcpStream::connect(port).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    b.refused(Refused::Garbage).await;

    // Strangers from one address take no more than their share, and only until the time is over.
    let mut silent = Vec::new();
    for _ in 0..agent::net::peers::STRANGERS_PER_ADDRESS_MAX + 1 {
        silent.push(TcpStream::connect(port).await.unwrap());
    }
    b.refused(Refused::TooMany).await;
    b.refused(Refused::Timeout).await;
    let a = Node::start(&issuer.credential(Role::Voter, "a"), 1, &["127.0.0.1"]);
    a.peers.set_peers(&BTreeMap::from([b.as_peer()]));
    a.peers.send(2, text("still here"));
    assert_eq!(b.receive().await, (1, text("still here")));
}

#[tokio::test]
async fn one_of_a_lower_generation_is_told_and_nothing_of_it_is_heard() {
    let issuer = Issuer::new();
    let new = Node::start(&issuer.credential(Role::Voter, "a"), 1, &["127.0.0.1"]);
    let old = Node::start(&issuer.credential(Role::Voter, "b"), 2, &["127.0.0.1"]);
    new.generation.store(8, SeqCst);
    old.generation.store(7, SeqCst);
    // It says who it was: replica and name fit, and help nothing.
    old.peers.set_peers(&BTreeMap::from([new.as_peer()]));
    old.peers.send(1, text("vote for me"));
    until("it is told", || old.superseded.load(SeqCst) == 8).await;
    new.refused(Refused::Generation).await;
    assert_eq!(new.superseded.load(SeqCst), 0);
    until("it knows why", || old.told_of(1, "generation 8")).await;
    let mut new = new;
    assert!(new.received.try_recv().is_err(), "nothing of it was heard");
}

#[tokio::test]
async fn one_of_a_lower_generation_that_is_dialled_by_a_voter_stops_too() {
    let issuer = Issuer::new();
    for (role, told) in [(Role::Voter, 8), (Role::Member, 0)] {
        let new = Node::start(&issuer.credential(role, "a"), 1, &["127.0.0.1"]);
        let old = Node::start(&issuer.credential(Role::Voter, "b"), 2, &["127.0.0.1"]);
        new.generation.store(8, SeqCst);
        old.generation.store(7, SeqCst);
        new.peers.set_peers(&BTreeMap::from([old.as_peer()]));
        old.refused(Refused::Generation).await;
        assert_eq!(old.superseded.load(SeqCst), told, "{role}");
    }
}

#[tokio::test]
async fn one_that_joins_and_knows_no_generation_is_let_in() {
    let issuer = Issuer::new();
    let mut new = Node::start(&issuer.credential(Role::Voter, "a"), 1, &["127.0.0.1"]);
    let joining = Node::start(&issuer.credential(Role::Voter, "b"), 2, &["127.0.0.1"]);
    new.generation.store(8, SeqCst);
    joining.peers.set_peers(&BTreeMap::from([new.as_peer()]));
    joining.peers.send(1, text("hello"));
    assert_eq!(new.receive().await, (2, text("hello")));
}
