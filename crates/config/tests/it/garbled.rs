//! Whatever a text is: never a panic, and either a specification or at least one error.

use crate::directories;

/// Small generator of our own (xorshift64*), so that a failure repeats by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

const ROUNDS: u64 = 6_000;
const SEED: u64 = 0x00B1_0C4E_D5EE_D001;

const PIECES: &[&str] = &[
    "[[node]]\n",
    "[[resource]]\n",
    "[cluster]\n",
    "[cluster.ports]\n",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'''",
    "\"\"\"",
    "=",
    ".",
    ",",
    "#",
    "\n",
    "\r",
    "\0",
    "é",
    "🦀",
    "\u{202e}",
    "\u{feff}",
    "true",
    "-1",
    "0",
    "0x10",
    "1e400",
    "nan",
    "18446744073709551616",
    "9223372036854775807",
    "1979-05-27T07:32:00Z",
    "name = \"a\"\n",
    "name = \"\"\n",
    "with = \"gateway\"\n",
    "after = [\"gateway\", \"x\"]\n",
    "health = [{}]\n",
    "health = [{ tcp = \":\" }]\n",
    "links = [\"::\"]\n",
    "witness = true\n",
    "voter = false\n",
    "rto_ms = 1\n",
    "\\u0000",
    "include = \"conf.d\"\n",
    "a.b.c.d = 1\n",
    "ports = { peer = 0 }\n",
    "on = [\"failover\"]\n",
];

fn garble(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let to = (at + random.below(40)).min(bytes.len());
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..to)),
            2 => {
                let piece = PIECES[random.below(PIECES.len())].bytes();
                drop(bytes.splice(at..at, piece));
            }
            3 => {
                let again = bytes[at..to].to_vec();
                let where_to = random.below(bytes.len() + 1);
                drop(bytes.splice(where_to..where_to, again));
            }
            4 if at < bytes.len() => bytes[at] = random.next() as u8,
            5 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => {
                let mut lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
                let (a, b) = (random.below(lines.len()), random.below(lines.len()));
                lines.swap(a, b);
                bytes = lines.join(&b'\n');
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn check(text: &str, what: &str) -> bool {
    let parsed = config::parse(text, "garbled.toml");
    let errors = parsed.diagnostics.iter().filter(|d| d.is_error()).count();
    assert_eq!(parsed.spec.is_none(), errors > 0, "{what}:\n{text}");
    let rendered = config::render(&parsed.diagnostics, false);
    assert!(rendered.is_empty() == parsed.diagnostics.is_empty(), "{what}:\n{text}");
    assert_eq!(config::to_json(&parsed.diagnostics).len(), parsed.diagnostics.len());
    if let Some(spec) = &parsed.spec {
        let again = config::parse(&config::to_toml(spec), "printed");
        assert_eq!(again.spec.as_ref(), Some(spec), "{what}:\n{text}");
    }
    parsed.spec.is_some()
}

#[test]
fn garbled_files_give_a_specification_or_an_error_and_never_a_panic() {
    let texts: Vec<String> = directories("tests/cases")
        .iter()
        .map(|case| case.join("cluster.toml"))
        .chain([crate::root().join("examples/order-gateway/cluster.toml")])
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .collect();
    let valid = |text: &&String| config::parse(text, "case").spec.is_some();
    let valid: Vec<&String> = texts.iter().filter(valid).collect();
    let mut random = Random(SEED);
    let mut accepted = 0;
    for round in 0..ROUNDS {
        let text = match round % 2 {
            0 => valid[random.below(valid.len())],
            _ => &texts[random.below(texts.len())],
        };
        let garbled = garble(text, &mut random);
        accepted += u64::from(check(&garbled, &format!("round {round} of seed {SEED:#x}")));
    }
    // Enough that the way through an accepted text is walked too; how many depends on the cases.
    assert!(accepted > ROUNDS / 100 && accepted < ROUNDS, "{accepted} of {ROUNDS} were accepted");
}

#[test]
fn every_beginning_of_a_valid_file_is_handled() {
    let path = crate::root().join("examples/order-gateway/cluster.toml");
    let text = std::fs::read_to_string(path).expect("the example is there");
    for (end, _) in text.char_indices() {
        check(&text[..end], &format!("cut at {end}"));
    }
}
