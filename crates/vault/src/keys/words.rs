//! Secrets as words that people can write down and type back. Eleven bits a word, the English
//! list of BIP-39, and three check words over GF(2^11): any one wrong word is pointed at, any
//! two are noticed, as are swapped, missing and extra words.

use bip39::Language;
use std::fmt;
use zeroize::Zeroizing;

/// Check words after the payload.
const CHECK_WORDS: usize = 3;
/// Bits a word holds.
const WORD_BITS: usize = 11;
/// x^11 + x^2 + 1, primitive over GF(2).
const FIELD_POLYNOMIAL: u32 = 0b1000_0000_0101;
/// The longest payload that anyone has to type.
pub const PAYLOAD_BYTES_MAX: usize = 64;

/// What is wrong with typed words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// Too few or too many.
    #[error(
        "{found} words were given, {expected} are needed: look for a word left out or typed twice"
    )]
    Count {
        /// How many there must be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A word that is not in the list.
    #[error("word {position}, `{word}`, is not one of the list{suggestion}")]
    Unknown {
        /// Counted from one.
        position: usize,
        /// What was typed.
        word: String,
        /// What may have been meant.
        suggestion: Suggestion,
    },
    /// One word is wrong, and its place follows from the check words.
    #[error("word {position}, `{word}`, is wrong: `{fits}` would fit")]
    Wrong {
        /// Counted from one.
        position: usize,
        /// What was typed.
        word: String,
        /// The word with which the check words agree.
        fits: String,
    },
    /// Two neighbours are in the wrong order.
    #[error("words {first} and {}, `{a}` and `{b}`, are in the wrong order", first + 1)]
    Swapped {
        /// The first one's place, counted from one.
        first: usize,
        /// The first one typed.
        a: String,
        /// The second one typed.
        b: String,
    },
    /// More than one word is wrong.
    #[error("more than one word is wrong: compare every word with the paper")]
    Several,
    /// The words are right, but are not what is asked for here.
    #[error("{0}")]
    Meaning(String),
}

/// Words of the list that resemble what was typed.
#[derive(Debug, PartialEq, Eq)]
pub struct Suggestion(Vec<&'static str>);

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "; perhaps `{}`", self.0.join("` or `"))
    }
}

/// How many words a payload of this length takes.
pub fn count(payload_bytes: usize) -> usize {
    (payload_bytes * 8).div_ceil(WORD_BITS) + CHECK_WORDS
}

/// The payload as words.
///
/// # Panics
/// Past [`PAYLOAD_BYTES_MAX`].
pub fn encode(payload: &[u8]) -> Zeroizing<String> {
    assert!(payload.len() <= PAYLOAD_BYTES_MAX, "a payload that people type is short");
    let mut symbols = Zeroizing::new(to_symbols(payload));
    let checks = check_symbols(&symbols);
    symbols.extend(checks);
    let list = Language::English.word_list();
    let mut text = Zeroizing::new(String::with_capacity(symbols.len() * 9));
    for (index, symbol) in symbols.iter().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        text.push_str(list[usize::from(*symbol)]);
    }
    text
}

/// Words in lines of six with the number of each line's first word, for paper.
pub fn for_paper(words: &str) -> Zeroizing<String> {
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut text = Zeroizing::new(String::with_capacity(words.len() * 16));
    for (line, group) in words.chunks(6).enumerate() {
        text.push_str(&format!("{:>4}  ", line * 6 + 1));
        text.push_str(&group.join("  "));
        text.push('\n');
    }
    text
}

/// The payload, or where the typing went wrong. Numbers, as printed before each line, and
/// capital letters don't matter.
///
/// # Errors
/// Naming the word to look at wherever it can be known.
pub fn decode(text: &str, payload_bytes: usize) -> Result<Zeroizing<Vec<u8>>, WordsError> {
    let typed: Vec<Zeroizing<String>> = text
        .split_whitespace()
        .filter(|w| !w.bytes().all(|b| b.is_ascii_digit()))
        .map(|w| Zeroizing::new(w.to_lowercase()))
        .collect();
    let expected = count(payload_bytes);
    if typed.len() != expected {
        return Err(WordsError::Count { expected, found: typed.len() });
    }
    let mut symbols = Zeroizing::new(Vec::with_capacity(expected));
    for (index, word) in typed.iter().enumerate() {
        let symbol = Language::English.find_word(word).ok_or_else(|| WordsError::Unknown {
            position: index + 1,
            word: word.to_string(),
            suggestion: suggest(word),
        })?;
        symbols.push(symbol);
    }
    check(&symbols, &typed)?;
    let payload = from_symbols(&symbols[..expected - CHECK_WORDS], payload_bytes);
    payload.ok_or(WordsError::Several)
}

