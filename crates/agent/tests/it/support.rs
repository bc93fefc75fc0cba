//! A cluster's authority and what it issues, for tests.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent::identity::{
    Authority, CertificateRequest, ClusterId, Credential, NodeKey, Role, Subject, TrustBundle,
    Validity, wall_s,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest time anything in a test may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A cluster's authority.
pub(crate) struct Issuer {
    pub(crate) cluster: ClusterId,
    pub(crate) authority: Authority,
}

impl Issuer {
    /// A new cluster.
    pub(crate) fn new() -> Issuer {
        Issuer::of(ClusterId::random())
    }

    /// A new authority of this cluster.
    pub(crate) fn of(cluster: ClusterId) -> Issuer {
        Issuer::since(cluster, 0)
    }

    /// The same, made so many days ago.
    pub(crate) fn since(cluster: ClusterId, days: u64) -> Issuer {
        let made_s = wall_s() - days * 86_400;
        let authority = Authority::create(cluster, "exchange-a", made_s).unwrap();
        Issuer { cluster, authority }
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::new(vec![self.authority.certificate().clone()]).unwrap()
    }

    /// A credential that is valid now.
    pub(crate) fn credential(&self, role: Role, name: &str) -> Credential {
        self.credential_within(role, name, Validity::days(wall_s(), 30))
    }

    /// A credential that ran out a day ago.
    pub(crate) fn expired(&self, role: Role, name: &str) -> Credential {
        let now = wall_s();
        let validity = Validity { begins_s: now - 31 * 86_400, ends_s: now - 86_400 };
        self.credential_within(role, name, validity)
    }

    pub(crate) fn credential_within(
        &self,
        role: Role,
        name: &str,
        validity: Validity,
    ) -> Credential {
        let key = NodeKey::generate().unwrap();
        let chain = self.chain(role, name, &key, validity);
        Credential::new(self.bundle(), &chain, key).unwrap()
    }

    pub(crate) fn chain(
        &self,
        role: Role,
        name: &str,
        key: &NodeKey,
        validity: Validity,
    ) -> String {
        let subject = Subject { cluster: self.cluster, role, name: name.parse().unwrap() };
        let request = CertificateRequest::from_pem(&key.request().unwrap()).unwrap();
        let loopback = ["127.0.0.1".parse().unwrap()];
        self.authority.issue(&subject, &request, &loopback, validity).unwrap()
    }
}

/// Waits for something that will happen, within [`LIMIT`].
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen within {LIMIT:?}: {what}"),
    }
}

/// Asks until the answer is yes, within [`LIMIT`].
pub(crate) async fn until(what: &str, mut ask: impl FnMut() -> bool) {
    let asking = async {
        while !ask() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(what, asking).await;
}

/// Believes every server: an attacker does not mind whom he attacks.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// TLS as an attacker would speak it: with any certificate, believing every server.
pub(crate) async fn tls(
    to: SocketAddr,
    credential: Option<&Credential>,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    let mut config = match credential {
        Some(credential) => {
            let chain = CertificateDer::pem_slice_iter(credential.chain_pem().as_bytes())
                .collect::<Result<_, _>>()
                .unwrap();
            let key = PrivateKeyDer::from_pem_slice(credential.key().to_pem().as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(to).await?;
    // Else each call waits for an acknowledgement that the kernel delays for 40 ms.
    stream.set_nodelay(true)?;
    let name = ServerName::IpAddress(to.ip().into());
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// The same, up to the server's first word: where the certificate is refused, TLS 1.3 tells the
/// client only then.
pub(crate) async fn attack(
    to: SocketAddr,
    credential: Option<&Credential>,
    protocol: &[u8],
) -> std::io::Result<u8> {
    let attacking = async { tls(to, credential, protocol).await?.read_u8().await };
    soon("the server decides", attacking).await
}
