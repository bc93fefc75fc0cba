//! Which mutants are tried: those whose names, hashed with the seed, come first. The same names
//! and the same seed are the same sample, on any machine.

/// The names in what cargo-mutants lists.
pub(super) fn names(json: &[u8]) -> Result<Vec<String>, String> {
    let listed: serde_json::Value =
        serde_json::from_slice(json).map_err(|error| format!("the list of mutants: {error}"))?;
    let mutants = listed.as_array().ok_or("the list of mutants is no list")?;
    let name = |mutant: &serde_json::Value| mutant["name"].as_str().map(str::to_owned);
    let names: Option<Vec<String>> = mutants.iter().map(name).collect();
    names.ok_or_else(|| "a mutant without a name: cargo-mutants 26.1 or newer?".to_owned())
}

/// As many names as asked for, in the order in which they were listed.
pub(super) fn sample(names: &[String], count: usize, seed: u64) -> Vec<String> {
    let mut drawn: Vec<(u64, usize)> =
        names.iter().enumerate().map(|(at, name)| (hash(seed, name), at)).collect();
    drawn.sort_unstable();
    drawn.truncate(count);
    drawn.sort_unstable_by_key(|(_, at)| *at);
    drawn.into_iter().map(|(_, at)| names[at].clone()).collect()
}

/// FNV-1a over seed and name, with its bits mixed at the end.
fn hash(seed: u64, name: &str) -> u64 {
    let bytes = seed.to_le_bytes().into_iter().chain(name.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_mutants_whatever_else_is_listed() {
        let names: Vec<String> = (0..50).map(|n| format!("a.rs:{n}:1: replace f")).collect();
        let drawn = sample(&names, 10, 1);
        assert_eq!((drawn.len(), &drawn), (10, &sample(&names, 10, 1)));
        assert_ne!(drawn, sample(&names, 10, 2));
        assert!(drawn.is_sorted_by_key(|name| names.iter().position(|other| other == name)));
        let fewer: Vec<String> = names.iter().filter(|n| drawn.contains(n)).cloned().collect();
        assert_eq!(sample(&fewer, 10, 1), drawn);
    }

    #[test]
    fn names_are_read_and_a_list_without_them_is_an_error() {
        assert_eq!(names(br#"[{"name": "x"}]"#), Ok(vec!["x".to_owned()]));
        assert!(names(br#"[{"file": "x"}]"#).is_err() && names(b"{}").is_err());
    }
}
