//! The server's list of what it sent, and whether that is what came.

use crate::error::{Result, VaultError};
use crate::postgres::connection::failure;
use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// The longest manifest: some million files.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// The algorithm that the server is asked for, as the manifest names it.
const ALGORITHM: &str = "SHA256";

/// The manifest of a base backup (`src/backend/backup/backup_manifest.c`).
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    #[serde(rename = "Files")]
    files: Vec<File>,
    #[serde(rename = "Manifest-Checksum")]
    checksum: String,
}

#[derive(Debug, Deserialize)]
struct File {
    #[serde(rename = "Path")]
    path: Option<String>,
    /// In hexadecimal, where the path is no UTF-8.
    #[serde(rename = "Encoded-Path")]
    encoded: Option<String>,
    #[serde(rename = "Size")]
    size_bytes: u64,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: String,
    #[serde(rename = "Checksum")]
    checksum: String,
}

impl File {
    fn path(&self) -> Option<Vec<u8>> {
        match (&self.path, &self.encoded) {
            (Some(path), None) => Some(path.clone().into_bytes()),
            (None, Some(encoded)) => crate::hex::decode(encoded),
            _ => None,
        }
    }
}

impl Manifest {
    /// Reads a manifest to its end.
    ///
    /// # Errors
    /// Where it is none, or not what its own checksum says.
    pub(super) fn read(input: &mut dyn Read) -> Result<Manifest> {
        let mut bytes = Vec::new();
        let read = input.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(VaultError::file("receive", "the manifest"))?;
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            let what = "the length of a server's manifest".to_owned();
            return Err(VaultError::Limit { what, limit: MANIFEST_BYTES_MAX });
        }
        Manifest::parse(&bytes).ok_or_else(|| {
            let what = "the server's manifest is damaged: it is not what its own checksum says. \
                        Nothing was recorded; run the backup again";
            VaultError::Refused(what.to_owned())
        })
    }

    /// Reads a manifest; nothing where it is none, or not what its checksum says: that of all
    /// lines but the last.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Manifest> {
        let manifest: Manifest = serde_json::from_slice(bytes).ok()?;
        let lines = bytes.strip_suffix(b"\n")?;
        let last = lines.iter().rposition(|b| *b == b'\n')? + 1;
        let known = crate::hex::encode(digest(&SHA256, &bytes[..last]).as_ref());
        (known == manifest.checksum.to_ascii_lowercase()).then_some(manifest)
    }
}

/// What came: length and checksum of each file.
#[derive(Default)]
pub(super) struct Received {
    files: BTreeMap<Vec<u8>, (u64, [u8; 32])>,
    checked: Option<u64>,
}

impl Received {
    /// How many files came.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// How many were compared.
    pub(super) fn checked(&self) -> u64 {
        self.checked.unwrap_or(0)
    }

    /// Reads a file, and remembers what it was.
    pub(super) fn reader<'a, R: Read>(&'a mut self, input: &'a mut R) -> Checked<'a, R> {
        Checked { input, context: Context::new(&SHA256), bytes: 0, received: self }
    }

    /// Compares what came with what the server says it sent.
    ///
    /// # Errors
    /// Naming the first file that is another.
    pub(super) fn check(&mut self, server: &str, manifest: Manifest) -> Result<()> {
        let wrong = |path: &[u8], what: &str| {
            let path = String::from_utf8_lossy(path);
            failure(
                server,
                format!(
                    "`{path}` {what}: it was altered on the way, or lost. Nothing was recorded. \
                     Run the backup again; where this comes back, distrust the network or the \
                     machine in between"
                ),
            )
        };
        let mut files = std::mem::take(&mut self.files);
        self.checked = Some(files.len() as u64);
        for file in &manifest.files {
            let path = file.path().ok_or_else(|| wrong(b"?", "has no path in the manifest"))?;
            let Some((size_bytes, hash)) = files.remove(&path) else {
                return Err(wrong(&path, "is in the server's manifest and did not come"));
            };
            let same = file.algorithm == ALGORITHM
                && file.size_bytes == size_bytes
                && file.checksum.eq_ignore_ascii_case(&crate::hex::encode(&hash));
            if !same {
                return Err(wrong(&path, "is not what the server's manifest says"));
            }
        }
        match files.first_key_value() {
            Some((path, _)) => Err(wrong(path, "came and is not in the server's manifest")),
            None => Ok(()),
        }
    }

