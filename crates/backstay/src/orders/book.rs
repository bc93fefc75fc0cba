//! The store's decisions, pure: which attempts it accepts, which it refuses, what it remembers.
//!
//! The book keeps the highest epoch it has seen and refuses every lower one. It never removes a
//! duplicate in silence: an order that comes again is recorded again, as a duplicate.

use std::collections::HashSet;

use model::{Epoch, Moment};

use super::records::{StoreCounts, StoreRecord};
use super::wire::{Verdict, Write, Written};

/// Most attempts that a store remembers: five hours at 200 orders a second.
pub const RECORDS_MAX: usize = 4_000_000;

/// Everything the store knows.
#[derive(Debug)]
pub struct Book {
    highest: Epoch,
    orders: HashSet<String>,
    records: Vec<StoreRecord>,
    counts: StoreCounts,
    records_max: usize,
}

impl Default for Book {
    fn default() -> Self {
        Book::with_limit(RECORDS_MAX)
    }
}

impl Book {
    /// An empty book with room for so many attempts.
    #[must_use]
    pub fn with_limit(records_max: usize) -> Book {
        Book {
            highest: Epoch::default(),
            orders: HashSet::new(),
            records: Vec::new(),
            counts: StoreCounts::default(),
            records_max,
        }
    }

    /// Decides about one attempt. The record is there to be appended to the file; an attempt
    /// that found no room leaves none.
    pub fn write(&mut self, write: Write, moment: Moment) -> (Written, Option<&StoreRecord>) {
        let verdict = self.judge(&write);
        match verdict {
            Verdict::Stored => self.counts.stored += 1,
            Verdict::Duplicate => self.counts.duplicate += 1,
            Verdict::Stale => self.counts.stale += 1,
            Verdict::Full => self.counts.full += 1,
        }
        self.highest = self.highest.max(write.epoch);
        let written = Written { verdict, attempt: write.attempt, highest: self.highest };
        if verdict == Verdict::Full {
            return (written, None);
        }
        if verdict == Verdict::Stored {
            self.orders.insert(write.order.clone());
        }
        let Write { order, epoch, attempt, instance } = write;
        self.records.push(StoreRecord { order, epoch, attempt, instance, moment, verdict });
        (written, self.records.last())
    }

    fn judge(&self, write: &Write) -> Verdict {
        if self.records.len() >= self.records_max {
            Verdict::Full
        } else if write.epoch < self.highest {
            Verdict::Stale
        } else if self.orders.contains(&write.order) {
            Verdict::Duplicate
        } else {
            Verdict::Stored
        }
    }

    /// Takes note of a new holder before its first order. False where its epoch is an old one.
    pub fn claim(&mut self, epoch: Epoch) -> bool {
        let current = epoch >= self.highest;
        if current {
            self.highest = epoch;
        } else {
            self.counts.stale_claims += 1;
        }
        current
    }

    /// Whether an order is stored.
    #[must_use]
    pub fn has(&self, order: &str) -> bool {
        self.orders.contains(order)
    }

    /// How many attempts of each verdict so far.
    #[must_use]
    pub fn counts(&self) -> StoreCounts {
        StoreCounts { highest: self.highest, ..self.counts }
    }

    /// Every attempt that was recorded, oldest first.
    #[must_use]
    pub fn records(&self) -> &[StoreRecord] {
        &self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(order: &str, counter: u64, attempt: u64) -> Write {
        let epoch = Epoch { generation: 1, counter };
        Write { order: order.to_owned(), epoch, attempt, instance: "a".to_owned() }
    }

    fn verdict(book: &mut Book, order: &str, counter: u64, attempt: u64) -> Verdict {
        book.write(write(order, counter, attempt), Moment(attempt)).0.verdict
    }

    #[test]
    fn an_old_epoch_is_refused_counted_and_leaves_the_order_unstored() {
        let mut book = Book::default();
        assert_eq!(verdict(&mut book, "o-1", 7, 1), Verdict::Stored);
        assert_eq!(verdict(&mut book, "o-2", 8, 2), Verdict::Stored);
        assert_eq!(verdict(&mut book, "o-3", 7, 3), Verdict::Stale);
        assert!(!book.has("o-3"));
        assert_eq!(book.counts().stale, 1);
        assert_eq!(book.records()[2].verdict, Verdict::Stale);
    }

    #[test]
    fn a_claim_shuts_out_the_old_holder_before_the_first_order() {
        let mut book = Book::default();
        assert_eq!(verdict(&mut book, "o-1", 7, 1), Verdict::Stored);
        assert!(book.claim(Epoch { generation: 1, counter: 8 }));
        assert!(!book.claim(Epoch { generation: 1, counter: 7 }));
        assert_eq!(verdict(&mut book, "o-2", 7, 2), Verdict::Stale);
        assert_eq!(book.counts().stale_claims, 1);
    }

    #[test]
    fn a_repeated_order_is_recorded_as_a_duplicate_and_stays_one_order() {
        let mut book = Book::default();
        assert_eq!(verdict(&mut book, "o-1", 7, 1), Verdict::Stored);
        assert_eq!(verdict(&mut book, "o-1", 8, 2), Verdict::Duplicate);
        assert_eq!((book.counts().stored, book.counts().duplicate), (1, 1));
        assert_eq!(book.records().len(), 2);
    }

    #[test]
    fn a_full_book_refuses_instead_of_forgetting() {
        let mut book = Book::with_limit(2);
        assert_eq!(verdict(&mut book, "o-1", 7, 1), Verdict::Stored);
        assert_eq!(verdict(&mut book, "o-2", 7, 2), Verdict::Stored);
        assert_eq!(verdict(&mut book, "o-3", 7, 3), Verdict::Full);
        assert!(book.has("o-1") && !book.has("o-3"));
        assert_eq!(book.counts().full, 1);
    }
}
