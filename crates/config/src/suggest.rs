//! "Did you mean …": the nearest of some words.

/// The candidate that `word` most likely was meant to be, if any is near: the same word in other
/// letters (`Stop-Signal`), one that it is the beginning of (`rto` for `rto_ms`), or one that few
/// slips away from it.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let word = plain(word);
    if word.is_empty() || word.len() > 64 {
        return None;
    }
    let slips_allowed = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other = plain(candidate);
            let begins = word.len() >= 3
                && (other.starts_with(&format!("{word}_"))
                    || word.starts_with(&format!("{other}_")));
            let slips = if word == other {
                0
            } else if begins || word.strip_suffix('s') == Some(other.as_str()) {
                1
            } else {
                distance(&word, &other)
            };
            (slips <= slips_allowed && slips < other.chars().count()).then_some((slips, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Slips (a letter more, less, another, or two swapped) between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let other = usize::from(a[i - 1] != b[j - 1]);
            let mut least =
                (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + other);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_beginnings_find_their_word_and_others_find_none() {
        let keys = ["name", "standby", "stop_signal", "stop_ms", "rto_ms", "health", "links"];
        for (word, expect) in [
            ("nmae", Some("name")),
            ("stanby", Some("standby")),
            ("Stop-Signal", Some("stop_signal")),
            ("rto", Some("rto_ms")),
            ("healthcheck", None),
            ("link", Some("links")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), expect, "{word}");
        }
    }
}
