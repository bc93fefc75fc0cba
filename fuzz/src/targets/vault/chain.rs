//! A whole chain whose seals, signatures and links hold: only what its records say is the
//! input's.

use vault::chain::{Chain, Signer, Statement};
use vault::error::Rememberer;
use vault::seal::{Kind, seal_object};
use vault::store::memory::MemoryStore;
use vault::store::{ObjectName, Store};

use super::sealed::ring;
use crate::Target;
use crate::cursor::{Cursor, piece};
use crate::round;

/// Records of one input.
const RECORDS_MAX: u64 = 4;
const SIGNATURE_CONTEXT: &[u8] = b"backstay vault v1 record\0";

pub(crate) const TARGET: Target =
    Target::new("vault-chain", "chains whose seals and signatures hold", read, seeds)
        .memory(64 << 20);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    let store = MemoryStore::new();
    let mut previous = [0; 32];
    for seq in 0..RECORDS_MAX {
        if input.0.is_empty() {
            break;
        }
        let (choice, word) = (input.byte(), input.piece());
        // Where the numbers go: mostly on, sometimes away.
        let seq = if choice == 0xff { input.u64() } else { seq };
        previous = put(&store, seq, previous, word, input.piece());
    }
    if let Ok(chain) = Chain::read(&store, ring()) {
        assert!(chain.head.seq < RECORDS_MAX || !chain.problems.is_empty() || chain.head.seq > 0);
        let _protected = chain.state.protected().count();
    }
    if let Ok(chain) = Chain::read_all(&store, ring()) {
        let known = chain.head;
        let _whole = (
            chain.require_whole(0, "why"),
            chain.contains(&store, ring(), &known, Rememberer::Machine),
        );
    }
}

fn put(store: &dyn Store, seq: u64, previous: [u8; 32], word: &[u8], body: &[u8]) -> [u8; 32] {
    let details = [&[0; 16], body].concat();
    let statement = Statement {
        version: 1,
        repository: ring().repository,
        seq,
        previous,
        time_ms: 5,
        tool: String::new(),
        epoch: 0,
        signer: Signer::Writer,
        kind: String::from_utf8_lossy(word).into_owned(),
        subject: None,
        details: *blake3::hash(&details).as_bytes(),
    };
    let bytes = statement.encode();
    let signature = ring().current().sign(&[SIGNATURE_CONTEXT, &bytes].concat()).to_vec();
    let name = ObjectName::of_record(seq);
    let stored = round::encoded(&(&bytes, &signature, &details));
    let _made = store.put_new(&name, &seal_object(ring(), Kind::Record, &name, &stored));
    Statement::hash(&bytes)
}

fn seeds() -> Vec<Vec<u8>> {
    let mut bodies = super::record::bodies();
    // The first record of a chain says what it is.
    bodies.swap(0, 1);
    let record = |body: &vault::chain::Body| {
        [&[0][..], &piece(body.word().as_bytes()), &piece(&round::encoded(body))].concat()
    };
    let all: Vec<u8> = bodies.iter().flat_map(record).collect();
    vec![all, bodies.iter().take(1).flat_map(record).collect()]
}
