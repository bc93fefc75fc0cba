//! TLS towards a server. The vault knows whom it talks to, or it doesn't talk: what it is sent
//! becomes what is restored.

use super::connection::{Stream, failure};
use super::conninfo::{ConnInfo, SYSTEM, SslFiles};
use crate::error::{Result, VaultError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What asks a server for TLS before anything else is said (protocol, 55.7).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// The protocol inside, for servers that ask for it.
const ALPN: &[u8] = b"postgresql";
/// Room for one read: a record and its frame.
const RAW_BYTES: usize = 64 << 10;

/// How much of a server's certificate is checked; its issuer always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// The issuer alone: `verify-ca`.
    Issuer,
    /// The name, too: `verify-full`.
    Name,
}

/// Asks for TLS and shakes hands.
///
/// # Errors
/// [`VaultError::Refused`] where the server has none, its certificate is not what was asked for,
/// or a file is not: nothing that passes by itself. [`VaultError::Postgres`] where the connection
/// fails or the server can't right now.
pub(super) fn begin(mut socket: TcpStream, info: &ConnInfo, check: Check) -> Result<TlsStream> {
    let (host, files) = (info.host.as_str(), info.files());
    let config = config(check, files)?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| refused(format!("`{host}` is no name that a certificate can hold")))?;
    let failed = |error: io::Error| {
        let what = format!("TLS with {host}: {error}");
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(why)) => refused(what + remedy(why)),
            _ => failure(&info.shown(), what),
        }
    };
    socket.write_all(&SSL_REQUEST).map_err(failed)?;
    // One byte and no more: what followed it in the clear would be somebody else's.
    let mut answer = [0];
    socket.read_exact(&mut answer).map_err(failed)?;
    if answer == *b"E" {
        // It ends the connection with a text that nobody has vouched for.
        let what = "the server can't take a connection right now";
        return Err(failure(&info.shown(), what));
    }
    if answer != *b"S" {
        let what = "the server has no TLS (`ssl = on` in its configuration), or something between \
                    answers for it";
        return Err(refused(format!("{host}: {what}")));
    }
    let mut session = ClientConnection::new(config, name)
        .map_err(|e| refused(format!("TLS with {host}: {e}")))?;
    while session.is_handshaking() {
        session.complete_io(&mut socket).map_err(failed)?;
    }
    let shared = Arc::new(Shared { socket, session: Mutex::new(session) });
    Ok(TlsStream { shared, raw: vec![0; RAW_BYTES], from: 0, to: 0 })
}

/// What an operator does about the certificates that are refused most often.
fn remedy(why: &CertificateError) -> &'static str {
    match why {
        CertificateError::UnknownIssuer => {
            ". Nobody whom we believe vouches for it: name the certificate of its authority with \
             sslrootcert=FILE"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            ". Connect by a name that its certificate holds"
        }
        _ => "",
    }
}

fn refused(what: String) -> VaultError {
    VaultError::Refused(what)
}

fn config(check: Check, files: &SslFiles) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let believed = Believed::read(files)?;
    let known = provider.signature_verification_algorithms;
    let verifier = Verifier { believed, check, known };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| refused(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => {
            let (chain, key) = (certificates(certificate)?, private_key(key)?);
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| refused(format!("{}: {e}", certificate.display())))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(refused("sslcert and sslkey go together".to_owned())),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bad = |e: &dyn std::fmt::Display| refused(format!("{}: {e}", path.display()));
    let read = CertificateDer::pem_file_iter(path).map_err(|e| bad(&e))?;
    let all: Vec<_> = read.collect::<std::result::Result<_, _>>().map_err(|e| bad(&e))?;
    match all.is_empty() {
        true => Err(bad(&"it holds no certificate")),
        false => Ok(all),
    }
}

/// A key that others may read is no longer a key: the rule is libpq's.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let meta = fs::metadata(path).map_err(VaultError::file("look at", path))?;
    let others = if meta.uid() == 0 { 0o037 } else { 0o077 };
    if meta.mode() & others != 0 {
        let what = "others may read this key: chmod 600";
        return Err(refused(format!("{}: {what}", path.display())));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|e| refused(format!("{}: {e}", path.display())))
}

