//! From what an operator writes to a store.

use super::{Store, StoreError, local::LocalStore, patient::PatientStore, s3::S3Store};
use std::path::Path;
use std::sync::Arc;

/// Opens an existing place: a directory, or `s3://bucket/prefix`.
///
/// # Errors
/// Where the text names no location that we know.
pub fn open(location: &str) -> Result<Arc<dyn Store>, StoreError> {
    match location.split_once("://") {
        None if location.is_empty() => Err(StoreError::Location(location.to_owned())),
        None => Ok(Arc::new(LocalStore::open(Path::new(location)))),
        Some(("s3", rest)) => open_s3(location, rest),
        Some(_) => Err(StoreError::Location(location.to_owned())),
    }
}

/// Opens the place and makes its folders where it is a directory.
///
/// # Errors
/// As [`open`], and where the folders cannot be made.
pub fn create(location: &str) -> Result<Arc<dyn Store>, StoreError> {
    if location.contains("://") || location.is_empty() {
        return open(location);
    }
    Ok(Arc::new(LocalStore::create(Path::new(location))?))
}

fn open_s3(location: &str, rest: &str) -> Result<Arc<dyn Store>, StoreError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(StoreError::Location(location.to_owned()));
    }
    Ok(Arc::new(PatientStore::new(Arc::new(S3Store::open(bucket, prefix)?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_schemes_are_refused() {
        for location in ["", "ftp://x/y", "s3:///y"] {
            assert!(matches!(open(location), Err(StoreError::Location(_))), "{location}");
        }
        assert!(open("/some/where").is_ok());
    }
}
