//! The words that client, server and store say to each other, one request and one answer a line.
//!
//! This module only parses and prints. Words are separated by one space; an identifier is at
//! most [`WORD_MAX`] bytes of printable ASCII without spaces; a line is at most [`LINE_MAX`].

use std::fmt;
use std::str::FromStr;

use model::Epoch;

/// Longest line in bytes, line end included.
pub const LINE_MAX: usize = 256;
/// Longest identifier (order, instance) in bytes.
pub const WORD_MAX: usize = 64;
/// Longest time that an order may ask the server to work on it, in milliseconds.
pub const WORK_MAX_MS: u64 = 60_000;

/// Why a line was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The first word is no request or answer that is known here.
    #[error("the first word is not known")]
    Verb,
    /// A word is missing, or there is one too many.
    #[error("there are too few words or too many")]
    Count,
    /// An identifier is too long or holds something else than printable ASCII.
    #[error("an identifier is too long or not plain")]
    Word,
    /// A number or an epoch can't be read.
    #[error("a number or an epoch can't be read")]
    Number,
}

/// One attempt to place an order, as the store gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The order's own identifier; a retry keeps it.
    pub order: String,
    /// The epoch that the server holds.
    pub epoch: Epoch,
    /// The attempt's number, new for every try.
    pub attempt: u64,
    /// Which instance writes.
    pub instance: String,
}

/// What the store is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreRequest {
    /// Store an order.
    Write(Write),
    /// From now on refuse everything below this epoch.
    Claim {
        /// The new holder's epoch.
        epoch: Epoch,
        /// The new holder.
        instance: String,
    },
    /// Is this order stored?
    Ask {
        /// The order.
        order: String,
    },
    /// How many of each verdict so far?
    Count,
    /// The records from this position on, as lines of JSON, then `end` and the next position.
    Dump {
        /// How many records to pass over.
        from: u64,
    },
}

/// What became of one attempt.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The order is new and now stored.
    Stored,
    /// The order was stored before; this attempt is recorded beside it.
    Duplicate,
    /// The epoch is lower than one seen before: nothing was stored.
    Stale,
    /// The store has no room left: nothing was stored.
    Full,
}

impl Verdict {
    /// All verdicts.
    pub const ALL: [Verdict; 4] =
        [Verdict::Stored, Verdict::Duplicate, Verdict::Stale, Verdict::Full];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Stored => "stored",
            Verdict::Duplicate => "duplicate",
            Verdict::Stale => "stale",
            Verdict::Full => "full",
        }
    }

    /// Whether the store has the order after this attempt.
    #[must_use]
    pub const fn has_order(self) -> bool {
        matches!(self, Verdict::Stored | Verdict::Duplicate)
    }
}

/// The store's answer to a write: verdict, the attempt it is about, the highest epoch seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// What became of it.
    pub verdict: Verdict,
    /// The attempt.
    pub attempt: u64,
    /// The highest epoch that the store has seen.
    pub highest: Epoch,
}

/// What the client asks a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderRequest {
    /// Take an order.
    Order {
        /// The order's own identifier.
        order: String,
        /// The attempt's number.
        attempt: u64,
        /// How long the server works on it before it writes it (pricing, risk check), in
        /// milliseconds. The demo freezes a server that has such an order in hand.
        work_ms: u64,
    },
    /// Which role do you have, and how many orders in hand? The answer is `active`, their number
    /// and the epoch, or `standby` and their number.
    Where,
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderAnswer {
    /// The store has it and the lease was valid at that moment.
    Acknowledged,
    /// This instance is not the active one; nothing was tried.
    NotActive,
    /// The store refused the epoch: another instance is active. Nothing was stored.
    Stale,
    /// Not acknowledged, though the store may have it: retry under the same identifier.
    Unsettled,
}

impl OrderAnswer {
    const ALL: [OrderAnswer; 4] = [
        OrderAnswer::Acknowledged,
        OrderAnswer::NotActive,
        OrderAnswer::Stale,
        OrderAnswer::Unsettled,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            OrderAnswer::Acknowledged => "acknowledged",
            OrderAnswer::NotActive => "not-active",
            OrderAnswer::Stale => "stale",
            OrderAnswer::Unsettled => "unsettled",
        }
    }
}

fn word(text: &str) -> Result<String, WireError> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if plain && text.len() <= WORD_MAX { Ok(text.to_owned()) } else { Err(WireError::Word) }
}

fn number(text: &str) -> Result<u64, WireError> {
    text.parse().map_err(|_| WireError::Number)
}

fn epoch(text: &str) -> Result<Epoch, WireError> {
    text.parse().map_err(|_| WireError::Number)
}

