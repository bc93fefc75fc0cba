//! A recovery secret split among custodians (Shamir, over GF(256), by vsss-rs), each share as
//! words. Fewer shares than the threshold say nothing about the secret.

use super::access::{identity_bytes, identity_from_bytes};
use super::words::{self, WordsError};
use crate::error::{Result, VaultError};
use age::x25519::Identity;
use vsss_rs::Gf256;
use zeroize::Zeroizing;

/// The most custodians.
pub const SHARES_MAX: u8 = 16;
/// version, set (2), threshold, number, 32 secret bytes.
const SHARE_BYTES: usize = 37;
const SHARE_VERSION: u8 = 0x53;

/// Splits an identity into `shares` texts of which any `threshold` bring it back.
///
/// # Errors
/// Where the numbers make no sense.
pub fn split(identity: &Identity, threshold: u8, shares: u8) -> Result<Vec<Zeroizing<String>>> {
    if threshold < 2 || shares < threshold || shares > SHARES_MAX {
        return Err(VaultError::Keys(format!(
            "{threshold} of {shares} shares cannot be made: the threshold is at least 2, and \
             there are at least as many shares and at most {SHARES_MAX}"
        )));
    }
    let secret = identity_bytes(identity);
    let parts = Gf256::split_array(
        usize::from(threshold),
        usize::from(shares),
        secret.as_slice(),
        vsss_rs::elliptic_curve::rand_core::OsRng,
    )
    .map_err(|e| VaultError::Keys(format!("the key could not be split: {e:?}")))?;
    let set: [u8; 2] = crate::random::bytes();
    let texts = parts.into_iter().map(|part| {
        let part = Zeroizing::new(part);
        let mut payload = Zeroizing::new([0; SHARE_BYTES]);
        payload[..5].copy_from_slice(&[SHARE_VERSION, set[0], set[1], threshold, part[0]]);
        payload[5..].copy_from_slice(&part[1..]);
        words::encode(payload.as_slice())
    });
    Ok(texts.collect())
}

/// Brings the identity back from shares.
///
/// # Errors
/// Naming the share and, within it, the word that is wrong.
pub fn combine(texts: &[Zeroizing<String>]) -> Result<Identity> {
    let mut decoded: Vec<Zeroizing<Vec<u8>>> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let share = words::decode(text, SHARE_BYTES)
            .map_err(|e| WordsError::Meaning(format!("share {}: {e}", index + 1)))?;
        if share[0] != SHARE_VERSION {
            return Err(meaning(format!("text {} is no custodian's share", index + 1)));
        }
        if decoded.iter().any(|d| d[4] == share[4] && d[..4] == share[..4]) {
            return Err(meaning(format!("share {} was given twice", index + 1)));
        }
        if decoded.first().is_some_and(|d| d[..4] != share[..4]) {
            let what = format!("share {} belongs to another splitting than share 1", index + 1);
            return Err(meaning(what));
        }
        decoded.push(share);
    }
    let threshold = decoded.first().map_or(2, |d| usize::from(d[3]));
    if decoded.len() < threshold {
        let found = decoded.len();
        return Err(meaning(format!("{found} shares were given, {threshold} are needed")));
    }
    let mut parts: Vec<Vec<u8>> = decoded.iter().map(|d| d[4..].to_vec()).collect();
    let secret = Gf256::combine_array(&parts).map(Zeroizing::new);
    parts.iter_mut().for_each(zeroize::Zeroize::zeroize);
    let secret =
        secret.map_err(|e| VaultError::Keys(format!("the shares don't combine: {e:?}")))?;
    let secret: Zeroizing<[u8; 32]> = Zeroizing::new(
        secret.as_slice().try_into().map_err(|_| meaning("the shares are short".to_owned()))?,
    );
    Ok(identity_from_bytes(&secret))
}

fn meaning(what: String) -> VaultError {
    VaultError::Words(WordsError::Meaning(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_threshold_of_shares_brings_the_key_back() {
        let identity = Identity::generate();
        let shares = split(&identity, 3, 5).unwrap();
        let public = identity.to_public().to_string();
        for a in 0..5 {
            for b in 0..5 {
                for c in 0..5 {
                    if a == b || b == c || a == c {
                        continue;
                    }
                    let chosen = [shares[a].clone(), shares[b].clone(), shares[c].clone()];
                    assert_eq!(combine(&chosen).unwrap().to_public().to_string(), public);
                }
            }
        }
    }

    #[test]
    fn too_few_repeated_foreign_and_mistyped_shares_are_named() {
        let shares = split(&Identity::generate(), 3, 5).unwrap();
        let foreign = split(&Identity::generate(), 3, 5).unwrap();
        let check = |texts: &[&str], expect: &str| {
            let texts: Vec<_> = texts.iter().map(|t| Zeroizing::new((*t).to_owned())).collect();
            let error = combine(&texts).err().unwrap().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(&[&shares[0], &shares[1]], "2 shares were given, 3 are needed");
        check(&[&shares[0], &shares[1], &shares[0]], "share 3 was given twice");
        check(&[&shares[0], &foreign[1], &shares[2]], "share 2 belongs to another splitting");
        let mut typed: Vec<&str> = shares[1].split(' ').collect();
        typed[9] = if typed[9] == "zoo" { "zone" } else { "zoo" };
        check(&[&shares[0], &typed.join(" "), &shares[2]], "share 2: word 10, `zo");
        assert!(split(&Identity::generate(), 1, 5).is_err());
        assert!(split(&Identity::generate(), 4, 3).is_err());
    }
}
