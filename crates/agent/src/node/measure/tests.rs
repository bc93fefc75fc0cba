use std::net::UdpSocket;

use super::probe::{Sample, figures};
use super::*;

const fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_share_of_samples_is_the_smallest_that_so_many_do_not_exceed() {
    let check = |samples: &[u64], share: usize, expect: Option<u64>| {
        let samples: Vec<Duration> = samples.iter().map(|ms| at(*ms)).collect();
        assert_eq!(per_mille(&samples, share), expect.map(at), "{samples:?} {share}");
    };
    let hundred: Vec<u64> = (1..=100).rev().collect();
    check(&[], 990, None);
    check(&[7], 990, Some(7));
    check(&[9, 1], 500, Some(1));
    check(&hundred, 990, Some(99));
    check(&hundred, 999, Some(100));
    check(&hundred, 0, Some(1));
}

#[test]
fn loss_lateness_and_silence_follow_from_the_samples() {
    let check = |samples: &[(u64, Option<u64>)], expect: Option<(f64, u64, u64)>| {
        let samples: Vec<Sample> =
            samples.iter().map(|(sent, back)| (at(*sent), back.map(at))).collect();
        let found = figures(&samples).map(|f| (f.loss_percent, f.late_p999, f.silence_max));
        let expect = expect.map(|(loss, late, silence)| (loss, at(late), at(silence)));
        assert_eq!(found, expect, "{samples:?}");
    };
    check(&[], None);
    check(&[(0, None), (10, None)], None);
    check(&[(0, Some(1)), (10, Some(2)), (20, Some(1))], Some((0.0, 2, 11)));
    check(&[(0, Some(1)), (10, None), (20, None), (30, Some(1))], Some((50.0, 1, 30)));
    // Silence counts to the last datagram sent, and from the first.
    check(&[(0, Some(1)), (10, None), (20, None), (30, None)], Some((75.0, 1, 29)));
    check(&[(0, None), (10, None), (20, None), (30, Some(5))], Some((75.0, 5, 35)));
}

/// Node a, and b with a link at each of these ports; nobody listens where c is said to be.
fn spec(ports: &[u16]) -> ClusterSpec {
    let mut spec = ClusterSpec { name: "t".to_string(), ..ClusterSpec::default() };
    let mut add = |name: &str, links: Vec<&str>, heartbeat: u16| {
        let node = model::spec::NodeSpec {
            links: links.iter().map(|ip| ip.parse().expect("an address")).collect(),
            ports: Some(model::spec::Ports { heartbeat, ..Default::default() }),
            ..Default::default()
        };
        spec.nodes.insert(name.parse().expect("a name"), node);
    };
    // Port 9 discards at best.
    add("a", vec!["127.0.0.1"], 9);
    add("c", vec!["127.0.0.1"], 9);
    let links = ["127.0.0.1", "127.0.0.2"];
    add("b", links[..ports.len()].to_vec(), ports[0]);
    spec
}

struct Answering {
    spec: ClusterSpec,
    thread: std::thread::JoinHandle<Result<Answered, MeasureError>>,
}

/// One that calls itself `name` answers at the first link of b.
fn answering(name: &'static str, links: usize, life: Duration) -> Answering {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = socket.local_addr().expect("an address").port();
    let thread = std::thread::spawn(move || {
        let data = tempfile::tempdir().expect("a directory");
        let me = name.parse().expect("a name");
        let answerer = Answerer { me: &me, data: data.path(), sockets: vec![socket] };
        let answered = answerer.run(life);
        assert_eq!(data.path().read_dir().expect("it is there").count(), 0, "the probe is gone");
        answered
    });
    Answering { spec: spec(&[port, port][..links]), thread }
}

fn me() -> NodeName {
    "a".parse().expect("a name")
}

#[test]
fn a_node_that_answers_is_measured_whole_and_one_that_does_not_is_named() {
    let data = tempfile::tempdir().expect("a directory");
    let Answering { spec, thread } = answering("b", 1, at(60_000));
    let contacts = contact(&spec, &me(), at(1_000)).expect("it looks");
    assert_eq!((contacts.answering().len(), contacts.silent().len()), (1, 1));
    let found = contacts.measure(data.path(), at(1_000)).expect("it measures");
    let answered = thread.join().expect("it ends by itself").expect("it answers");
    assert!(answered.complete && answered.datagrams > 0, "{answered:?}");
    let [link] = found.links.as_slice() else { panic!("{found:?}") };
    assert_eq!((link.from.as_str(), link.to.as_str(), link.link), ("a", "b", 0));
    assert!(link.loss_percent < 100.0 && link.late_p999_ms > 0.0, "{link:?}");
    assert_eq!((found.unknown.as_slice(), found.cluster.as_str()), (&["c".to_string()][..], "t"));
    let names: Vec<&str> = found.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["a", "b"], "b says what it measured of itself");
    for node in &found.nodes {
        assert!(node.fsync_p99_ms > 0.0 && node.fsync_p99_ms <= node.fsync_max_ms, "{node:?}");
    }
    assert_eq!(data.path().read_dir().expect("it is there").count(), 0, "the probe is gone");
    assert_eq!(Measurement::parse(&found.to_toml()).expect("it reads back"), found);
}

#[test]
fn a_link_that_carries_nothing_to_a_node_that_answers_elsewhere_loses_everything() {
    let data = tempfile::tempdir().expect("a directory");
    let Answering { spec, thread } = answering("b", 2, at(60_000));
    let contacts = contact(&spec, &me(), at(1_000)).expect("it looks");
    let found = contacts.measure(data.path(), at(300)).expect("it measures");
    thread.join().expect("it ends by itself").expect("it answers");
    let losses: Vec<f64> = found.links.iter().map(|link| link.loss_percent).collect();
    assert!(losses.len() == 2 && losses[0] < 100.0 && losses[1] == 100.0, "{found:?}");
    assert!(found.links[1].silence_max_ms >= 250.0, "{found:?}");
}

#[test]
fn another_node_at_the_addresses_is_told_apart() {
    let data = tempfile::tempdir().expect("a directory");
    let Answering { spec, thread } = answering("x", 1, at(60_000));
    let contacts = contact(&spec, &me(), at(1_000)).expect("it looks");
    let told = contacts.measure(data.path(), at(200)).expect_err("it is x").to_string();
    assert!(told.contains("addresses of b answers x"), "{told}");
    thread.join().expect("it ends by itself").expect("it answers");
}

#[test]
fn what_can_not_be_written_or_listened_on_is_named() {
    let contacts = contact(&spec(&[9]), &me(), at(50)).expect("it looks");
    assert_eq!(contacts.silent().len(), 2);
    let missing = Path::new("/no/such/directory");
    let told = contacts.measure(missing, at(200)).expect_err("there is none").to_string();
    assert!(told.contains("/no/such/directory"), "{told}");
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = taken.local_addr().expect("an address");
    let told = listen(&[address.ip()], address.port()).expect_err("it is taken").to_string();
    assert!(told.contains(&address.to_string()), "{told}");
}

#[test]
fn only_what_measures_is_answered_and_the_end_comes_by_itself() {
    let data = tempfile::tempdir().expect("a directory");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let to = socket.local_addr().expect("an address");
    let other = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    other.send_to(b"something else!!", to).expect("it is sent");
    let answerer = Answerer { me: &me(), data: data.path(), sockets: vec![socket] };
    let answered = answerer.run(at(150)).expect("it ends");
    assert_eq!(answered, Answered { datagrams: 0, complete: false });
}
