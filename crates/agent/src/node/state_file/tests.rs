use model::state::{TokenRecord, TokenRole};
use model::vault::{BackupRecord, ChainHead, Digest, ProofRecord, RepositoryId, SourceNews};
use model::{ClusterMs, ReplicaId};

use super::*;

const SPEC: &str = r#"
[cluster]
name = "exchange-a"
profile = "lan"
[[node]]
name = "a"
links = ["10.1.0.1", "10.2.0.1"]
[[node]]
name = "b"
links = ["10.1.0.2", "10.2.0.2"]
[[resource]]
name = "gateway"
kind = "process"
command = ["/usr/local/bin/gateway"]
mode = "active-passive"
health = [{ tcp = "127.0.0.1:9001", every_ms = 100, failures = 3 }]
[[resource]]
name = "gateway-address"
kind = "address"
address = "10.1.0.100/24"
with = "gateway"
"#;

/// A cluster with something of every kind that its state can hold.
fn state() -> ClusterState {
    use model::command::{Command, Entry};
    use model::operation::Scope;
    use model::report::{Evidence, EvidenceGround, Failure};
    use model::state::{FailureKey, Genesis, JoinRequest, MemberRole};
    let spec = config::parse(SPEC, "cluster.toml").spec.expect("a sound specification");
    let mut state = ClusterState::default();
    let gateway: model::ResourceName = "gateway".parse().unwrap();
    let a: NodeName = "a".parse().unwrap();
    let first = JoinRequest {
        node: a.clone(),
        role: MemberRole::Voter,
        token: None,
        datagram_key: [7; 32],
    };
    let epoch = |counter| model::Epoch { generation: 3, counter };
    let expires = ClusterMs(1_000_000);
    let (hash, role) = ([9; 32], TokenRole::Voter);
    let token = TokenRecord { hash, role, node: None, expires, used: false };
    let evidence = Some(Evidence {
        resource: gateway.clone(),
        epoch: epoch(1),
        replica: ReplicaId(1),
        guard: Some(5),
        ground: EvidenceGround::Empty,
        age_us: 12,
    });
    let assign = |previous, new: u64, evidence| Command::Assign {
        resource: gateway.clone(),
        node: a.clone(),
        replica: ReplicaId(1),
        previous,
        epoch: epoch(new),
        evidence,
    };
    let repository = RepositoryId([3; 16]);
    let head = |number: u8| ChainHead { number: number.into(), hash: Digest([number; 32]) };
    let newest = BackupRecord {
        number: 6,
        root: Digest([6; 32]),
        position: "0/3000148 on timeline 1".to_owned(),
        host: "h".to_owned(),
        begun_ms: -1,
        ended_ms: i64::MAX,
    };
    let proven = Some(ProofRecord { number: 6, at_ms: 1, took_ms: 2 });
    let news = SourceNews { source: "/srv \"\u{1F980}".to_owned(), newest: Some(newest), proven };
    let commands = vec![
        Command::Genesis(Genesis {
            cluster_id: u128::MAX - 5,
            generation: 3,
            spec,
            text: SPEC.to_owned(),
            authorities: vec!["PEM".to_owned()],
            first,
        }),
        Command::AddToken { token },
        assign(model::Epoch::default(), 1, None),
        Command::Failed {
            resource: gateway.clone(),
            node: a.clone(),
            key: FailureKey { replica: ReplicaId(1), boot: 1, number: 1 },
            epoch: Some(epoch(1)),
            failure: Failure::Exited { status: Some(1), signal: None },
            ban_until: Some(ClusterMs(900_000)),
            hold_until: None,
        },
        assign(epoch(1), 2, evidence),
        Command::Quarantine { resource: gateway.clone() },
        Command::Maintenance { scope: Scope::Cluster, until: ClusterMs(800_000) },
        Command::Absence { replica: ReplicaId(1), request: 1, boot: 1, for_ms: 10_000 },
        Command::Renounce { term: 4, candidate: ReplicaId(1) },
        Command::RecordHead {
            repository,
            previous: None,
            head: head(8),
            by: "a".to_owned(),
            sources: vec![news],
        },
        Command::NoteFork { repository, found: head(7), known: head(8), by: "b".to_owned() },
    ];
    for (n, command) in commands.into_iter().enumerate() {
        let (by, now, wall_ms) = (ReplicaId(1), ClusterMs(n as u64), 1_790_000_000_000);
        let reasons = vec![model::Reason::Asked { by: "ann \"\n\u{1F980}".to_owned() }];
        let entry = Entry { by, now, wall_ms, request: None, command: command.clone(), reasons };
        let applied = brain::cluster::apply(&mut state, n as u64 + 1, &entry);
        assert_eq!(applied, brain::cluster::Applied::Done, "{command:?}");
    }
    state
}

fn source() -> Source {
    let (node, coordinator) = ("a".parse().unwrap(), Some("b".parse().unwrap()));
    Source { node, coordinator, wall_ms: 1_790_000_000_500 }
}

#[test]
fn what_is_written_is_read_back_whole_but_for_tokens() {
    let state = state();
    assert_eq!(state.tokens.len(), 1);
    let file = read(&write(&state, &source())).unwrap();
    assert_eq!(file.state, ClusterState { tokens: Default::default(), ..state.clone() });
    let header = &file.header;
    assert_eq!((header.generation, header.index), (3, state.index));
    assert_eq!(header.cluster_id, format!("{:032x}", state.cluster_id));
    assert_eq!(header.last_epoch, "3.2");
    assert!(header.contains.iter().any(|what| what.contains("2 resources")), "{header:?}");
    assert!(header.contains.iter().any(|what| what.contains("maintenance of the cluster")));
    assert!(header.omits.iter().any(|what| what.contains("authority's private key")));
}

#[test]
fn no_secret_of_a_token_leaves_the_cluster() {
    let text = write(&state(), &source());
    assert!(!text.contains("9,9,9,9"), "the token's hash");
}

#[test]
fn any_changed_or_missing_byte_is_found() {
    let text = write(&state(), &source());
    let bytes = text.as_bytes();
    // Each place takes a pass over the whole file, so not each byte: a prime step meets all parts.
    for at in (0..bytes.len()).step_by(41).chain(bytes.len() - 80..bytes.len()) {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        if let Ok(changed) = String::from_utf8(changed) {
            assert!(read(&changed).is_err(), "byte {at} of {}", bytes.len());
        }
        assert!(read(&text[..text.floor_char_boundary(at)]).is_err(), "cut at {at}");
    }
    assert!(read(&format!("{text}x")).is_err());
}

#[test]
fn what_is_something_else_is_called_so() {
    for other in ["", "{}", "# a\n", "{\"format\":\"tar\",\"version\":1}\n"] {
        assert!(matches!(read(other), Err(StateFileError::NotOurs(_))), "{other:?}");
    }
    let newer = write(&state(), &source()).replacen("\"version\":1", "\"version\":2", 1);
    assert!(matches!(read(&newer), Err(StateFileError::Version(2))));
}
