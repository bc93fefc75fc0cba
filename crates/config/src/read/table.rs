//! Reads one TOML table by its key table: unknown keys, missing ones, wrong types and numbers out
//! of range are all reported here, so that the readers above only say what they want.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::found::Found;
use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::keys::{Key, TABLES, Table, Value};
use crate::sink::Sink;
use crate::source::{Place, Source};
use crate::suggest;

type Item<'a> = Spanned<DeValue<'a>>;

/// One table being read.
pub(crate) struct Reader<'a> {
    table: &'a DeTable<'a>,
    keys: &'static Table,
    source: &'a Arc<Source>,
    place: Place,
    path: String,
    pub(crate) sink: &'a Sink,
}

impl<'a> Reader<'a> {
    /// Starts reading a table.
    pub(crate) fn new(
        table: &'a DeTable<'a>,
        keys: &'static Table,
        source: &'a Arc<Source>,
        place: Place,
        sink: &'a Sink,
    ) -> Reader<'a> {
        Reader { table, keys, source, place, path: String::new(), sink }
    }

    /// Reports the keys that the table should not have, but not those that the caller speaks of
    /// itself.
    pub(crate) fn known_keys_only(&self, except: &[&str]) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.keys.key(name).is_none() && !except.contains(&name) {
                self.unknown(name, &self.at(key.span()));
            }
        }
    }

    /// Gives the table a path: `node.a`, under which the places of its values are remembered.
    pub(crate) fn named(&mut self, path: String) {
        self.path = path;
    }

    /// Where the table stands.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    fn at(&self, span: std::ops::Range<usize>) -> Place {
        Place::new(self.source, span)
    }

    fn unknown(&self, name: &str, place: &Place) {
        let heading = self.keys.heading;
        let near = suggest::nearest(name, self.keys.keys.iter().map(|key| key.name));
        let elsewhere = TABLES.iter().find(|t| t.key(name).is_some()).map(|t| t.heading);
        let help = match (near, elsewhere) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(other)) => format!("`{name}` is a key of {other}; here it has no meaning"),
            (None, None) => {
                let all: Vec<&str> = self.keys.keys.iter().map(|key| key.name).collect();
                format!("the keys are: {}", all.join(", "))
            }
        };
        let message = format!("{heading} has no key {name:?}");
        self.sink.report(Diagnostic::new(Code::UnknownKey, message, help).at(place, "unknown"));
    }

    fn key(&self, name: &str) -> &'static Key {
        self.keys.key(name).unwrap_or_else(|| panic!("{name} is in the table {:?}", self.keys))
    }

    /// The value of a key and its place, which is remembered.
    fn item(&self, name: &str) -> Option<(&'a Item<'a>, Place)> {
        let item = self.table.get(name)?;
        let place = self.at(item.span());
        self.remember(name, &place);
        Some((item, place))
    }

    fn remember(&self, name: &str, place: &Place) {
        if !self.path.is_empty() {
            self.sink.place(format!("{}.{name}", self.path), place.first_line());
        }
    }

    /// Whether the key is there at all, with its place.
    pub(crate) fn has(&self, name: &str) -> Option<Place> {
        let (key, _) = self.table.get_key_value(name)?;
        Some(self.at(key.span()))
    }

    /// Reports that a key is missing.
    pub(crate) fn missing(&self, name: &str) {
        let meaning = self.key(name).meaning;
        self.sink.report(
            Diagnostic::new(
                Code::MissingKey,
                format!("{} lacks `{name}`", self.keys.heading),
                format!("add {}: {}", self.sample(name), lower_first(meaning)),
            )
            .at(&self.place, "in this table"),
        );
    }

    /// How the key could be written.
    fn sample(&self, name: &str) -> String {
        match self.key(name).value {
            Value::Text => format!("`{name} = \"…\"`"),
            Value::Flag => format!("`{name} = true`"),
            Value::Whole { min, .. } => format!("`{name} = {}`", min.max(1)),
            Value::Texts { .. } => format!("`{name} = [\"…\"]`"),
            Value::Choice(words) | Value::ChoiceOr(words, _) => {
                format!("`{name} = {:?}`", words[0])
            }
            Value::Table(table) => match table.heading.starts_with('[') {
                true => format!("`{}`", table.heading),
                false => format!("`{name} = {{ … }}`"),
            },
            Value::Tables { table, .. } => match table.heading.starts_with('[') {
                true => format!("`{}`", table.heading),
                false => format!("`{name} = [{{ … }}]`"),
            },
            Value::Map { .. } => format!("`{name} = {{ NAME = \"…\" }}`"),
        }
    }

    fn wrong_type(&self, name: &str, item: &Item<'_>, place: &Place, help: Option<String>) {
        let (want, found) = (type_words(self.key(name).value), item.get_ref().type_str());
        let help = help.unwrap_or_else(|| format!("write it as {}", self.sample(name)));
        self.sink.report(
            Diagnostic::new(
                Code::WrongType,
                format!("`{name}` is {want}, not {} {found}", article(found)),
                help,
            )
            .at(place, format!("{} {found}", article(found))),
        );
    }

    /// A text.
    pub(crate) fn text(&self, name: &str) -> Option<Found<String>> {
        let (item, place) = self.item(name)?;
        match item.get_ref().as_str() {
            Some(text) => super::text::checked(text, name, place, self.sink),
            None => {
                self.wrong_type(name, item, &place, None);
                None
            }
        }
    }

    /// A text that must be there.
    pub(crate) fn required_text(&self, name: &str) -> Option<Found<String>> {
        if self.has(name).is_none() {
            self.missing(name);
        }
        self.text(name)
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, name: &str) -> Option<Found<bool>> {
        let (item, place) = self.item(name)?;
        let value = item.get_ref().as_bool();
        if value.is_none() {
            let help = format!("write `{name} = true` or `{name} = false`, without quotes");
            self.wrong_type(name, item, &place, Some(help));
        }
        value.map(|value| Found { value, place })
    }

    /// A whole number inside the key's bounds.
    pub(crate) fn whole(&self, name: &str) -> Option<Found<u64>> {
        let (item, place) = self.item(name)?;
        let Value::Whole { unit, min, max } = self.key(name).value else {
            panic!("`{name}` is a whole number in the key table");
        };
        let DeValue::Integer(digits) = item.get_ref() else {
            let help = super::text::whole_from(item.get_ref(), unit)
                .map(|value| format!("write `{name} = {value}`: {unit} as a whole number"))
                .or_else(|| Some(format!("write a whole number: {unit}, without quotes")));
            self.wrong_type(name, item, &place, help);
            return None;
        };
        let value = i128::from_str_radix(digits.as_str(), digits.radix()).ok();
        let inside = value.and_then(|v| u64::try_from(v).ok()).filter(|v| (min..=max).contains(v));
        if inside.is_none() {
            self.sink.report(
                Diagnostic::new(
                    Code::OutOfRange,
                    format!("`{name}` can't be {digits}"),
                    format!("choose a number from {min} to {max} ({unit})"),
                )
                .at(&place, "out of range"),
            );
        }
        inside.map(|value| Found { value, place })
    }

    /// A number that has a default.
    pub(crate) fn whole_or(&self, name: &str, default: u64) -> u64 {
        self.whole(name).map_or(default, |found| found.value)
    }

    /// One of the words that the key allows.
    pub(crate) fn choice(&self, name: &str) -> Option<Found<String>> {
        let found = self.text(name)?;
        let (Value::Choice(words) | Value::ChoiceOr(words, _)) = self.key(name).value else {
            panic!("`{name}` is a choice in the key table");
        };
        if words.contains(&found.value.as_str()) {
            return Some(found);
        }
        self.not_a_choice(name, &found, words);
        None
    }

    /// Reports a word that is none of those allowed.
    pub(crate) fn not_a_choice(&self, name: &str, found: &Found<String>, words: &[&str]) {
        let help = match suggest::nearest(&found.value, words.iter().copied()) {
            Some(near) => format!("did you mean {near:?}? Possible are: {}", words.join(", ")),
            None => format!("possible are: {}", words.join(", ")),
        };
        let message = format!("`{name}` can't be {:?}", found.value);
        self.sink.report(
            Diagnostic::new(Code::NotAChoice, message, help).at(&found.place, "none of them"),
        );
    }

    fn array(&self, name: &str, max: usize) -> Option<(&'a DeArray<'a>, Place)> {
        let (item, place) = self.item(name)?;
        let Some(array) = item.get_ref().as_array() else {
            let lists_texts = matches!(self.key(name).value, Value::Texts { .. });
            let text = item.get_ref().as_str().filter(|text| lists_texts && text.len() < 200);
            let help = text.map(|text| {
                let words: Vec<String> =
                    text.split_whitespace().map(|w| format!("{w:?}")).collect();
                format!("write it as a list: `{name} = [{}]`", words.join(", "))
            });
            self.wrong_type(name, item, &place, help);
            return None;
        };
        if array.len() > max {
            self.sink.report(
                Diagnostic::new(
                    Code::TooMany,
                    format!("`{name}` has {} entries; {max} is the most", array.len()),
                    "remove some",
                )
                .at(&place, "too many"),
            );
        }
        Some((array, place))
    }

    /// A list of texts; `None` where the key is absent or no list.
    pub(crate) fn texts(&self, name: &str) -> Option<Vec<Found<String>>> {
        let Value::Texts { max } = self.key(name).value else {
            panic!("`{name}` is a list of texts in the key table");
        };
        let (array, _) = self.array(name, max)?;
        let mut found = Vec::new();
        for item in array.iter().take(max) {
            let place = self.at(item.span());
            match item.get_ref().as_str() {
                Some(text) => found.extend(super::text::checked(text, name, place, self.sink)),
                None => self.wrong_type(name, item, &place, Some("put it in quotes".to_string())),
            }
        }
        Some(found)
    }

    /// A table; `None` where the key is absent or no table.
    pub(crate) fn table(&self, name: &str) -> Option<Reader<'a>> {
        let (Value::Table(keys) | Value::ChoiceOr(_, keys)) = self.key(name).value else {
            panic!("`{name}` is a table in the key table");
        };
        let (item, place) = self.item(name)?;
        let Some(table) = item.get_ref().as_table() else {
            self.wrong_type(name, item, &place, None);
            return None;
        };
        let mut reader = Reader::new(table, keys, self.source, place.first_line(), self.sink);
        if !self.path.is_empty() {
            reader.named(format!("{}.{name}", self.path));
        }
        Some(reader)
    }

    /// A table that must be there.
    pub(crate) fn required_table(&self, name: &str) -> Option<Reader<'a>> {
        if self.has(name).is_none() {
            self.missing(name);
        }
        self.table(name)
    }

    /// Whether the value of a key is a table.
    pub(crate) fn is_table(&self, name: &str) -> bool {
        self.table.get(name).is_some_and(|item| item.get_ref().is_table())
    }

    /// A list of tables; empty where the key is absent or no list.
    pub(crate) fn tables(&self, name: &str) -> Vec<Reader<'a>> {
        let Value::Tables { table: keys, max } = self.key(name).value else {
            panic!("`{name}` is a list of tables in the key table");
        };
        let Some((array, _)) = self.array(name, max) else { return Vec::new() };
        let mut readers = Vec::new();
        for (index, item) in array.iter().take(max).enumerate() {
            let place = self.at(item.span());
            let Some(table) = item.get_ref().as_table() else {
                self.wrong_type(name, item, &place, None);
                continue;
            };
            let mut reader = Reader::new(table, keys, self.source, place.first_line(), self.sink);
            if !self.path.is_empty() {
                reader.named(format!("{}.{name}.{index}", self.path));
            }
            readers.push(reader);
        }
        readers
    }

    /// A map of the operator's own names to texts.
    pub(crate) fn map(&self, name: &str) -> Vec<(Found<String>, Found<String>)> {
        let Value::Map { max } = self.key(name).value else {
            panic!("`{name}` is a map in the key table");
        };
        let Some((item, place)) = self.item(name) else { return Vec::new() };
        let Some(table) = item.get_ref().as_table() else {
            self.wrong_type(name, item, &place, None);
            return Vec::new();
        };
        if table.len() > max {
            let message = format!("`{name}` has {} entries; {max} is the most", table.len());
            self.sink.report(
                Diagnostic::new(Code::TooMany, message, "remove some").at(&place, "too many"),
            );
        }
        let mut entries = Vec::new();
        for (key, item) in table.iter().take(max) {
            let at = self.at(item.span());
            let key = Found { value: key.get_ref().to_string(), place: self.at(key.span()) };
            match item.get_ref().as_str() {
                Some(text) => {
                    let value = super::text::checked(text, &key.value, at, self.sink);
                    entries.extend(value.map(|value| (key, value)));
                }
                None => {
                    let found = item.get_ref().type_str();
                    let message =
                        format!("{:?} is text, not {} {found}", key.value, article(found));
                    let help = "put the value in quotes: a process sees text only";
                    self.sink.report(
                        Diagnostic::new(Code::WrongType, message, help).at(&at, "not text"),
                    );
                }
            }
        }
        entries
    }
}

fn type_words(value: Value) -> &'static str {
    match value {
        Value::Text | Value::Choice(_) => "text",
        Value::Flag => "true or false",
        Value::Whole { .. } => "a whole number",
        Value::Texts { .. } => "a list of texts",
        Value::ChoiceOr(..) => "text or a table",
        Value::Table(_) | Value::Map { .. } => "a table",
        Value::Tables { .. } => "a list of tables",
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

fn lower_first(sentence: &str) -> String {
    let mut chars = sentence.chars();
    let first = chars.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    first + chars.as_str().trim_end_matches('.')
}
