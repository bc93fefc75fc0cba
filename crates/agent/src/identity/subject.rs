//! What a certificate states about its holder, and how that is written.
//!
//! Every certificate carries exactly one URI of ours among its alternative names:
//! `backstay://<cluster id>/<role>/<name>`; the authority's own has the word `authority` in the
//! place of the role and the cluster's name in that of the name. Nothing else in a certificate
//! (common name, DNS names, addresses) is ever read to decide anything.

use model::NodeName;

use super::{ClusterId, Role};

/// The scheme of our URIs.
pub const SCHEME: &str = "backstay://";
/// The word in the place of the role in the authority's own certificate.
pub const AUTHORITY: &str = "authority";

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// What the holder is.
    pub role: Role,
    /// Name of the node, person or program; people's names follow the same rules as nodes'.
    pub name: NodeName,
}

impl Subject {
    /// The URI that goes into the certificate.
    #[must_use]
    pub fn to_uri(&self) -> String {
        format!("{SCHEME}{}/{}/{}", self.cluster, self.role, self.name)
    }

    /// Reads the URI back.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_uri(uri: &str) -> Result<Subject, String> {
        let (cluster, role, name) = split(uri)?;
        Ok(Subject {
            cluster,
            role: role.parse().map_err(str::to_string)?,
            name: NodeName::new(name).map_err(|error| error.to_string())?,
        })
    }
}

/// The URI in an authority's own certificate.
#[must_use]
pub fn authority_uri(cluster: ClusterId, cluster_name: &str) -> String {
    format!("{SCHEME}{cluster}/{AUTHORITY}/{cluster_name}")
}

/// Reads an authority's URI: the cluster's id and name.
///
/// # Errors
/// Says what is wrong with it.
pub fn read_authority_uri(uri: &str) -> Result<(ClusterId, String), String> {
    match split(uri)? {
        (cluster, AUTHORITY, name) => Ok((cluster, name.to_string())),
        (_, role, _) => Err(format!("it is a {role}'s certificate, not an authority's")),
    }
}

fn split(uri: &str) -> Result<(ClusterId, &str, &str), String> {
    let wrong = || format!("{uri:?} is not {SCHEME}<cluster id>/<role>/<name>");
    let rest = uri.strip_prefix(SCHEME).ok_or_else(wrong)?;
    let mut parts = rest.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(cluster), Some(role), Some(name), None) => {
            Ok((cluster.parse().map_err(str::to_string)?, role, name))
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_read_back_from_its_uri_and_from_nothing_else() {
        let cluster = ClusterId([7; 16]);
        let subject = Subject { cluster, role: Role::Witness, name: "w".parse().unwrap() };
        assert_eq!(Subject::from_uri(&subject.to_uri()), Ok(subject));
        for bad in [
            "backstay://07/voter/a",
            &format!("https://{cluster}/voter/a"),
            &format!("backstay://{cluster}/root/a"),
            &format!("backstay://{cluster}/authority/a"),
            &format!("backstay://{cluster}/voter/A"),
            &format!("backstay://{cluster}/voter/a/b"),
            &format!("backstay://{cluster}/voter"),
        ] {
            assert!(Subject::from_uri(bad).is_err(), "{bad}");
        }
        assert!(read_authority_uri(&format!("backstay://{cluster}/voter/a")).is_err());
        assert_eq!(
            read_authority_uri(&authority_uri(cluster, "exchange-a")),
            Ok((cluster, "exchange-a".to_string()))
        );
    }
}
