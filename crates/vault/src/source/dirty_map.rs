//! A map of what may have changed in an image, as hypervisors tell it. It is believed only where
//! it is whole and fits the image: a map that lost its end would call changed blocks unchanged.

use super::Stretches;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

/// The longest map.
const MAP_BYTES_MAX: u64 = 256 << 20;
/// Stretches that may have changed, at most.
const MAP_STRETCHES_MAX: usize = 4 << 20;
/// The longest line of a map of lines.
const LINE_BYTES_MAX: u64 = 64;

/// Reads a map of an image of this length: what may have changed.
///
/// Either the JSON that `nbdinfo --json --map=qemu:dirty-bitmap:NAME URI` prints (`info/map.c` of
/// libnbd): stretches without a gap from 0 to the end of the image, each `clean` or `dirty`. Or
/// lines: `size BYTES`, then `OFFSET LENGTH` of each dirty stretch, ascending, then `end`.
///
/// # Errors
/// Saying what is wrong with it.
pub(crate) fn read_map(input: impl Read, image_bytes: u64) -> Result<Stretches, String> {
    let mut input = BufReader::new(Bounded { input, left: MAP_BYTES_MAX });
    let mut found = Collector { dirty: Stretches::default(), reached: 0, image_bytes };
    match first_byte(&mut input).map_err(|error| error.to_string())? {
        Some(b'[') => json(input, &mut found)?,
        Some(b's') => lines(input, &mut found)?,
        Some(_) => return Err("it begins neither with `[` nor with `size BYTES`".to_owned()),
        None => return Err("it is empty".to_owned()),
    }
    Ok(found.dirty)
}

/// Skips white space; the byte after it stays.
fn first_byte(input: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let buffer = input.fill_buf()?;
        let blank = buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
        match buffer.get(blank) {
            Some(byte) => {
                let byte = *byte;
                input.consume(blank);
                return Ok(Some(byte));
            }
            None if blank == 0 => return Ok(None),
            None => input.consume(blank),
        }
    }
}

/// Input that fails where it is too long, instead of ending.
struct Bounded<R> {
    input: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(format!("it has over {MAP_BYTES_MAX} bytes"))),
        }
        Ok(read)
    }
}

/// What was read so far.
struct Collector {
    dirty: Stretches,
    /// Where the last stretch ended.
    reached: u64,
    image_bytes: u64,
}

impl Collector {
    /// Takes the next stretch.
    fn take(&mut self, offset: u64, length: u64, is_dirty: bool) -> Result<(), String> {
        let (reached, image_bytes) = (self.reached, self.image_bytes);
        if length == 0 {
            return Err(format!("the stretch at {offset} is empty"));
        }
        if offset < reached {
            return Err(format!("the stretch at {offset} begins before {reached}, the last's end"));
        }
        let end = offset.checked_add(length).filter(|end| *end <= image_bytes);
        let end = end.ok_or_else(|| {
            format!(
                "the stretch at {offset} of {length} bytes ends behind the image's end, \
                 {image_bytes}"
            )
        })?;
        self.reached = end;
        if is_dirty {
            self.dirty.push(offset, end);
        }
        if self.dirty.len() > MAP_STRETCHES_MAX {
            return Err(format!("it has over {MAP_STRETCHES_MAX} dirty stretches"));
        }
        Ok(())
    }
}

/// An element of the array.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    offset: u64,
    length: u64,
    #[serde(rename = "type")]
    number: u32,
    /// Needed: in a map of something else the same numbers mean something else.
    description: State,
}

#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Clean,
    Dirty,
}

/// Takes the array's elements as they come.
struct Elements<'a>(&'a mut Collector);

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of stretches")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(Told { offset, length, number, description }) = elements.next_element()? {
            let is_dirty = description == State::Dirty;
            if number != u32::from(is_dirty) {
                return Err(A::Error::custom("type 0 is `clean` and type 1 is `dirty`"));
            }
            if offset != self.0.reached {
                let reached = self.0.reached;
                let what =
                    format!("a stretch begins at {offset}, the one before ended at {reached}");
                return Err(A::Error::custom(what));
            }
            self.0.take(offset, length, is_dirty).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

