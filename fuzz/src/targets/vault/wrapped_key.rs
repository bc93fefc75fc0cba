//! Objects that hold the keys of a repository, wrapped with age for somebody.

use age::x25519::Identity;
use std::sync::LazyLock;
use vault::keys::access::recovery_from_text;
use vault::keys::words;
use vault::keys::wrap::{Holder, unwrap, wrap};

use super::sealed::ring;
use crate::Target;
use crate::cursor::Cursor;

pub(crate) const TARGET: Target =
    Target::new("vault-wrapped-key", "keys wrapped for a machine or a person", read, seeds);

/// Whose they are: the secret half is known to everybody.
static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let words = words::encode(&[0x52; 33]);
    recovery_from_text(&words).expect("a recovery key")
});

/// An object that this identity opens.
static WRAPPED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let recipient = IDENTITY.to_public().to_string();
    wrap(ring(), Holder::Recovery, "recovery", &recipient).expect("a recipient").bytes
});

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    match input.byte() % 3 {
        // Anything: whoever can write to the store can wrap keys for us.
        0 => drop(unwrap(&IDENTITY, input.0)),
        1 => {
            let mut bytes = WRAPPED.clone();
            let (at, by) = (u16::from_le_bytes(input.array()), input.byte());
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= by;
            let opened = unwrap(&IDENTITY, &bytes).is_some();
            assert_eq!(opened, by == 0, "byte {at} altered by {by}");
        }
        _ => {
            // A payload of somebody who knows for whom it is.
            let payload = age::encrypt(&IDENTITY.to_public(), input.0).expect("it is wrapped");
            let opened = unwrap(&IDENTITY, &payload).is_some();
            assert_eq!(opened, vault::fuzzing::key_ring(input.0));
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let payload = [&[1], &[9; 16][..], &[8; 32], &[1], &[7; 64]].concat();
    vec![[&[0], &WRAPPED[..]].concat(), vec![1, 200, 0, 1], [&[2], &payload[..]].concat()]
}
