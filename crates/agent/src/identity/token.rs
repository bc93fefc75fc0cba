//! Join tokens: one use, one role, bound to one authority.
//!
//! The text is `backstay-join-1.<base64url>`: an encoded [`JoinToken`] and four checksum bytes,
//! so that a slip of the hand is told apart from an attack. The cluster keeps a
//! [`model::state::TokenRecord`], which holds a hash: whoever reads the log or a backup can't join
//! with it. Whether a token is good for what it is presented for, the brain says.

use std::net::SocketAddr;

use data_encoding::BASE64URL_NOPAD;
use model::NodeName;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{ClusterId, Fingerprint, Role};

/// What a token begins with; the number is the version of what follows.
pub const PREFIX: &str = "backstay-join-1.";
/// Longest text that is looked at, in bytes.
pub const TEXT_MAX: usize = 1_024;
/// Most API addresses in a token.
pub const ADDRESSES_MAX: usize = 16;
/// How long a token lives unless it is said otherwise, in milliseconds of cluster time.
pub const LIFE_MS: u64 = 24 * 3_600_000;

/// What a joining node is given.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// The cluster to join.
    pub cluster: ClusterId,
    /// The authority that the answering node must show.
    pub authority: Fingerprint,
    /// The role that the joining node, person or program gets.
    pub role: Role,
    /// The only name it is good for, where it is bound to one.
    pub name: Option<NodeName>,
    /// Where the cluster's API answers.
    pub addresses: Vec<SocketAddr>,
    /// What proves that the token is genuine.
    secret: Zeroizing<[u8; 32]>,
}

/// Why a token's text can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenTextError {
    /// It begins otherwise, or is of a later version.
    #[error(
        "this is no join token that this version knows (it begins with `{PREFIX}`); copy the whole \
         line that `backstay token` printed"
    )]
    Prefix,
    /// It has grown or lost something, or a character changed.
    #[error(
        "the join token was damaged on its way (its checksum is wrong); copy the whole line again"
    )]
    Checksum,
    /// It has more than a token can have.
    #[error("a join token has at most {TEXT_MAX} characters and {ADDRESSES_MAX} addresses")]
    TooLong,
    /// The checksum is right and the rest isn't: made by other software.
    #[error("the join token is well-formed and says nothing we know; make a new one")]
    Content,
}

impl JoinToken {
    /// Draws a new token.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        authority: Fingerprint,
        role: Role,
        name: Option<NodeName>,
        mut addresses: Vec<SocketAddr>,
    ) -> JoinToken {
        addresses.truncate(ADDRESSES_MAX);
        let secret = Zeroizing::new(super::random());
        JoinToken { cluster, authority, role, name, addresses, secret }
    }

    /// The text an operator carries to the new node. A secret until it is used.
    ///
    /// # Panics
    /// Never: everything in a token can be encoded.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(postcard::to_allocvec(self).expect("a token can be encoded"));
        Zeroizing::new(text_of(&bytes))
    }

    /// Reads the text.
    ///
    /// # Errors
    /// [`TokenTextError`].
    pub fn from_text(text: &str) -> Result<JoinToken, TokenTextError> {
        let text = text.trim();
        let body = text.strip_prefix(PREFIX).ok_or(TokenTextError::Prefix)?;
        if text.len() > TEXT_MAX {
            return Err(TokenTextError::TooLong);
        }
        let bytes =
            BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| TokenTextError::Checksum)?;
        let bytes = Zeroizing::new(bytes);
        let (content, sum) = bytes.split_last_chunk::<4>().ok_or(TokenTextError::Checksum)?;
        if *sum != checksum(content) {
            return Err(TokenTextError::Checksum);
        }
        let (token, rest) =
            postcard::take_from_bytes::<JoinToken>(content).map_err(|_| TokenTextError::Content)?;
        match rest {
            [] if token.addresses.len() <= ADDRESSES_MAX => Ok(token),
            [] => Err(TokenTextError::TooLong),
            _ => Err(TokenTextError::Content),
        }
    }

    /// What the joining node presents; the cluster finds the record by its [`hash`].
    #[must_use]
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinToken")
            .field("cluster", &self.cluster)
            .field("role", &self.role)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What the cluster knows a token's secret by.
#[must_use]
pub fn hash(secret: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key("backstay join token secret, version 1", secret)
}

/// The text that carries this content.
pub(crate) fn text_of(content: &[u8]) -> String {
    let bytes = Zeroizing::new([content, &checksum(content)].concat());
    format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
}

fn checksum(content: &[u8]) -> [u8; 4] {
    let sum = blake3::derive_key("backstay join token checksum, version 1", content);
    [sum[0], sum[1], sum[2], sum[3]]
}
