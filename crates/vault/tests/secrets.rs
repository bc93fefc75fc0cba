//! Keys are in no error, no debug output, no object, no environment and no core dump.

mod common;

use age::secrecy::ExposeSecret;
use common::*;
use std::sync::Arc;
use vault::keys::access::{recovery_from_text, recovery_words};
use vault::keys::secret::forbid_core_dumps;
use vault::store::memory::MemoryStore;

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

#[test]
fn no_key_shows_in_objects_errors_debug_output_or_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    sample_tree(&data);
    let clock = TestClock::new();
    let store = Arc::new(MemoryStore::new());
    let (mut repository, identity) = init(store.clone(), &clock);
    back_up(&mut repository, &data).unwrap();
    repository.rotate(&[], None).unwrap();
    back_up(&mut repository, &data).unwrap();
    let ring = repository.ring();
    let mut secrets: Vec<Vec<u8>> = vec![ring.chunk_id_key().to_vec()];
    for epoch in 0..=ring.epoch() {
        let keys = ring.at(epoch).unwrap();
        secrets.push(keys.master.expose().to_vec());
        secrets.push(keys.signing_seed.expose().to_vec());
    }
    let hex: Vec<Vec<u8>> = secrets
        .iter()
        .map(|s| s.iter().map(|b| format!("{b:02x}")).collect::<String>().into_bytes())
        .collect();
    secrets.extend(hex);
    secrets.push(identity.to_string().expose_secret().as_bytes().to_vec());
    let mut shown: Vec<Vec<u8>> = store.snapshot().into_values().collect();
    shown.push(format!("{ring:?}").into_bytes());
    shown.push(format!("{:?}", repository.state()).into_bytes());
    let wrong = recovery_words(&identity).replace("a", "e");
    let error = recovery_from_text(&wrong).err().map(|e| format!("{e} {e:?}"));
    shown.push(error.unwrap_or_default().into_bytes());
    shown.push(std::fs::read("/proc/self/environ").unwrap());
    for (index, text) in shown.iter().enumerate() {
        assert!(secrets.iter().all(|secret| !holds(text, secret)), "place {index}");
    }
}

#[test]
fn the_process_leaves_no_core_dump() {
    forbid_core_dumps().unwrap();
    let behaviour = rustix::process::dumpable_behavior().unwrap();
    assert_eq!(behaviour, rustix::process::DumpableBehavior::NotDumpable);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
    assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
}