    /// Refuses what no manifest vouches for.
    ///
    /// # Errors
    /// Where there was none.
    pub(super) fn require_checked(&self, server: &str) -> Result<()> {
        match self.checked {
            Some(_) => Ok(()),
            None => Err(failure(server, "it sent no manifest of its backup")),
        }
    }
}

/// Reads a file and sums it up.
pub(super) struct Checked<'a, R> {
    input: &'a mut R,
    context: Context,
    bytes: u64,
    received: &'a mut Received,
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.context.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

impl<R> Checked<'_, R> {
    /// The file has been read to its end.
    pub(super) fn finish(self, path: Vec<u8>) {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.context.finish().as_ref());
        self.received.files.insert(path, (self.bytes, hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(files: &[(&str, &[u8])]) -> Vec<u8> {
        let line = |(path, bytes): &(&str, &[u8])| {
            let hash = crate::hex::encode(digest(&SHA256, bytes).as_ref());
            let size = bytes.len();
            format!(
                "{{ \"{path}\", \"Size\": {size}, \"Last-Modified\": \"2026-11-22 22:13:54 GMT\", \
                 \"Checksum-Algorithm\": \"SHA256\", \"Checksum\": \"{hash}\" }}"
            )
            .replacen("{ \"", "{ \"Path\": \"", usize::from(!path.contains(':')))
        };
        let lines: Vec<String> = files.iter().map(line).collect();
        let text = format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{}\n],\n\
             \"WAL-Ranges\": [\n],\n",
            lines.join(",\n")
        );
        let hash = crate::hex::encode(digest(&SHA256, text.as_bytes()).as_ref());
        format!("{text}\"Manifest-Checksum\": \"{hash}\"}}\n").into_bytes()
    }

    fn received(files: &[(&str, &[u8])]) -> Received {
        let mut received = Received::default();
        for (path, bytes) in files {
            let mut input = *bytes;
            let mut reader = received.reader(&mut input);
            io::copy(&mut reader, &mut io::sink()).unwrap();
            reader.finish(path.as_bytes().to_vec());
        }
        received
    }

    fn said(came: &[(&str, &[u8])], sent: &[(&str, &[u8])]) -> String {
        let manifest = Manifest::parse(&manifest(sent)).unwrap();
        let mut received = received(came);
        let checked = received.check("host=x", manifest);
        checked.and(received.require_checked("")).map_or_else(|e| e.to_string(), |()| String::new())
    }

    #[test]
    fn what_came_must_be_what_was_sent() {
        let sent: &[(&str, &[u8])] = &[("base/5/1", b"one"), ("PG_VERSION", b"15\n")];
        assert_eq!(said(sent, sent), "");
        assert!(said(&sent[..1], sent).contains("`PG_VERSION` is in the server's manifest and"));
        assert!(said(sent, &sent[..1]).contains("`PG_VERSION` came and is not"));
        let altered: &[(&str, &[u8])] = &[("base/5/1", b"onf"), ("PG_VERSION", b"15\n")];
        assert!(said(altered, sent).contains("`base/5/1` is not what"));
        assert!(Received::default().require_checked("x").is_err());
    }

    #[test]
    fn a_path_that_is_no_text_is_read() {
        let sent: &[(&str, &[u8])] = &[("Encoded-Path\": \"612f62", b"x")];
        assert_eq!(said(&[("a/b", b"x")], sent), "");
    }

    #[test]
    fn an_altered_manifest_is_none() {
        let good = manifest(&[("a", b"x"), ("b", b"y")]);
        assert!(Manifest::parse(&good).is_some());
        for at in 0..good.len() - 1 {
            let mut altered = good.clone();
            altered[at] ^= 1;
            assert!(Manifest::parse(&altered).is_none(), "{at}");
            assert!(Manifest::parse(&good[..at]).is_none(), "{at}");
        }
    }
}