fn json(input: impl Read, found: &mut Collector) -> Result<(), String> {
    let mut input = serde_json::Deserializer::from_reader(input);
    let read = (&mut input).deserialize_seq(Elements(found)).and_then(|()| input.end());
    read.map_err(|error| {
        format!(
            "it is not what `nbdinfo --json --map=qemu:dirty-bitmap:NAME URI` prints: {error} \
             (`qemu-img map` says what is allocated, and not what has changed)"
        )
    })?;
    if found.reached == found.image_bytes {
        return Ok(());
    }
    Err(format!("it is a map of {} bytes, and the image has {}", found.reached, found.image_bytes))
}

fn lines(mut input: impl BufRead, found: &mut Collector) -> Result<(), String> {
    let mut number = 0_u64;
    let mut next = |input: &mut dyn BufRead| -> Result<(u64, String), String> {
        number += 1;
        let mut line = String::new();
        let read = input.take(LINE_BYTES_MAX).read_line(&mut line);
        read.map_err(|error| format!("line {number}: {error}"))?;
        match line.strip_suffix('\n') {
            Some(line) => Ok((number, line.to_owned())),
            None => Err(format!("line {number} has no end, or the line `end` is missing")),
        }
    };
    let (_, first) = next(&mut input)?;
    let size = first.strip_prefix("size ").and_then(number_of);
    if size != Some(found.image_bytes) {
        return Err(format!("it begins with `{first}`, and the image has {}", found.image_bytes));
    }
    loop {
        let (at, line) = next(&mut input)?;
        if line == "end" {
            break;
        }
        let stretch = line.split_once(' ');
        let stretch = stretch.and_then(|(from, length)| number_of(from).zip(number_of(length)));
        let (offset, length) =
            stretch.ok_or_else(|| format!("line {at}: `{line}` is no `OFFSET LENGTH`"))?;
        found.take(offset, length, true).map_err(|why| format!("line {at}: {why}"))?;
    }
    match first_byte(&mut input) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err("something follows the line `end`".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A number as digits only: a sign would be taken by the parser, too.
fn number_of(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn of(stretches: &[(u64, u64)]) -> Stretches {
        let mut all = Stretches::default();
        stretches.iter().for_each(|(from, end)| all.push(*from, *end));
        all
    }

    #[test]
    fn what_nbdinfo_prints_is_read() {
        // As libnbd's own test of it has it.
        let text = r#"[
{ "offset": 0, "length": 65536, "type": 0, "description": "clean"},
{ "offset": 65536, "length": 65536, "type": 1, "description": "dirty"},
{ "offset": 131072, "length": 393216, "type": 0, "description": "clean"},
{ "offset": 524288, "length": 65536, "type": 1, "description": "dirty"},
{ "offset": 589824, "length": 458752, "type": 0, "description": "clean"}
]
"#;
        let expect = of(&[(65_536, 131_072), (524_288, 589_824)]);
        assert_eq!(read_map(text.as_bytes(), MIB), Ok(expect));
        assert_eq!(read_map(&b"[]"[..], 0), Ok(Stretches::default()));
        // Wherever it is cut off, it is no map.
        for length in 0..text.trim_end().len() {
            assert!(read_map(&text.as_bytes()[..length], MIB).is_err(), "{length}");
        }
    }

    #[test]
    fn lines_are_read() {
        let text = "size 1048576\n0 512\n512 512\n524288 65536\nend\n";
        let expect = of(&[(0, 1024), (524_288, 589_824)]);
        assert_eq!(read_map(text.as_bytes(), MIB), Ok(expect));
        for length in 0..text.len() {
            assert!(read_map(&text.as_bytes()[..length], MIB).is_err(), "{length}");
        }
    }

    #[test]
    fn a_map_that_does_not_fit_is_refused_with_what_is_wrong() {
        let element = |offset: &str, length: &str, rest: &str| {
            format!("[{{\"offset\":{offset},\"length\":{length}{rest}}}]")
        };
        let dirty = ",\"type\":1,\"description\":\"dirty\"";
        let all = "1048576";
        let cases = [
            (element("0", "524288", dirty), "a map of 524288 bytes"),
            (element("0", "1048577", dirty), "behind the image's end"),
            (element("512", "512", dirty), "begins at 512"),
            (element("0", "0", dirty), "is empty"),
            (element("-1", all, dirty), "invalid value"),
            (element("0", "1048576.0", dirty), "invalid type"),
            (element("0", "18446744073709551616", dirty), "invalid type"),
            (element("0", all, ",\"type\":1"), "missing field `description`"),
            (element("0", all, ",\"type\":1,\"description\":\"hole\""), "unknown variant"),
            (element("0", all, ",\"type\":0,\"description\":\"dirty\""), "type 1 is `dirty`"),
            (element("0", all, &format!("{dirty},\"data\":true")), "unknown field"),
            (element("0", all, &format!("{dirty},\"length\":3")), "duplicate field"),
            (element("0", all, dirty) + "x", "trailing characters"),
            ("[{\"start\":0,\"length\":1048576,\"data\":true}]".to_owned(), "qemu-img map"),
            ("{}".to_owned(), "begins neither"),
            (" \n".to_owned(), "is empty"),
            ("size 1048575\nend\n".to_owned(), "the image has 1048576"),
            ("size +1048576\nend\n".to_owned(), "the image has"),
            ("size 1048576\n1 2".to_owned(), "line 2 has no end"),
            ("size 1048576\n1 2\n".to_owned(), "line 3 has no end"),
            ("size 1048576\n1 2 3\nend\n".to_owned(), "no `OFFSET LENGTH`"),
            ("size 1048576\n0 512 0 clean\nend\n".to_owned(), "no `OFFSET LENGTH`"),
            ("size 1048576\n1048575 2\nend\n".to_owned(), "behind the image's end"),
            ("size 1048576\n18446744073709551615 2\nend\n".to_owned(), "behind the image's end"),
            ("size 1048576\n512 512\n512 512\nend\n".to_owned(), "begins before 1024"),
            ("size 1048576\nend\n0 512\n".to_owned(), "something follows"),
            (format!("size 1048576\n{}\nend\n", "1".repeat(99)), "has no end"),
            ("size 1048576\n\u{ff}\nend\n".to_owned(), "line 2"),
        ];
        for (text, why) in cases {
            let found = read_map(text.as_bytes(), MIB).expect_err(&text);
            assert!(found.contains(why), "{text}: {found}");
        }
        let overlap = "[{\"offset\":0,\"length\":1024,\"type\":1,\"description\":\"dirty\"},\
            {\"offset\":512,\"length\":1048064,\"type\":0,\"description\":\"clean\"}]";
        assert!(read_map(overlap.as_bytes(), MIB).unwrap_err().contains("begins at 512"));
    }

    #[test]
    fn an_endless_map_is_given_up() {
        let endless = io::repeat(b' ');
        assert!(read_map(endless, MIB).unwrap_err().contains("it has over"));
        let digits = b"size 1048576\n".chain(io::repeat(b'1'));
        assert!(read_map(digits, MIB).unwrap_err().contains("has no end"));
        let wide = MAP_STRETCHES_MAX as u64 + 1;
        let mut found =
            Collector { dirty: Stretches::default(), reached: 0, image_bytes: u64::MAX };
        let last = (0..wide).map(|n| found.take(n * 2, 1, true)).last().unwrap();
        assert!(last.unwrap_err().contains("dirty stretches"));
    }
}
