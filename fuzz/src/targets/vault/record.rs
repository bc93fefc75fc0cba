//! What records of the chain say, behind seal and signature.

use vault::chain::{
    Backup, Body, Copied, Genesis, Head, RunId, SourceKind, State, Statement, Subject,
};
use vault::store::{LEAF_CHARS_MAX, ObjectName};
use vault::tree::Totals;

use crate::Target;
use crate::cursor::Cursor;
use crate::round;

pub(crate) const TARGET: Target =
    Target::new("vault-record", "records of the chain, behind seal and signature", read, seeds)
        .memory(32 << 20);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    match input.byte() % 4 {
        0 => drop(round::postcard::<Statement>(input.0)),
        1 => {
            let Some(body) = round::postcard::<Body>(input.0) else { return };
            assert!(!body.word().is_empty());
            match &body {
                Body::Mark(mark) => mark.doomed.iter().for_each(stays),
                Body::KeyAdded(entry) => stays(&entry.object),
                Body::Checkpoint(state) => {
                    state.keys.iter().for_each(|entry| stays(&entry.object));
                    let _newest = (state.newest(None), state.protected().count());
                }
                _ => {}
            }
        }
        2 => {
            if let Some(name) = round::postcard::<ObjectName>(input.0) {
                stays(&name);
                let _what = (name.record_seq(), name.id());
            }
        }
        _ => {
            if let Some(head) = Head::parse(&input.text()) {
                assert_eq!(Head::parse(&head.to_string()), Some(head));
            }
        }
    }
}

/// Whoever has the keys can name objects, and nothing else.
fn stays(name: &ObjectName) {
    let leaf = name.leaf();
    assert!(!leaf.is_empty() && leaf.len() <= LEAF_CHARS_MAX, "{leaf:?}");
    let plain = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase() || b == b'-';
    assert!(leaf.bytes().all(plain), "{leaf:?}");
}

/// Bodies of several kinds.
pub(super) fn bodies() -> Vec<Body> {
    let genesis = Genesis {
        format: 1,
        verifying_key: [1; 32],
        deletion_key: None,
        wait_ms: 5,
        keys: Vec::new(),
    };
    let run = RunId([2; 16]);
    let subject = Subject {
        root: [3; 32],
        position: String::new(),
        begun_ms: 4,
        ended_ms: 5,
        parent: None,
        copied: Some(Copied { repository: [7; 16], record: 8, time_ms: 9 }),
    };
    let mut bodies = vec![
        Body::Checkpoint(Box::new(State::new(genesis.clone()))),
        Body::Genesis(genesis),
        Body::Begin { run, source: "s".to_owned(), host: "h".to_owned() },
        Body::Swept { mark: 1, deleted: 2, spared: 3 },
    ];
    bodies.extend(super::canonical::entries().into_iter().take(1).map(|top| {
        Body::Backup(Box::new(Backup {
            run,
            source: "s".to_owned(),
            host: "h".to_owned(),
            origin: "/".to_owned(),
            kind: SourceKind::Directory,
            subject: subject.clone(),
            top,
            totals: Totals::default(),
            statistics: Default::default(),
            skipped: Vec::new(),
            skipped_more: 0,
        }))
    }));
    bodies
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> =
        bodies().iter().map(|body| [&[1], &round::encoded(body)[..]].concat()).collect();
    let name = ObjectName::of_record(7);
    seeds.push([&[2], &round::encoded(&name)[..]].concat());
    let head = Head { seq: 5, hash: [6; 32] };
    seeds.push([&[3], head.to_string().as_bytes()].concat());
    seeds
}
