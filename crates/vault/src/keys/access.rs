//! The secret half of a key: a machine's key file, the recovery key's words, or shares.

use super::words::{self, WordsError};
use crate::error::{Result, VaultError};
use age::secrecy::ExposeSecret;
use age::x25519::Identity;
use bech32::{FromBase32, ToBase32, Variant};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::str::FromStr;
use zeroize::{Zeroize, Zeroizing};

/// version and 32 secret bytes.
const RECOVERY_BYTES: usize = 33;
const RECOVERY_VERSION: u8 = 0x52;
/// A key file is a few lines.
const KEY_FILE_BYTES_MAX: u64 = 4096;
const IDENTITY_PREFIX: &str = "age-secret-key-";

/// The 32 secret bytes of an identity.
pub(super) fn identity_bytes(identity: &Identity) -> Zeroizing<[u8; 32]> {
    let text = identity.to_string();
    let (_, mut digits, _) =
        bech32::decode(text.expose_secret()).expect("an identity prints as bech32");
    let mut bytes = Vec::<u8>::from_base32(&digits).expect("an identity prints as bech32");
    digits.fill(bech32::u5::try_from_u8(0).expect("zero is a digit"));
    let secret = bytes.as_slice().try_into().expect("an identity has 32 bytes");
    bytes.zeroize();
    Zeroizing::new(secret)
}

/// The identity of 32 secret bytes.
pub(super) fn identity_from_bytes(bytes: &[u8; 32]) -> Identity {
    let text = bech32::encode(IDENTITY_PREFIX, bytes.to_base32(), Variant::Bech32);
    let text = Zeroizing::new(text.expect("the prefix is valid"));
    Identity::from_str(&text).expect("32 bytes make an identity")
}

/// The recovery key as words.
pub fn recovery_words(identity: &Identity) -> Zeroizing<String> {
    let mut payload = Zeroizing::new([RECOVERY_VERSION; RECOVERY_BYTES]);
    payload[1..].copy_from_slice(identity_bytes(identity).as_slice());
    words::encode(payload.as_slice())
}

/// The recovery key from its words, or from its `AGE-SECRET-KEY-1…` form.
///
/// # Errors
/// Naming the wrong word where it can be known.
pub fn recovery_from_text(text: &str) -> Result<Identity> {
    let trimmed = text.trim();
    if trimmed.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-1") {
        let upper = Zeroizing::new(trimmed.to_ascii_uppercase());
        return Identity::from_str(&upper)
            .map_err(|e| WordsError::Meaning(format!("the key is mistyped: {e}")).into());
    }
    let payload = words::decode(trimmed, RECOVERY_BYTES)?;
    if payload[0] != RECOVERY_VERSION {
        let what = "these words are no recovery key; are they a custodian's share?";
        return Err(WordsError::Meaning(what.to_owned()).into());
    }
    let secret = payload[1..].try_into().expect("the payload has 33 bytes");
    Ok(identity_from_bytes(&Zeroizing::new(secret)))
}

/// Writes a machine's key file; only its owner can read it, and nothing is replaced.
///
/// # Errors
/// Where the file exists or cannot be written.
pub fn write_key_file(path: &Path, identity: &Identity) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(VaultError::file("create the key file", path))?;
    let secret = identity.to_string();
    let public = identity.to_public();
    let header = format!(
        "# Backstay vault key of one machine. Whoever reads it reads the backups.\n\
         # public key: {public}\n"
    );
    let write = |file: &mut std::fs::File| {
        file.write_all(header.as_bytes())?;
        file.write_all(secret.expose_secret().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    write(&mut file).map_err(VaultError::file("write the key file", path))
}

/// Reads a machine's key file.
///
/// # Errors
/// Where it is absent, open to others, or holds no key.
pub fn read_key_file(path: &Path) -> Result<Identity> {
    let bad = |what: &str| VaultError::KeyFile { path: path.to_owned(), what: what.to_owned() };
    let file = std::fs::File::open(path).map_err(VaultError::file("open the key file", path))?;
    let meta = file.metadata().map_err(VaultError::file("look at the key file", path))?;
    if meta.mode() & 0o077 != 0 {
        return Err(bad("others can read it; make it private with `chmod 600`"));
    }
    let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES_MAX as usize));
    let read = file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text);
    read.map_err(VaultError::file("read the key file", path))?;
    let line = text.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#'));
    let line = line.ok_or_else(|| bad("it has no line with a key"))?;
    Identity::from_str(line).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_recovery_key_comes_back_from_words_and_from_its_age_form() {
        let identity = Identity::generate();
        let public = identity.to_public().to_string();
        let words = recovery_words(&identity);
        let age_form = identity.to_string();
        for text in [words.as_str(), age_form.expose_secret()] {
            assert_eq!(recovery_from_text(text).unwrap().to_public().to_string(), public);
        }
        let share = super::super::shares::split(&identity, 2, 2).unwrap();
        assert!(recovery_from_text(&share[0]).is_err());
    }

    #[test]
    fn a_key_file_is_private_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let identity = Identity::generate();
        write_key_file(&path, &identity).unwrap();
        let read = read_key_file(&path).unwrap();
        assert_eq!(read.to_public().to_string(), identity.to_public().to_string());
        assert!(write_key_file(&path, &identity).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_key_file(&path).err().unwrap().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
