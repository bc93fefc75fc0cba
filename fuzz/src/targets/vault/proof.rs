//! Inclusion proofs: as the JSON that somebody was given, and with a signature that holds.

use vault::chain::{Signer, Statement, Subject};
use vault::proof::{PROOF_FORMAT, Proof, ProofStep};

use super::sealed::ring;
use crate::Target;
use crate::cursor::{Cursor, piece};
use crate::round;

const SIGNATURE_CONTEXT: &[u8] = b"backstay vault v1 record\0";
/// Steps of one input.
const STEPS_MAX: u8 = 4;

pub(crate) const TARGET: Target = Target::new("vault-proof", "inclusion proofs", read, seeds);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    if input.byte() % 4 == 0 {
        let mut steps = Vec::new();
        for _ in 0..input.byte() % STEPS_MAX {
            let groups = serde_json::from_slice(input.piece()).unwrap_or_default();
            steps.push(ProofStep { entry: hex(input.piece()), groups });
        }
        drop(signed(input.array(), steps).check());
    } else if let Some(proof) = round::json::<Proof>(input.0) {
        drop(proof.check());
    }
}

/// A proof of these steps up to a root, signed.
fn signed(root: [u8; 32], steps: Vec<ProofStep>) -> Proof {
    let subject = Subject {
        root,
        position: String::new(),
        begun_ms: 1,
        ended_ms: 2,
        parent: None,
        copied: None,
    };
    let statement = Statement {
        version: 1,
        repository: ring().repository,
        seq: 3,
        previous: [0; 32],
        time_ms: 5,
        tool: String::new(),
        epoch: 0,
        signer: Signer::Writer,
        kind: "backup".to_owned(),
        subject: Some(subject),
        details: [0; 32],
    };
    let bytes = statement.encode();
    let signature = ring().current().sign(&[SIGNATURE_CONTEXT, &bytes].concat());
    Proof {
        format: PROOF_FORMAT.to_owned(),
        statement: hex(&bytes),
        signature: hex(&signature),
        key: hex(&ring().current().verifying_key()),
        steps,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seeds() -> Vec<Vec<u8>> {
    let entry = super::canonical::entries().iter().map(vault::tree::canonical).next();
    let entry = entry.unwrap_or_default();
    let built = [&[0, 1][..], &piece(b"[]"), &piece(&entry)].concat();
    let proof = signed([7; 32], vec![ProofStep { entry: hex(&entry), groups: Vec::new() }]);
    let text = serde_json::to_vec(&proof).unwrap_or_default();
    vec![built, [&[1], &text[..]].concat()]
}