/// The typed words against their check words.
fn check(symbols: &[u16], typed: &[Zeroizing<String>]) -> Result<(), WordsError> {
    let [s0, s1, s2] = syndromes(symbols);
    if [s0, s1, s2] == [0; CHECK_WORDS] {
        return Ok(());
    }
    if let Some(index) = locate_single(symbols.len(), s0, s1, s2) {
        let fits = Language::English.word_list()[usize::from(symbols[index] ^ s0)];
        return Err(WordsError::Wrong {
            position: index + 1,
            word: typed[index].to_string(),
            fits: fits.to_owned(),
        });
    }
    let mut swapped = Zeroizing::new(symbols.to_vec());
    for index in 0..symbols.len() - 1 {
        swapped.swap(index, index + 1);
        if syndromes(&swapped) == [0; CHECK_WORDS] {
            return Err(WordsError::Swapped {
                first: index + 1,
                a: typed[index].to_string(),
                b: typed[index + 1].to_string(),
            });
        }
        swapped.swap(index, index + 1);
    }
    Err(WordsError::Several)
}

/// A single error of magnitude `e` at place `i` leaves e, e·a^i, e·a^2i.
fn locate_single(length: usize, s0: u16, s1: u16, s2: u16) -> Option<usize> {
    if s0 == 0 {
        return None;
    }
    (0..length).find(|i| {
        let locator = power(*i);
        multiply(s0, locator) == s1 && multiply(s1, locator) == s2
    })
}

/// The sums of c_i·a^(ij) for j = 0, 1, 2: all zero for an intact code word.
fn syndromes(symbols: &[u16]) -> [u16; CHECK_WORDS] {
    let mut sums = [0; CHECK_WORDS];
    for (index, symbol) in symbols.iter().enumerate() {
        let locator = power(index);
        sums[0] ^= *symbol;
        sums[1] ^= multiply(*symbol, locator);
        sums[2] ^= multiply(*symbol, multiply(locator, locator));
    }
    sums
}

/// Solves the three linear equations that make all syndromes zero, by Cramer's rule on the
/// Vandermonde matrix of the last three places.
fn check_symbols(data: &[u16]) -> [u16; CHECK_WORDS] {
    let sums = syndromes(data);
    let x = [power(data.len()), power(data.len() + 1), power(data.len() + 2)];
    let mut checks = [0; CHECK_WORDS];
    for (index, check) in checks.iter_mut().enumerate() {
        let (a, b) = (x[(index + 1) % 3], x[(index + 2) % 3]);
        // The Lagrange form: (s2 + (a + b)·s1 + a·b·s0) / ((x_i + a)(x_i + b)).
        let top = sums[2] ^ multiply(a ^ b, sums[1]) ^ multiply(multiply(a, b), sums[0]);
        let bottom = multiply(x[index] ^ a, x[index] ^ b);
        *check = multiply(top, invert(bottom));
    }
    checks
}

fn multiply(a: u16, b: u16) -> u16 {
    let mut product = 0u32;
    for bit in 0..WORD_BITS {
        if b >> bit & 1 == 1 {
            product ^= u32::from(a) << bit;
        }
    }
    for bit in (WORD_BITS..2 * WORD_BITS).rev() {
        if product >> bit & 1 == 1 {
            product ^= FIELD_POLYNOMIAL << (bit - WORD_BITS);
        }
    }
    product as u16
}

fn power(exponent: usize) -> u16 {
    (0..exponent).fold(1, |value, _| multiply(value, 2))
}

