//! Authenticated encryption of objects. Every object has a header with a random salt; its key is
//! derived from the epoch's master key, the whole header and the object's name, so a key seals
//! one object only and nonces can simply count. A changed header or a renamed object opens
//! nothing.

use crate::error::{Result, VaultError};
use crate::keys::KeyRing;
use crate::store::ObjectName;
use aws_lc_rs::aead::{
    AES_256_GCM, Aad, Algorithm as Aead, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};

/// Bytes of an object's header.
pub const HEADER_BYTES: usize = 48;
/// Bytes that sealing adds.
pub const TAG_BYTES: usize = 16;
const MAGIC: [u8; 4] = *b"BKVT";
const VERSION: u8 = 1;
const OBJECT_KEY_CONTEXT: &str = "backstay vault v1 object key";

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A record of the chain.
    Record = 1,
    /// A pack of chunks.
    Pack = 2,
    /// An index segment.
    Segment = 3,
    /// A piece of a database's log.
    Wal = 4,
    /// A frame of a spool, which is no part of a repository.
    Spool = 5,
}

/// The cipher of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Where the processor has AES instructions.
    Aes256Gcm = 1,
    /// Elsewhere.
    ChaCha20Poly1305 = 2,
}

impl Algorithm {
    /// The faster one on this processor.
    pub fn of_this_processor() -> Algorithm {
        #[cfg(target_arch = "x86_64")]
        let has_aes = std::arch::is_x86_feature_detected!("aes");
        #[cfg(target_arch = "aarch64")]
        let has_aes = std::arch::is_aarch64_feature_detected!("aes");
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let has_aes = false;
        if has_aes { Algorithm::Aes256Gcm } else { Algorithm::ChaCha20Poly1305 }
    }

    fn aead(self) -> &'static Aead {
        match self {
            Algorithm::Aes256Gcm => &AES_256_GCM,
            Algorithm::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }
}

/// Which message of an object this is; no two share a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// 0 for contents, 1 for the footer.
    pub part: u32,
    /// Within the part.
    pub counter: u64,
}

impl Position {
    /// A message among the contents.
    pub fn content(counter: u64) -> Position {
        Position { part: 0, counter }
    }

    /// The footer.
    pub const FOOTER: Position = Position { part: 1, counter: 0 };

    fn nonce(self) -> Nonce {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.part.to_le_bytes());
        bytes[4..].copy_from_slice(&self.counter.to_le_bytes());
        Nonce::assume_unique_for_key(bytes)
    }
}

/// The key of one object.
pub struct ObjectCipher {
    key: LessSafeKey,
}

impl ObjectCipher {
    /// The cipher of a new object, and the header that it begins with.
    pub fn create(
        ring: &KeyRing,
        kind: Kind,
        name: &ObjectName,
        algorithm: Algorithm,
    ) -> (ObjectCipher, [u8; HEADER_BYTES]) {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC);
        header[4..8].copy_from_slice(&[VERSION, kind as u8, algorithm as u8, 0]);
        header[8..12].copy_from_slice(&ring.epoch().to_le_bytes());
        crate::random::fill(&mut header[16..]);
        let master = &ring.current().master;
        let key = master.derive(OBJECT_KEY_CONTEXT, &[&header, name.to_string().as_bytes()]);
        (ObjectCipher::of_key(algorithm, &key), header)
    }

    /// The cipher of an existing object, from its header.
    ///
    /// # Errors
    /// Where the header is none of ours or of an epoch that the ring does not know.
    pub fn open(
        ring: &KeyRing,
        kind: Kind,
        name: &ObjectName,
        header: &[u8],
    ) -> Result<ObjectCipher> {
        let damaged = |what: &str| VaultError::damaged(name, what);
        let header = header.first_chunk::<HEADER_BYTES>();
        let header = header.ok_or_else(|| damaged("it is too short for a header"))?;
        if header[..4] != MAGIC || header[4] != VERSION || header[5] != kind as u8 {
            return Err(damaged("its header is not that of such an object"));
        }
        let algorithm = match header[6] {
            1 => Algorithm::Aes256Gcm,
            2 => Algorithm::ChaCha20Poly1305,
            _ => return Err(damaged("its header names no cipher that we know")),
        };
        let epoch = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        let keys = ring.at(epoch).ok_or_else(|| VaultError::NewerKey {
            object: name.to_string(),
            epoch,
            known: ring.epoch(),
        })?;
        let name = name.to_string();
        let key = keys.master.derive(OBJECT_KEY_CONTEXT, &[header, name.as_bytes()]);
        Ok(ObjectCipher::of_key(algorithm, &key))
    }

    fn of_key(algorithm: Algorithm, key: &[u8; 32]) -> ObjectCipher {
        let key = UnboundKey::new(algorithm.aead(), key).expect("the key has 32 bytes");
        ObjectCipher { key: LessSafeKey::new(key) }
    }

    /// Seals `buffer[start..]` in place and appends the tag.
    pub fn seal(&self, position: Position, aad: &[u8], buffer: &mut Vec<u8>, start: usize) {
        let tag = self
            .key
            .seal_in_place_separate_tag(position.nonce(), Aad::from(aad), &mut buffer[start..])
            .expect("a message is far below the cipher's limit");
        buffer.extend_from_slice(tag.as_ref());
    }

    /// Opens a sealed message in place; nothing where a single bit differs.
    pub fn unseal<'a>(
        &self,
        position: Position,
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        self.key.open_in_place(position.nonce(), Aad::from(aad), sealed).ok()
    }
}