/// Whose word counts.
#[derive(Debug)]
struct Believed {
    roots: RootCertStore,
    /// The certificates as they were named: a server's own may be among them.
    named: Vec<CertificateDer<'static>>,
}

impl Believed {
    fn read(files: &SslFiles) -> Result<Believed> {
        let mut roots = RootCertStore::empty();
        let named = match &files.root {
            Some(path) if path.as_os_str() != SYSTEM => certificates(path)?,
            _ => Vec::new(),
        };
        if named.is_empty() {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let what = "the system believes no authority: name the server's with sslrootcert";
                return Err(refused(what.to_owned()));
            }
        }
        for certificate in &named {
            roots.add(certificate.clone()).map_err(|e| refused(format!("sslrootcert: {e}")))?;
        }
        Ok(Believed { roots, named })
    }
}

/// Checks the issuer always, the name where that is asked for.
#[derive(Debug)]
struct Verifier {
    believed: Believed,
    check: Check,
    known: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let issued = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.believed.roots,
            intermediates,
            now,
            self.known.all,
        );
        match issued {
            // A server's own certificate was named as what is believed, as `openssl req -x509`
            // makes it: it says that it is an authority, which no server may be. Its time has
            // been looked at before that.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self.believed.named.iter().any(|named| named == end_entity) => {}
            other => other?,
        }
        if self.check == Check::Name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_schemes()
    }
}

/// What the reader of a stream and whoever tells the server of its progress share.
struct Shared {
    socket: TcpStream,
    session: Mutex<ClientConnection>,
}

impl Shared {
    fn session(&self) -> MutexGuard<'_, ClientConnection> {
        // A panic within a session leaves bytes that the server's side does not open.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what the session has to say. Its order on the wire is that of its numbers, so the
    /// session stays locked.
    fn flush(&self, session: &mut ClientConnection) -> io::Result<()> {
        while session.wants_write() {
            match session.write_tls(&mut &self.socket) {
                // The session has taken the bytes: whoever wrote them must not write them again.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                sent => drop(sent?),
            }
        }
        Ok(())
    }
}

/// A connection inside TLS.
pub(super) struct TlsStream {
    shared: Arc<Shared>,
    /// What came and is not decrypted yet: `from..to`.
    raw: Vec<u8>,
    from: usize,
    to: usize,
}

impl Read for TlsStream {
    /// All that has arrived, as one read in the clear brings it: a stream syncs once for it.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        loop {
            let mut session = self.shared.session();
            match session.reader().read(&mut out[length..]) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if length == 0 => return Err(e),
                // No more will come, or not now; the next read says which.
                Err(_) | Ok(0) => return Ok(length),
                Ok(more) => length += more,
            }
            if length == out.len() {
                return Ok(length);
            }
            if self.from < self.to {
                let mut rest = &self.raw[self.from..self.to];
                self.from += session.read_tls(&mut rest)?;
                let told = session.process_new_packets();
                // An alert tells the other side why, if it still listens.
                let flushed = self.shared.flush(&mut session);
                told.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
                flushed?;
                continue;
            }
            if length > 0 {
                return Ok(length);
            }
            drop(session);
            // Waits without the session, so that others can write meanwhile.
            let arrived = (&self.shared.socket).read(&mut self.raw)?;
            if arrived == 0 {
                return Ok(0);
            }
            (self.from, self.to) = (0, arrived);
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut session = self.shared.session();
        let length = session.writer().write(bytes)?;
        self.shared.flush(&mut session)?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for TlsStream {
    fn set_wait(&self, wait: Option<Duration>) -> io::Result<()> {
        self.shared.socket.set_read_timeout(wait)
    }

    fn duplicate(&self) -> io::Result<Box<dyn Stream>> {
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(TlsStream { shared, raw: Vec::new(), from: 0, to: 0 }))
    }
}