/// a^(2^11 - 2), the inverse by Fermat.
fn invert(a: u16) -> u16 {
    let (mut result, mut base, mut exponent) = (1, a, (1u32 << WORD_BITS) - 2);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = multiply(result, base);
        }
        base = multiply(base, base);
        exponent >>= 1;
    }
    result
}

fn to_symbols(payload: &[u8]) -> Vec<u16> {
    let bit = |i: usize| payload.get(i / 8).map_or(0, |byte| byte >> (7 - i % 8) & 1);
    let words = (payload.len() * 8).div_ceil(WORD_BITS);
    // With the check words' room, so that the secret is never moved.
    let mut symbols = Vec::with_capacity(words + CHECK_WORDS);
    for word in 0..words {
        let bits = (0..WORD_BITS).map(|b| bit(word * WORD_BITS + b));
        symbols.push(bits.fold(0, |value, b| value << 1 | u16::from(b)));
    }
    symbols
}

fn from_symbols(symbols: &[u16], payload_bytes: usize) -> Option<Zeroizing<Vec<u8>>> {
    let bit = |i: usize| (symbols[i / WORD_BITS] >> (WORD_BITS - 1 - i % WORD_BITS) & 1) as u8;
    let mut payload = Zeroizing::new(Vec::with_capacity(payload_bytes));
    for byte in 0..payload_bytes {
        payload.push((0..8).fold(0, |value, b| value << 1 | bit(byte * 8 + b)));
    }
    // The filling bits are zero in anything that we encoded.
    let filled = (payload_bytes * 8..symbols.len() * WORD_BITS).all(|i| bit(i) == 0);
    filled.then_some(payload)
}

/// Words within two edits, nearest first: at most three.
fn suggest(word: &str) -> Suggestion {
    let list = Language::English.word_list();
    let mut near: Vec<(usize, &str)> = list
        .iter()
        .map(|candidate| (edits(word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= 2)
        .collect();
    near.sort();
    Suggestion(near.into_iter().take(3).map(|(_, w)| w).collect())
}

fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(32).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        (0..37).map(|i| (i * 73 + 11) as u8).collect()
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for length in 1..=PAYLOAD_BYTES_MAX {
            let payload = vec![0xa5; length];
            let words = encode(&payload);
            assert_eq!(words.split(' ').count(), count(length));
            assert_eq!(*decode(&words, length).unwrap(), payload);
            assert_eq!(*decode(&for_paper(&words).to_uppercase(), length).unwrap(), payload);
        }
    }

    #[test]
    fn every_wrong_word_is_pointed_at_and_the_right_one_named() {
        let words = encode(&sample());
        let words: Vec<&str> = words.split(' ').collect();
        let list = Language::English.word_list();
        for place in 0..words.len() {
            for step in [1, 2, 700, 2047] {
                let old = Language::English.find_word(words[place]).unwrap() as usize;
                let mut typed = words.clone();
                typed[place] = list[(old + step) % 2048];
                let expect = WordsError::Wrong {
                    position: place + 1,
                    word: typed[place].to_owned(),
                    fits: words[place].to_owned(),
                };
                assert_eq!(decode(&typed.join(" "), 37).unwrap_err(), expect);
            }
        }
    }

    #[test]
    fn two_wrong_words_are_never_accepted() {
        let words = encode(&sample());
        let words: Vec<&str> = words.split(' ').collect();
        for a in 0..words.len() {
            for b in a + 1..words.len() {
                let mut typed = words.clone();
                typed[a] = if typed[a] == "zoo" { "zone" } else { "zoo" };
                typed[b] = if typed[b] == "able" { "zebra" } else { "able" };
                assert!(decode(&typed.join(" "), 37).is_err());
            }
        }
    }

    #[test]
    fn typing_mistakes_are_said_in_words() {
        let words = encode(&sample());
        let words: Vec<&str> = words.split(' ').collect();
        let check = |typed: Vec<&str>, expect: &str| {
            let error = decode(&typed.join(" "), 37).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(words[1..].to_vec(), "29 words were given, 30 are needed");
        let mut typed = words.clone();
        typed[4] = "abandn";
        check(typed, "word 5, `abandn`, is not one of the list; perhaps `abandon`");
        let mut typed = words.clone();
        typed.swap(7, 8);
        check(typed, "words 8 and 9");
    }
}