/// Seals a small object whole.
pub fn seal_object(ring: &KeyRing, kind: Kind, name: &ObjectName, plain: &[u8]) -> Vec<u8> {
    let (cipher, header) = ObjectCipher::create(ring, kind, name, Algorithm::of_this_processor());
    let mut object = Vec::with_capacity(HEADER_BYTES + plain.len() + TAG_BYTES);
    object.extend_from_slice(&header);
    object.extend_from_slice(plain);
    cipher.seal(Position::content(0), &[], &mut object, HEADER_BYTES);
    object
}

/// Opens a small object whole.
///
/// # Errors
/// Where it is not, to the bit, what was sealed under this name.
pub fn open_object(
    ring: &KeyRing,
    kind: Kind,
    name: &ObjectName,
    mut object: Vec<u8>,
) -> Result<Vec<u8>> {
    let cipher = ObjectCipher::open(ring, kind, name, &object)?;
    let plain = cipher.unseal(Position::content(0), &[], &mut object[HEADER_BYTES..]);
    let length = plain
        .ok_or_else(|| VaultError::damaged(name, "it was altered after it was written"))?
        .len();
    object.drain(..HEADER_BYTES);
    object.truncate(length);
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Area;

    fn name(leaf: &str) -> ObjectName {
        ObjectName::new(Area::Chain, leaf).unwrap()
    }

    #[test]
    fn a_sealed_object_opens_whole_or_not_at_all() {
        let ring = KeyRing::random();
        for plain in [&b""[..], b"a record"] {
            let sealed = seal_object(&ring, Kind::Record, &name("1"), plain);
            let open = |n: &str, k, b: Vec<u8>| open_object(&ring, k, &name(n), b);
            assert_eq!(open("1", Kind::Record, sealed.clone()).unwrap(), plain);
            assert!(open("2", Kind::Record, sealed.clone()).is_err(), "renamed");
            assert!(open("1", Kind::Pack, sealed.clone()).is_err(), "of another kind");
            for bit in 0..sealed.len() * 8 {
                let mut altered = sealed.clone();
                altered[bit / 8] ^= 1 << (bit % 8);
                assert!(open("1", Kind::Record, altered).is_err(), "bit {bit}");
            }
            for length in 0..sealed.len() {
                assert!(open("1", Kind::Record, sealed[..length].to_vec()).is_err());
            }
        }
    }

    #[test]
    fn both_ciphers_open_what_they_sealed() {
        let ring = KeyRing::random();
        for algorithm in [Algorithm::Aes256Gcm, Algorithm::ChaCha20Poly1305] {
            let (cipher, header) = ObjectCipher::create(&ring, Kind::Pack, &name("1"), algorithm);
            let mut buffer = b"chunk".to_vec();
            cipher.seal(Position::content(9), b"aad", &mut buffer, 0);
            let opener = ObjectCipher::open(&ring, Kind::Pack, &name("1"), &header).unwrap();
            let mut other = buffer.clone();
            assert!(opener.unseal(Position::content(8), b"aad", &mut other).is_none());
            let plain = opener.unseal(Position::content(9), b"aad", &mut buffer).unwrap();
            assert_eq!(plain, b"chunk");
        }
    }

    #[test]
    fn equal_objects_share_neither_key_nor_bytes() {
        let ring = KeyRing::random();
        for algorithm in [Algorithm::Aes256Gcm, Algorithm::ChaCha20Poly1305] {
            let seal = |leaf: &str| {
                let made = ObjectCipher::create(&ring, Kind::Pack, &name(leaf), algorithm);
                let mut buffer = vec![0; 64];
                made.0.seal(Position::content(0), b"", &mut buffer, 0);
                (made.1, buffer)
            };
            // Of zeros, what is sealed is the key's stream: under one key and nonce it is equal.
            let (first, again, renamed) = (seal("1"), seal("1"), seal("2"));
            assert_ne!(first.0[16..], again.0[16..], "salts");
            for other in [&again, &renamed] {
                let equal = first.1.iter().zip(&other.1).filter(|(a, b)| a == b).count();
                assert!(equal < 16, "{equal} of 80 bytes are equal");
            }
        }
    }

    #[test]
    fn positions_have_one_nonce_each() {
        let of = |part, counter| *Position { part, counter }.nonce().as_ref();
        let all = [(0, 0), (0, 1), (0, 1 << 32), (0, u64::MAX), (1, 0), (1, 1)];
        let nonces: std::collections::BTreeSet<[u8; 12]> =
            all.iter().map(|(part, counter)| of(*part, *counter)).collect();
        assert_eq!(nonces.len(), all.len());
    }

    #[test]
    fn an_older_key_says_that_it_is_old() {
        let old = KeyRing::random();
        let new = old.rotated().unwrap();
        let sealed = seal_object(&new, Kind::Record, &name("1"), b"x");
        let error = open_object(&old, Kind::Record, &name("1"), sealed).unwrap_err();
        assert!(matches!(error, VaultError::NewerKey { epoch: 1, known: 0, .. }));
        let sealed = seal_object(&old, Kind::Record, &name("1"), b"x");
        assert_eq!(open_object(&new, Kind::Record, &name("1"), sealed).unwrap(), b"x");
    }
}
