//! An authority's key that lies sealed in the log, and what is read once it is opened.

use std::sync::OnceLock;

use agent::identity::{Authority, ClusterId, DatagramKey, sealed_key};

use crate::Target;
use crate::cursor::Cursor;

pub(crate) const TARGET: Target =
    Target::new("sealed-key", "an authority's key sealed for a node, and opened", read, seeds);

/// A new authority and the node that its key is sealed for. No outcome rests on which they are.
fn parties() -> &'static (Authority, DatagramKey) {
    static PARTIES: OnceLock<(Authority, DatagramKey)> = OnceLock::new();
    PARTIES.get_or_init(|| {
        let authority = Authority::create(ClusterId([7; 16]), "exchange-a", 1_800_000_000);
        (authority.expect("an authority"), DatagramKey::generate())
    })
}

fn read(input: &[u8]) {
    let (mut input, (authority, node)) = (Cursor(input), parties());
    let certificate = authority.certificate();
    match input.byte() % 2 {
        0 => {
            let mut sealed = input.0.to_vec();
            if let Ok(opened) = sealed_key::open(&sealed, node, certificate) {
                assert_eq!(opened.key_pem(), authority.key_pem(), "nobody else can seal it");
            }
            // One that is real but for the bits that the input turns over.
            let real = sealed_key::seal(authority, &node.public()).expect("it can be sealed");
            sealed.resize(real.len(), 0);
            let changed: Vec<u8> =
                real.iter().zip(sealed).map(|(byte, turned)| byte ^ turned).collect();
            let opened = sealed_key::open(&changed, node, certificate);
            assert_eq!(opened.is_ok(), changed == real, "every bit counts");
        }
        _ => {
            if let Ok(opened) = Authority::from_pem(&certificate.to_pem(), &input.text()) {
                let again = Authority::from_pem(&certificate.to_pem(), &opened.key_pem());
                assert_eq!(again.expect("it is read again").key_pem(), opened.key_pem());
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let (authority, node) = parties();
    let sealed = sealed_key::seal(authority, &node.public()).unwrap_or_default();
    let pem = authority.key_pem();
    vec![
        [&[0][..], &sealed].concat(),
        [&[0; 8][..], &[1]].concat(),
        [&[1], pem.as_bytes()].concat(),
    ]
}
