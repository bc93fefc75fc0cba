//! `tidy.allow`: what may break a rule, and why. A line is `rule path reason`; the reason is
//! words, and a path that ends in `/` stands for all below it. `#` begins a comment.

use super::Finding;

/// Where they stand.
pub(super) const FILE: &str = "tidy.allow";
/// A reason shorter than this is none.
const REASON_MIN: usize = 12;

struct Allowance<'a> {
    rule: &'a str,
    path: &'a str,
    reason: &'a str,
    line: usize,
}

impl Allowance<'_> {
    fn covers(&self, finding: &Finding) -> bool {
        let below = self.path.ends_with('/') && finding.path.starts_with(self.path);
        self.rule == finding.rule && (self.path == finding.path || below)
    }
}

/// The findings that no allowance covers, and the allowances that give no reason or cover
/// nothing any more.
pub(super) fn apply(text: &str, findings: Vec<Finding>) -> Vec<Finding> {
    let mut left: Vec<Finding> = Vec::new();
    let allowances: Vec<Allowance<'_>> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|(index, line)| {
            let mut words = line.trim().splitn(3, char::is_whitespace);
            let mut next = || words.next().unwrap_or_default().trim();
            Allowance { rule: next(), path: next(), reason: next(), line: index + 1 }
        })
        .collect();
    for allowance in &allowances {
        let used = findings.iter().any(|finding| allowance.covers(finding));
        let text = match (allowance.reason.len() >= REASON_MIN, used) {
            (true, true) => continue,
            (false, _) => "an allowance needs a reason: `rule path reason`",
            (true, false) => "this allowance covers nothing any more: remove it",
        };
        let text = text.to_string();
        left.push(Finding { path: FILE.to_string(), line: allowance.line, rule: "allow", text });
    }
    let covered = |finding: &Finding| allowances.iter().any(|a| a.covers(finding));
    left.extend(findings.into_iter().filter(|finding| !covered(finding)));
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_covers_its_path_needs_a_reason_and_must_not_outlive_its_use() {
        let finding = |path: &str| Finding {
            path: path.to_string(),
            line: 9,
            rule: "unsafe",
            text: String::new(),
        };
        let lines = |text: &str| -> Vec<String> {
            let left = apply(text, vec![finding("a.rs"), finding("lab/b.rs")]);
            left.iter().map(|f| format!("{}:{}", f.path, f.line)).collect()
        };
        let good =
            "# why\nunsafe a.rs it has to, because of X\nunsafe lab/ all of it has to, too\n";
        assert_eq!(lines(good), Vec::<String>::new());
        assert_eq!(lines(""), ["a.rs:9", "lab/b.rs:9"]);
        assert_eq!(lines("unsafe a.rs short\n"), ["tidy.allow:1", "lab/b.rs:9"]);
        let stale = "unsafe c.rs it had to, long ago\n";
        assert_eq!(lines(stale), ["tidy.allow:1", "a.rs:9", "lab/b.rs:9"]);
    }
}
