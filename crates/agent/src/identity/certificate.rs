//! Reads what a certificate says. Whether to believe it, the verifiers in `net::verify` decide:
//! nothing here checks a signature.

use std::net::IpAddr;

use model::NodeName;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::subject::SCHEME;
use super::{ClusterId, Fingerprint, IdentityError, Role, Subject};

/// Whoever is at the other end of a TLS connection, by its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What it is.
    pub role: Role,
    /// Name of the node, person or program.
    pub name: NodeName,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Wall-clock second its certificate begins to be valid.
    pub begins_s: u64,
    /// Wall-clock second its certificate ends.
    pub expires_s: u64,
    /// Fingerprint of its certificate.
    pub fingerprint: Fingerprint,
    /// Whether the certificate had run out when this was made: then only `renew` is open.
    pub expired: bool,
    /// The authority on which a connection of it rests; none where that was not looked at.
    pub issuer: Option<Fingerprint>,
    /// What the cluster holds of it, as far as that was looked at.
    pub standing: Standing,
}

/// What the cluster holds of somebody whose certificate is genuine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing against it.
    Good,
    /// Its name is refused.
    Revoked,
    /// Its certificate is of an authority that is believed no more.
    Outcast,
}

impl Caller {
    /// Reads a leaf certificate; `now_s` is the wall clock.
    ///
    /// # Errors
    /// [`IdentityError::Malformed`] where it is no certificate of ours.
    pub fn read(der: &[u8], now_s: u64) -> Result<Caller, IdentityError> {
        let what = "certificate";
        let (uri, begins_s, expires_s) = read_ours(der, what)?;
        let subject = Subject::from_uri(&uri).map_err(|e| IdentityError::malformed(what, e))?;
        Ok(Caller {
            role: subject.role,
            name: subject.name,
            cluster: subject.cluster,
            begins_s,
            expires_s,
            fingerprint: Fingerprint::of(der),
            expired: now_s > expires_s,
            issuer: None,
            standing: Standing::Good,
        })
    }

    /// Whom its certificate is for: a renewed one is issued for the same.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject { cluster: self.cluster, role: self.role, name: self.name.clone() }
    }

    /// The same caller, judged at another moment: a connection can outlive its certificate.
    #[must_use]
    pub fn at(mut self, now_s: u64) -> Caller {
        self.expired = now_s > self.expires_s;
        self
    }

    /// When a node asks for its next certificate: after two thirds of this one, so that a cluster
    /// without a coordinator has the last third to get one.
    #[must_use]
    pub fn renew_at_s(&self) -> u64 {
        self.begins_s + self.expires_s.saturating_sub(self.begins_s) / 3 * 2
    }
}

/// The addresses in a certificate, for one that takes its place; what is no address is left out.
pub(super) fn read_addresses(der: &[u8]) -> Vec<IpAddr> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let names = certificate.extensions().iter().filter_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let address = |name: &GeneralName<'_>| match name {
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
            .ok(),
        _ => None,
    };
    names.flatten().filter_map(address).collect()
}

/// Our URI in a certificate and the seconds between which it is valid. One URI of ours, exactly:
/// a second one could mean another thing to another reader.
pub(super) fn read_ours(
    der: &[u8],
    what: &'static str,
) -> Result<(String, u64, u64), IdentityError> {
    let wrong = |detail: String| IdentityError::malformed(what, detail);
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|error| wrong(error.to_string()))?;
    if !rest.is_empty() {
        return Err(wrong(format!("{} bytes follow it", rest.len())));
    }
    let mut ours = None;
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            continue;
        };
        for name in &names.general_names {
            let GeneralName::URI(uri) = name else { continue };
            if uri.starts_with(SCHEME) && ours.replace((*uri).to_string()).is_some() {
                return Err(wrong("it names two holders".to_string()));
            }
        }
    }
    let uri = ours.ok_or_else(|| wrong(format!("it has no {SCHEME} name")))?;
    let second = |at: i64| u64::try_from(at).unwrap_or(0);
    let validity = certificate.validity();
    Ok((uri, second(validity.not_before.timestamp()), second(validity.not_after.timestamp())))
}