impl FromStr for StoreRequest {
    type Err = WireError;
    fn from_str(line: &str) -> Result<Self, WireError> {
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        Ok(match words[..] {
            ["write", order, held, attempt, instance] => StoreRequest::Write(Write {
                order: word(order)?,
                epoch: epoch(held)?,
                attempt: number(attempt)?,
                instance: word(instance)?,
            }),
            ["claim", held, instance] => {
                StoreRequest::Claim { epoch: epoch(held)?, instance: word(instance)? }
            }
            ["ask", order] => StoreRequest::Ask { order: word(order)? },
            ["count"] => StoreRequest::Count,
            ["dump", from] => StoreRequest::Dump { from: number(from)? },
            ["write" | "claim" | "ask" | "count" | "dump", ..] => return Err(WireError::Count),
            _ => return Err(WireError::Verb),
        })
    }
}

impl fmt::Display for StoreRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreRequest::Write(w) => {
                write!(f, "write {} {} {} {}", w.order, w.epoch, w.attempt, w.instance)
            }
            StoreRequest::Claim { epoch, instance } => write!(f, "claim {epoch} {instance}"),
            StoreRequest::Ask { order } => write!(f, "ask {order}"),
            StoreRequest::Count => f.write_str("count"),
            StoreRequest::Dump { from } => write!(f, "dump {from}"),
        }
    }
}

impl FromStr for Written {
    type Err = WireError;
    fn from_str(line: &str) -> Result<Self, WireError> {
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        let [verdict, attempt, highest] = words[..] else { return Err(WireError::Count) };
        let verdict =
            Verdict::ALL.into_iter().find(|v| v.as_str() == verdict).ok_or(WireError::Verb)?;
        Ok(Written { verdict, attempt: number(attempt)?, highest: epoch(highest)? })
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.verdict.as_str(), self.attempt, self.highest)
    }
}

impl FromStr for OrderRequest {
    type Err = WireError;
    fn from_str(line: &str) -> Result<Self, WireError> {
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        let (order, attempt, work_ms) = match words[..] {
            ["order", order, attempt] => (order, attempt, 0),
            ["order", order, attempt, work_ms] => (order, attempt, number(work_ms)?),
            ["where"] => return Ok(OrderRequest::Where),
            ["order" | "where", ..] => return Err(WireError::Count),
            _ => return Err(WireError::Verb),
        };
        if work_ms > WORK_MAX_MS {
            return Err(WireError::Number);
        }
        Ok(OrderRequest::Order { order: word(order)?, attempt: number(attempt)?, work_ms })
    }
}

impl fmt::Display for OrderRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OrderRequest::Order { order, attempt, work_ms: 0 } => {
                write!(f, "order {order} {attempt}")
            }
            OrderRequest::Order { order, attempt, work_ms } => {
                write!(f, "order {order} {attempt} {work_ms}")
            }
            OrderRequest::Where => f.write_str("where"),
        }
    }
}

impl FromStr for OrderAnswer {
    type Err = WireError;
    fn from_str(line: &str) -> Result<Self, WireError> {
        let first = line.trim_end().split(' ').next().unwrap_or_default();
        OrderAnswer::ALL.into_iter().find(|a| a.as_str() == first).ok_or(WireError::Verb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T>(line: &str)
    where
        T: FromStr<Err = WireError> + fmt::Display,
    {
        let read: T = line.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!(read.to_string(), line);
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        for line in ["write o-1 1.7 12 a", "claim 2.0 b", "ask o-1", "count", "dump 7"] {
            round_trip::<StoreRequest>(line);
        }
        for line in ["order o-1 4", "order o-1 4 250", "where"] {
            round_trip::<OrderRequest>(line);
        }
        round_trip::<Written>("stale 12 1.8");
        assert_eq!("not-active o-1".parse(), Ok(OrderAnswer::NotActive));
    }

    #[test]
    fn garbage_is_refused_with_its_cause() {
        let check = |line: &str, expect| assert_eq!(line.parse::<StoreRequest>(), Err(expect));
        check("", WireError::Verb);
        check("delete o-1", WireError::Verb);
        check("write o-1 1.7 12", WireError::Count);
        check("write o-1 1.7 12 a b", WireError::Count);
        check("write o-1 seven 12 a", WireError::Number);
        check("write o-1 1.7 -1 a", WireError::Number);
        check("ask \u{7}", WireError::Word);
        check(&format!("ask {}", "x".repeat(WORD_MAX + 1)), WireError::Word);
        let long = format!("order o-1 1 {}", WORK_MAX_MS + 1);
        assert_eq!(long.parse::<OrderRequest>(), Err(WireError::Number));
        assert_eq!("order".parse::<OrderRequest>(), Err(WireError::Count));
    }

    #[test]
    fn the_longest_request_fits_a_line() {
        let longest = "x".repeat(WORD_MAX);
        let top = Epoch { generation: u64::MAX, counter: u64::MAX };
        let request = StoreRequest::Write(Write {
            order: longest.clone(),
            epoch: top,
            attempt: u64::MAX,
            instance: longest,
        });
        assert!(request.to_string().len() < LINE_MAX);
    }
}
