//! Certificates and requests, as bytes and as PEM, and the names in them.

use agent::identity::{
    Authority, AuthorityCertificate, Caller, CertificateRequest, ClusterId, NodeKey, Subject,
    TrustBundle,
};

use crate::Target;
use crate::cursor::Cursor;

pub(crate) const TARGET: Target =
    Target::new("certificate", "certificates, requests and bundles", read, seeds);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    match input.byte() % 5 {
        0 => {
            if let Ok(caller) = Caller::read(input.0, 1_800_000_000) {
                let uri = caller.subject().to_uri();
                assert_eq!(Subject::from_uri(&uri), Ok(caller.subject()));
                let _when = caller.renew_at_s();
            }
        }
        1 => {
            if let Ok(authority) = AuthorityCertificate::from_der(input.0.to_vec()) {
                let again = AuthorityCertificate::from_pem(&authority.to_pem());
                assert_eq!(again.expect("it is read again").der(), authority.der());
            }
        }
        2 => drop(CertificateRequest::from_pem(&input.text())),
        3 => {
            if let Ok(bundle) = TrustBundle::from_pem(&input.text()) {
                let again = TrustBundle::from_pem(&bundle.to_pem()).expect("it is read again");
                assert_eq!(again.authorities().len(), bundle.authorities().len());
            }
        }
        _ => {
            if let Ok(subject) = Subject::from_uri(&input.text()) {
                assert_eq!(Subject::from_uri(&subject.to_uri()), Ok(subject));
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let cluster = ClusterId([7; 16]);
    let authority = Authority::create(cluster, "exchange-a", 1_800_000_000);
    let (Ok(authority), Ok(key)) = (authority, NodeKey::generate()) else { return Vec::new() };
    let certificate = authority.certificate();
    let subject = format!("backstay://{cluster}/voter/a");
    let mut seeds = vec![
        [&[1], certificate.der()].concat(),
        [&[0], certificate.der()].concat(),
        [&[3], certificate.to_pem().as_bytes()].concat(),
        [&[4], subject.as_bytes()].concat(),
    ];
    seeds.extend(key.request().map(|pem| [&[2], pem.as_bytes()].concat()));
    seeds
}
