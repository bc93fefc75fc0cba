//! A node's identity on disk: `identity/` under its data directory.
//!
//! ```text
//! authority.pem   the authorities it believes (a bundle), and by which version of their list
//! authority.key   the authorities' private keys, on the nodes that may issue; the first issues
//! node.pem        its certificate and the authority's
//! node.key        its private key (mode 0600; it stays when the certificate is renewed)
//! datagram.key    its X25519 key (mode 0600)
//! start           the number of its last start (see `net::boot`)
//! ```
//!
//! A file is replaced whole or not at all, and a key that others can read is refused.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::rotation::AUTHORITIES_MAX;
use super::{Authority, Credential, DatagramKey, IdentityError, NodeKey, TrustBundle};

/// Largest identity file that is read, in bytes.
pub const FILE_MAX: u64 = 64 << 10;

const AUTHORITY: &str = "authority.pem";
const AUTHORITY_KEY: &str = "authority.key";
const NODE: &str = "node.pem";
const NODE_KEY: &str = "node.key";
const DATAGRAM_KEY: &str = "datagram.key";
const START: &str = "start";
/// What the bundle's file begins with, once the authority was rotated.
const TRUST_VERSION: &str = "trust version ";

/// Everything a node is known by.
#[derive(Debug)]
pub struct Identity {
    /// What it shows and believes in TLS.
    pub credential: Credential,
    /// What it seals datagrams with.
    pub datagram: DatagramKey,
}

/// Where an identity is kept.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    directory: PathBuf,
}

impl IdentityFiles {
    /// The identity files of this data directory.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        IdentityFiles { directory: data.join("identity") }
    }

    /// Whether this node has joined.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.path(NODE).exists()
    }

    /// Reads the identity.
    ///
    /// # Errors
    /// [`IdentityError`], each with what to do.
    pub fn load(&self) -> Result<Identity, IdentityError> {
        let bundle = TrustBundle::from_pem(&self.read(AUTHORITY)?)?;
        let key = NodeKey::from_pem(&self.read_secret(NODE_KEY)?)?;
        let credential = Credential::new(bundle, &self.read(NODE)?, key)?;
        let datagram = DatagramKey::from_text(&self.read_secret(DATAGRAM_KEY)?)?;
        Ok(Identity { credential, datagram })
    }

    /// Writes the identity of a node that joins. The certificate comes last: with it, the rest
    /// is there too.
    ///
    /// # Errors
    /// [`IdentityError::File`].
    pub fn save(&self, identity: &Identity) -> Result<(), IdentityError> {
        let credential = &identity.credential;
        self.write(DATAGRAM_KEY, identity.datagram.to_text().as_bytes(), 0o600)?;
        self.write(NODE_KEY, credential.key().to_pem().as_bytes(), 0o600)?;
        self.write(AUTHORITY, credential.bundle().to_pem().as_bytes(), 0o644)?;
        self.write(NODE, credential.chain_pem().as_bytes(), 0o644)
    }

    /// Replaces the certificate after a renewal and returns the identity as it is now. What does
    /// not fit the key on disk is refused and the old one stays.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn replace_certificate(&self, chain: &str) -> Result<Identity, IdentityError> {
        let old = self.load()?;
        let bundle = old.credential.bundle().clone();
        let key = NodeKey::from_pem(&old.credential.key().to_pem())?;
        let credential = Credential::new(bundle, chain, key)?;
        self.write(NODE, chain.as_bytes(), 0o644)?;
        Ok(Identity { credential, datagram: old.datagram })
    }

    /// Replaces the authorities that are believed (rotation), in the version of the control
    /// state that says so.
    ///
    /// # Errors
    /// [`IdentityError::File`].
    pub fn replace_bundle(&self, bundle: &TrustBundle, version: u64) -> Result<(), IdentityError> {
        let text = format!("{TRUST_VERSION}{version}\n{}", bundle.to_pem());
        self.write(AUTHORITY, text.as_bytes(), 0o644)
    }

    /// The version of the list of authorities that this node goes by; 0 where it never changed. A
    /// control state of an older one, as a start finds it on disk, is passed over.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn trust_version(&self) -> Result<u64, IdentityError> {
        let text = self.read(AUTHORITY)?;
        let Some(rest) = text.strip_prefix(TRUST_VERSION) else { return Ok(0) };
        let number = rest.lines().next().unwrap_or_default();
        number.parse().map_err(|e| IdentityError::malformed("version of the authorities", e))
    }

    /// Keeps the authority's private key here, so that this node can issue.
    ///
    /// # Errors
    /// [`IdentityError::File`].
    pub fn save_authority(&self, authority: &Authority) -> Result<(), IdentityError> {
        self.save_authorities(&[authority])
    }

    /// Keeps these authorities' private keys here and no other; the first one issues.
    ///
    /// # Errors
    /// [`IdentityError::File`].
    pub fn save_authorities(&self, authorities: &[&Authority]) -> Result<(), IdentityError> {
        let mut text = Zeroizing::new(String::with_capacity(FILE_MAX as usize));
        for authority in authorities {
            text.push_str(&authority.certificate().to_pem());
            text.push_str(&authority.key_pem());
        }
        self.write(AUTHORITY_KEY, text.as_bytes(), 0o600)
    }

    /// The authority that issues, where this node keeps its key; none where it doesn't.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load_authority(&self) -> Result<Option<Authority>, IdentityError> {
        Ok(self.load_authorities()?.into_iter().next())
    }

    /// All authorities whose key this node keeps; the first one issues.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load_authorities(&self) -> Result<Vec<Authority>, IdentityError> {
        if !self.path(AUTHORITY_KEY).exists() {
            return Ok(Vec::new());
        }
        read_authorities(&self.path(AUTHORITY_KEY))
    }

    /// Draws the number of this start: larger than every one before, even on a disk that was set
    /// back, as long as the wall clock was not. Written down before it is used.
    ///
    /// # Errors
    /// [`IdentityError::File`]; [`IdentityError::Malformed`] where the file holds no number.
    pub fn next_start(&self, wall_ms: u64) -> Result<u64, IdentityError> {
        let last = if self.path(START).exists() {
            let text = self.read(START)?;
            text.trim_end().parse().map_err(|e| IdentityError::malformed("start number", e))?
        } else {
            0_u64
        };
        let next = wall_ms.max(last.saturating_add(1));
        self.write(START, format!("{next}\n").as_bytes(), 0o644)?;
        Ok(next)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn read(&self, name: &str) -> Result<Zeroizing<String>, IdentityError> {
        read_file(&self.path(name), false)
    }

    fn read_secret(&self, name: &str) -> Result<Zeroizing<String>, IdentityError> {
        read_file(&self.path(name), true)
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), IdentityError> {
        if !self.directory.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.directory)
                .map_err(failed("create", &self.directory))?;
        }
        write_file(&self.path(name), bytes, mode)
    }
}

