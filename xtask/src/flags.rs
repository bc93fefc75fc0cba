//! Reads a task's arguments: flags, and flags with a value. Anything else is an error.

/// What was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    plain: Vec<String>,
    valued: Vec<(String, String)>,
}

impl Flags {
    /// Reads arguments of which `plain` stand alone and `valued` take a value.
    pub(crate) fn read(
        arguments: &[String],
        plain: &[&str],
        valued: &[&str],
    ) -> Result<Flags, String> {
        let mut flags = Flags::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if plain.contains(&argument.as_str()) {
                flags.plain.push(argument.clone());
            } else if valued.contains(&argument.as_str()) {
                let value = rest.next().ok_or_else(|| format!("{argument} takes a value"))?;
                flags.valued.push((argument.clone(), value.clone()));
            } else {
                let known = [plain, valued].concat().join(", ");
                return Err(format!("{argument:?} is not one of {known}"));
            }
        }
        Ok(flags)
    }

    /// Whether a flag was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.plain.iter().any(|flag| flag == name)
    }

    /// All values of a flag.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.valued.iter().filter(|(flag, _)| flag == name).map(|(_, v)| v.as_str()).collect()
    }

    /// A flag's value as a whole number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.values(name).last().copied() else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("{name} takes a whole number, not {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_arguments_missing_values_and_wrong_numbers_are_errors() {
        let read = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(String::from).collect();
            Flags::read(&words, &["--all"], &["--count"])
        };
        let flags = read("--all --count 5").expect("these are known");
        assert!(flags.has("--all") && !flags.has("--install"));
        assert_eq!(flags.number("--count"), Ok(Some(5)));
        assert!(read("--every").is_err() && read("--count").is_err());
        assert!(read("--count x").expect("a value").number("--count").is_err());
    }
}
