//! What a machine remembers beside a repository: how far it acknowledged a log, and the hashes of
//! a backup's blocks.

use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::os::unix::fs::FileExt;
use vault::fuzzing::{block_memory, log_memory};

use crate::Target;
use crate::cursor::Cursor;
use crate::round;

const RUN: [u8; 16] = [7; 16];
const MODE: &str = "pages";

pub(crate) const TARGET: Target =
    Target::new("vault-memories", "what a machine remembers of logs and blocks", read, seeds);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    match input.byte() % 3 {
        0 => {
            if let Some((seen, line)) = log_memory(&input.text()) {
                let again = log_memory(&line).map(|(seen, _)| seen);
                assert_eq!(again, Some(seen), "what is remembered is read again");
            }
        }
        1 => blocks(input.0),
        _ => {
            // A list whose end is right, of this run and mode.
            let hashes = input.take(256).to_vec();
            let list = [&RUN[..], &round::encoded(&MODE), input.0].concat();
            let length = list.len() as u64;
            blocks(&[&hashes[..], &list, b"BKVTBLK2", &length.to_le_bytes()].concat());
        }
    }
}

/// No file has more hashes than there are bytes for.
fn blocks(bytes: &[u8]) {
    let file = File::from(memfd_create("blocks", MemfdFlags::CLOEXEC).expect("memory"));
    file.write_all_at(bytes, 0).expect("memory");
    let Some(found) = block_memory(file, RUN, MODE) else { return };
    assert!(found.iter().all(|(_, hashes)| hashes * 32 <= bytes.len()), "{found:?}");
}

fn seeds() -> Vec<Vec<u8>> {
    let list = round::encoded(&vec![(b"a".to_vec(), 0u64, 2u32), (b"b".to_vec(), 64, 1)]);
    vec![
        [&[0], &b"3 1/20000A8 1/3000000"[..]].concat(),
        [&[2], &[9; 256][..], &list].concat(),
        [&[1], &b"BKVTBLK2"[..], &0u64.to_le_bytes()].concat(),
    ]
}
