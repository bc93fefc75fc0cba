//! Proof that a request for a certificate comes from the node that joined: made with its datagram
//! key, which rests on no certificate. It is asked for while the authority's key is in wrong
//! hands, when anybody can show any certificate.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use model::ReplicaId;

use crate::identity::{DatagramKey, DatagramPublicKey};

const CONTEXT: &str = "backstay 2026 request for a certificate, proven by the datagram key";
/// Most proofs in one request: one for each that may be asked.
pub(super) const PROOFS_MAX: usize = model::spec::VOTERS_MAX;

/// The proofs of a request, one for each voter that may be asked.
#[must_use]
pub(super) fn of(
    request: &str,
    mine: &DatagramKey,
    voters: &BTreeMap<ReplicaId, [u8; 32]>,
) -> BTreeMap<u64, String> {
    let proof = |(replica, key): (&ReplicaId, &[u8; 32])| {
        let proof = prove(request, mine, &DatagramPublicKey(*key))?;
        Some((replica.0, HEXLOWER.encode(proof.as_bytes())))
    };
    voters.iter().filter_map(proof).take(PROOFS_MAX).collect()
}

/// Whether the node with this datagram key has made the proof for this node.
#[must_use]
pub(super) fn holds(
    request: &str,
    proof: &str,
    mine: &DatagramKey,
    theirs: &DatagramPublicKey,
) -> bool {
    let given = HEXLOWER.decode(proof.as_bytes()).ok();
    let given = given.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).map(blake3::Hash::from);
    // blake3's Hash compares in constant time.
    given.is_some_and(|given| prove(request, mine, theirs) == Some(given))
}

fn prove(request: &str, mine: &DatagramKey, theirs: &DatagramPublicKey) -> Option<blake3::Hash> {
    let shared = mine.shared_with(theirs)?;
    let key = zeroize::Zeroizing::new(blake3::derive_key(CONTEXT, &*shared));
    Some(blake3::keyed_hash(&key, request.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_proven_by_the_key_that_joined_and_no_other() {
        let [node, voter, eve] = [(); 3].map(|()| DatagramKey::generate());
        let voters = BTreeMap::from([(ReplicaId(1), voter.public().0)]);
        let proofs = of("request", &node, &voters);
        let proof = &proofs[&1];
        assert!(holds("request", proof, &voter, &node.public()));
        assert!(!holds("another", proof, &voter, &node.public()), "another request");
        assert!(!holds("request", proof, &voter, &eve.public()), "another node");
        assert!(!holds("request", proof, &eve, &node.public()), "made for another voter");
        let forged = &of("request", &eve, &voters)[&1];
        assert!(!holds("request", forged, &voter, &node.public()), "made by another key");
        assert!(!holds("request", "", &voter, &node.public()));
    }
}
