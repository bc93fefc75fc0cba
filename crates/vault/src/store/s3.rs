//! An S3 bucket as a store, through `object_store`: conditional puts, ranged gets. Calls block:
//! asynchronous callers use a blocking thread.

use super::{
    Area, Created, Listed, OBJECT_BYTES_MAX, ObjectName, Protection, Store, StoreError, s3_settings,
};
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut};
use object_store::path::Path;
use object_store::{Error, ObjectStore, PutMode, PutOptions, RetryConfig};
use std::io;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How often the client repeats a request by itself, after an answer that says "not now" or
/// without a connection. [`super::patient`] does the rest: it knows what a lost answer means.
const REPEATS_MAX: usize = 2;
/// The region where none is set, as the client has it.
const REGION: &str = "us-east-1";
/// After this long a request is given up.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// A repository in a bucket.
pub struct S3Store {
    bucket: AmazonS3,
    prefix: String,
    location: String,
    region: String,
    runtime: Runtime,
}

impl S3Store {
    /// Connects to `s3://bucket/prefix`. Credentials, region and endpoint come from the usual
    /// `AWS_*` variables or from the instance's role.
    ///
    /// # Errors
    /// Where the settings make no sense; the network is not touched yet.
    pub fn open(bucket: &str, prefix: &str) -> Result<S3Store, StoreError> {
        S3Store::with(AmazonS3Builder::from_env(), bucket, prefix)
    }

    /// As [`S3Store::open`], with these settings instead of the environment's.
    ///
    /// # Errors
    /// As [`S3Store::open`].
    pub fn with(
        settings: AmazonS3Builder,
        bucket: &str,
        prefix: &str,
    ) -> Result<S3Store, StoreError> {
        let location = format!("s3://{bucket}/{prefix}");
        let retry = RetryConfig {
            max_retries: REPEATS_MAX,
            retry_timeout: REQUEST_LIMIT,
            ..RetryConfig::default()
        };
        let region = settings.get_config_value(&AmazonS3ConfigKey::Region);
        let region = region.unwrap_or_else(|| REGION.to_owned());
        let bucket = settings
            .with_bucket_name(bucket)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            // A bucket that locks its objects takes none without; elsewhere it finds what was
            // altered on its way. The signature needs the same digest.
            .with_checksum_algorithm(Checksum::SHA256)
            .with_retry(retry)
            .build()
            .map_err(|e| remote("open", &location, e))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|source| io_error("start the network for", &location, source))?;
        let prefix = prefix.trim_matches('/').to_owned();
        Ok(S3Store { bucket, prefix, location, region, runtime })
    }

    fn path(&self, name: &ObjectName) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }

    fn fault(&self, action: &'static str, name: &ObjectName, error: Error) -> StoreError {
        match error {
            Error::NotFound { .. } => StoreError::NotFound(name.clone()),
            other => remote(action, &format!("{}/{name}", self.location), other),
        }
    }
}

/// Whether the store meant it: it knows us and says no.
pub(super) fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::InvalidPath { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented
            | Error::UnknownConfigurationKey { .. }
    )
}

fn remote(action: &'static str, what: &str, error: Error) -> StoreError {
    StoreError::Remote { action, what: what.to_owned(), source: Box::new(error) }
}

fn io_error(action: &'static str, what: &str, source: io::Error) -> StoreError {
    StoreError::Io { action, what: what.to_owned(), source }
}

impl Store for S3Store {
    fn describe(&self) -> String {
        self.location.clone()
    }

    fn put_new(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StoreError> {
        let options = PutOptions::from(PutMode::Create);
        let path = self.path(name);
        let put = self.bucket.put_opts(&path, bytes.to_vec().into(), options);
        match self.runtime.block_on(put) {
            Ok(_) => Ok(Created::New),
            Err(Error::Precondition { .. }) => Ok(Created::Exists),
            // The client tells "the name is taken" (412) by one of its own errors within.
            Err(Error::AlreadyExists { source, .. }) if source.is::<Error>() => Ok(Created::Exists),
            // A conflict (409): another request is under way, and may still come to nothing.
            Err(Error::AlreadyExists { source, .. }) => match self.size(name) {
                Ok(_) => Ok(Created::Exists),
                Err(e) if e.is_not_found() => {
                    Err(self.fault("write", name, Error::Generic { store: "S3", source }))
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(self.fault("write", name, error)),
        }
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        let bytes = self.runtime.block_on(async {
            let found = self.bucket.get(&self.path(name)).await?;
            let size_bytes = found.meta.size;
            if size_bytes > OBJECT_BYTES_MAX {
                return Ok(Err(size_bytes));
            }
            found.bytes().await.map(Ok)
        });
        match bytes {
            Ok(Ok(bytes)) => Ok(bytes.into()),
            Ok(Err(size_bytes)) => Err(StoreError::TooLarge { name: name.clone(), size_bytes }),
            Err(error) => Err(self.fault("read", name, error)),
        }
    }

    fn get_range(&self, name: &ObjectName, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let wanted_bytes = offset.saturating_add(out.len() as u64);
        let path = self.path(name);
        let get = self.bucket.get_range(&path, offset..wanted_bytes);
        let bytes = match self.runtime.block_on(get) {
            Ok(bytes) => bytes,
            Err(error) if self.size(name)? >= wanted_bytes => {
                return Err(self.fault("read", name, error));
            }
            Err(_) => return Err(StoreError::Short { name: name.clone(), wanted_bytes }),
        };
        if bytes.len() != out.len() {
            return Err(StoreError::Short { name: name.clone(), wanted_bytes });
        }
        out.copy_from_slice(&bytes);
        Ok(())
    }

    fn size(&self, name: &ObjectName) -> Result<u64, StoreError> {
        let path = self.path(name);
        let meta = self.runtime.block_on(self.bucket.head(&path));
        Ok(meta.map_err(|e| self.fault("look at", name, e))?.size)
    }

    fn list(&self, area: Area, after: Option<&ObjectName>) -> Result<Vec<Listed>, StoreError> {
        let folder = Path::from(format!("{}/{}", self.prefix, area.folder()));
        let stream = match after {
            Some(name) => self.bucket.list_with_offset(Some(&folder), &self.path(name)),
            None => self.bucket.list(Some(&folder)),
        };
        let metas: Vec<_> = self
            .runtime
            .block_on(stream.try_collect())
            .map_err(|e| remote("list", &format!("{}/{}", self.location, area.folder()), e))?;
        let mut found: Vec<Listed> = metas
            .iter()
            .filter_map(|meta| {
                let name = ObjectName::new(area, meta.location.filename()?)?;
                Some(Listed { name, size_bytes: meta.size })
            })
            .collect();
        found.sort();
        Ok(found)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let path = self.path(name);
        match self.runtime.block_on(self.bucket.delete(&path)) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.fault("delete", name, error)),
        }
    }

    fn remove_leftovers(&self, _age: Duration) -> Result<u64, StoreError> {
        // A put is one request: the store keeps it whole or not at all.
        Ok(0)
    }

    fn protection(&self) -> Result<Protection, StoreError> {
        let asked = self.runtime.block_on(s3_settings::ask(&self.bucket, &self.region));
        asked.map_err(|e| remote("ask for the settings of", &self.location, e))
    }

    fn ranges_are_cheap(&self) -> bool {
        false
    }
}
