//! Join tokens: as text, and the content behind a right checksum.

use agent::fuzzing::token_text;
use agent::identity::token::ADDRESSES_MAX;
use agent::identity::{ClusterId, Fingerprint, JoinToken, Role};

use crate::Target;
use crate::cursor::Cursor;
use crate::round;

pub(crate) const TARGET: Target =
    Target::new("join-token", "join tokens, before and behind the checksum", read, seeds)
        .input(2_048);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    let text = match input.byte() % 2 {
        0 => input.text(),
        _ => token_text(input.0),
    };
    let Ok(token) = JoinToken::from_text(&text) else { return };
    assert!(token.addresses.len() <= ADDRESSES_MAX, "no more addresses than a token may have");
    let again = JoinToken::from_text(&token.to_text()).expect("what was read is read again");
    assert!(again == token, "and is the same");
}

fn seeds() -> Vec<Vec<u8>> {
    let addresses = vec![([127, 0, 0, 1], 7000).into(), (std::net::Ipv6Addr::LOCALHOST, 1).into()];
    let name = "c".parse().ok();
    let print = Fingerprint([3; 32]);
    let token = JoinToken::new(ClusterId([1; 16]), print, Role::Voter, name, addresses);
    vec![[&[0], token.to_text().as_bytes()].concat(), [&[1], &round::encoded(&token)[..]].concat()]
}