/// Reads an authority from a file of its certificate and key, as `identity/authority.key` is one.
///
/// # Errors
/// [`IdentityError`].
pub fn read_authority(path: &Path) -> Result<Authority, IdentityError> {
    let none = || IdentityError::malformed("authority key", "it holds no key");
    read_authorities(path)?.into_iter().next().ok_or_else(none)
}

/// Reads all authorities of such a file.
///
/// # Errors
/// [`IdentityError`].
pub fn read_authorities(path: &Path) -> Result<Vec<Authority>, IdentityError> {
    const END: &str = "-----END PRIVATE KEY-----";
    let text = read_file(path, true)?;
    let mut authorities = Vec::new();
    let mut rest = text.as_str();
    while let (Some(key), Some(end)) = (rest.find("-----BEGIN PRIVATE KEY-----"), rest.find(END)) {
        if end < key || authorities.len() == AUTHORITIES_MAX {
            return Err(IdentityError::malformed("authority key", "it is in disorder"));
        }
        let end = end + END.len();
        authorities.push(Authority::from_pem(&rest[..key], &rest[key..end])?);
        rest = &rest[end..];
    }
    match authorities.is_empty() {
        true => Err(IdentityError::malformed("authority key", "it holds no key")),
        false => Ok(authorities),
    }
}

/// Reads a small text file; a secret one only if nobody but its owner can.
///
/// # Errors
/// [`IdentityError::File`], [`IdentityError::KeyExposed`], [`IdentityError::Malformed`].
pub fn read_file(path: &Path, secret: bool) -> Result<Zeroizing<String>, IdentityError> {
    let file = File::open(path).map_err(failed("read", path))?;
    let mode = file.metadata().map_err(failed("read", path))?.permissions().mode() & 0o7777;
    if secret && mode & 0o077 != 0 {
        return Err(IdentityError::KeyExposed { path: path.to_path_buf(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(failed("read", path))?;
    if text.len() as u64 > FILE_MAX {
        let why = format!("{} has more than {FILE_MAX} bytes", path.display());
        return Err(IdentityError::malformed("identity file", why));
    }
    Ok(text)
}

/// Replaces a file so that a crash leaves the old or the new one, never a part: written beside
/// it, synced, renamed over it, and the directory synced.
///
/// # Errors
/// [`IdentityError::File`].
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IdentityError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed("replace", &beside)(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .map_err(failed("create", &beside))?;
    file.write_all(bytes).map_err(failed("write", &beside))?;
    file.sync_all().map_err(failed("sync", &beside))?;
    std::fs::rename(&beside, path).map_err(failed("replace", path))?;
    let directory = directory_of(path);
    let opened = File::open(directory).map_err(failed("open", directory))?;
    opened.sync_all().map_err(failed("sync", directory))
}

/// Fails where [`write_file`] would, as far as that can be told without touching the file: for
/// whoever has to know before something is spent that can't be had again.
///
/// # Errors
/// [`IdentityError::File`].
pub fn can_write(path: &Path) -> Result<(), IdentityError> {
    if path.is_dir() {
        let error = std::io::Error::from(std::io::ErrorKind::IsADirectory);
        return Err(failed("replace", path)(error));
    }
    let directory = directory_of(path);
    probe(directory).map_err(failed("create a file in", directory))
}

/// Makes an empty file there and removes it.
fn probe(directory: &Path) -> std::io::Result<()> {
    let name = format!(".backstay-{}.new", std::process::id());
    let path = directory.join(name);
    drop(OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?);
    std::fs::remove_file(path)
}

/// Where a file lies; a bare name has an empty parent and lies where this process does.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> IdentityError {
    let path = path.to_path_buf();
    move |source| IdentityError::File { action, path, source }
}
