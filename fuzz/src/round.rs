//! There and back: what is read can be written, and what was written is read the same.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads postcard from the front of bytes.
pub(crate) fn postcard<T>(bytes: &[u8]) -> Option<T>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let (value, _rest) = postcard::take_from_bytes::<T>(bytes).ok()?;
    let written = postcard::to_allocvec(&value).expect("what was read can be written");
    let again = postcard::take_from_bytes::<T>(&written).expect("what was written can be read");
    assert_eq!(again.0, value);
    assert!(again.1.is_empty(), "an encoding is read whole");
    Some(value)
}

/// Reads JSON.
pub(crate) fn json<T>(bytes: &[u8]) -> Option<T>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let value: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, value);
    Some(value)
}

/// The postcard of a value.
pub(crate) fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("plain data has an encoding")
}
