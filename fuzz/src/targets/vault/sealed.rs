//! The keys that targets seal with: whatever an input says, the seal around it holds.

use std::sync::OnceLock;

use vault::keys::KeyRing;
use vault::seal::{Algorithm, Kind, ObjectCipher, Position};
use vault::store::ObjectName;

/// The repository's keys, the same for all inputs of a run.
pub(super) fn ring() -> &'static KeyRing {
    static RING: OnceLock<KeyRing> = OnceLock::new();
    RING.get_or_init(KeyRing::random)
}

/// An object of sealed parts, each at its position, and its footer with its length behind it.
pub(super) fn object(
    kind: Kind,
    name: &ObjectName,
    parts: &[(u64, &[u8], &[u8])],
    footer: &[u8],
) -> Vec<u8> {
    let algorithm = Algorithm::of_this_processor();
    let (cipher, header) = ObjectCipher::create(ring(), kind, name, algorithm);
    let mut bytes = header.to_vec();
    for (counter, aad, part) in parts {
        let start = bytes.len();
        bytes.extend_from_slice(part);
        cipher.seal(Position::content(*counter), aad, &mut bytes, start);
    }
    let start = bytes.len();
    bytes.extend_from_slice(footer);
    cipher.seal(Position::FOOTER, &[], &mut bytes, start);
    let length = (bytes.len() - start) as u32;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes
}
