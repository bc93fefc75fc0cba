use super::*;

const fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_share_of_samples_is_the_smallest_that_so_many_do_not_exceed() {
    let check = |samples: &[u64], share: usize, expect: u64| {
        let samples: Vec<Duration> = samples.iter().map(|ms| at(*ms)).collect();
        assert_eq!(per_mille(&samples, share), at(expect), "{samples:?} {share}");
    };
    let hundred: Vec<u64> = (1..=100).rev().collect();
    check(&[], 990, 0);
    check(&[7], 990, 7);
    check(&[9, 1], 500, 1);
    check(&hundred, 990, 99);
    check(&hundred, 999, 100);
    check(&hundred, 0, 1);
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

fn spec(port: u16) -> ClusterSpec {
    let mut spec = ClusterSpec::default();
    for (name, ip) in [("a", "127.0.0.1"), ("b", "127.0.0.1"), ("c", "127.0.0.1")] {
        // Nobody listens where `c` is said to be: port 9 discards at best.
        let heartbeat = if name == "b" { port } else { 9 };
        let node = model::spec::NodeSpec {
            links: vec![ip.parse().expect("an address")],
            ports: Some(model::spec::Ports { heartbeat, ..Default::default() }),
            ..Default::default()
        };
        spec.nodes.insert(name.parse().expect("a name"), node);
    }
    spec
}

#[test]
fn a_peer_that_answers_is_measured_and_one_that_does_not_is_named() {
    let data = tempfile::tempdir().expect("a directory");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let spec = spec(socket.local_addr().expect("an address").port());
    let answering = std::thread::spawn(move || answer_on(&[socket], at(2_000)));
    let me = "a".parse().expect("a name");
    let found = measure(&spec, &me, data.path(), at(1_000)).expect("it measures");
    let answered = answering.join().expect("it ends");
    assert!(answered > 0, "datagrams were answered");
    let [link] = found.measurement.links.as_slice() else { panic!("{found:?}") };
    assert_eq!((link.from.as_str(), link.to.as_str(), link.link), ("a", "b", 0));
    assert!(link.loss_percent < 100.0 && link.late_p999_ms > 0.0, "{link:?}");
    let missing: Vec<&str> = found.not_measured.iter().map(|n| n.to.as_str()).collect();
    assert_eq!(missing, ["c"]);
    let [node] = found.measurement.nodes.as_slice() else { panic!("{found:?}") };
    assert!(node.fsync_p99_ms > 0.0 && node.fsync_p99_ms <= node.fsync_max_ms, "{node:?}");
    assert_eq!(data.path().read_dir().expect("it is there").count(), 0, "the probe is gone");
    let text = found.measurement.to_toml();
    assert_eq!(config::Measurement::parse(&text).expect("it reads back"), found.measurement);
}

#[test]
fn an_echo_answers_only_what_measures_and_ends_by_itself() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let to = socket.local_addr().expect("an address");
    let other = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    other.send_to(b"something else!!", to).expect("it is sent");
    assert_eq!(answer_on(&[socket], at(50)), 0);
}
