//! What custodians and operators type or keep on paper: words, shares, key files; and the keys
//! behind their wrapping.

use vault::keys::access::recovery_from_text;
use vault::keys::deletion::DeletionKey;
use vault::keys::{shares, words};
use zeroize::Zeroizing;

use crate::Target;
use crate::cursor::Cursor;

/// Longest payload that is written as words here.
const PAYLOAD_MAX: usize = 37;

pub(crate) const TARGET: Target = Target::new("vault-keys", "words, shares and keys", read, seeds);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    match input.byte() % 7 {
        0 => {
            let payload = input.take(PAYLOAD_MAX);
            let text = words::encode(payload);
            let back = words::decode(&text, payload.len()).expect("words are read back");
            assert_eq!(back.as_slice(), payload);
        }
        1 => mistyped(input),
        2 => drop(words::decode(&input.text(), PAYLOAD_MAX)),
        3 => drop(recovery_from_text(&input.text())),
        4 => drop(DeletionKey::from_words(&input.text())),
        5 => {
            let _is_one = vault::fuzzing::key_ring(input.0);
        }
        _ => combined(input),
    }
}

/// One word wrong is named, and never taken for right.
fn mistyped(mut input: Cursor<'_>) {
    let (at, by) = (usize::from(input.byte()), u16::from_le_bytes(input.array()) % 2_047 + 1);
    let payload = input.take(PAYLOAD_MAX);
    let text = words::encode(payload);
    let mut typed: Vec<&str> = text.split(' ').collect();
    let at = at % typed.len();
    let list = words::encode(&by.to_be_bytes());
    let other = list.split(' ').find(|word| *word != typed[at]).unwrap_or("zoo");
    typed[at] = other;
    let wrong = words::decode(&typed.join(" "), payload.len()).expect_err("a wrong word");
    let words::WordsError::Wrong { position, .. } = wrong else { panic!("{wrong}") };
    assert_eq!(position, at + 1);
}

/// Shares whose words are right, and whose contents are the input's.
fn combined(mut input: Cursor<'_>) {
    let mut texts = Vec::new();
    for _ in 0..input.byte() % 4 {
        texts.push(Zeroizing::new(words::encode(&input.array::<PAYLOAD_MAX>()).to_string()));
    }
    drop(shares::combine(&texts));
}

fn seeds() -> Vec<Vec<u8>> {
    let words = words::encode(&[0x52; 33]);
    let share = |number: u8| [&[0x53, 1, 2, 2, number][..], &[number; 32]].concat();
    vec![
        [&[0], &[7; 33][..]].concat(),
        [&[1, 3, 9, 0], &[7; 33][..]].concat(),
        [&[3], words.as_bytes()].concat(),
        [vec![6, 2], share(1), share(2)].concat(),
        [&[5, 1], &[9; 16][..], &[8; 32], &[1], &[7; 64]].concat(),
    ]
}
