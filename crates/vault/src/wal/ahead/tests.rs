//! Workers, a queue and a server that asks, without a repository.

use super::*;
use crate::postgres::Lsn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const SEGMENT: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

fn name(number: u64) -> String {
    SegmentName { timeline: 1, start: Lsn(number * SEGMENT) }.file_name(SEGMENT)
}

fn wait_until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// What a worker meets when it fetches a segment.
type Fetch<'a> = dyn Fn(SegmentName) -> Result<Vec<u8>> + Sync + 'a;

/// Fills a queue of four with three workers while `server` asks.
fn filled(fetch: &Fetch<'_>, server: impl FnOnce(&Queue)) -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::new(&folder.path().join("queues"), "7-1", "here");
    assert!(queue.missed(&name(30), true).unwrap());
    let held = queue.hold().unwrap();
    assert!(held.is_some() && queue.hold().unwrap().is_none(), "one fills it");
    let goes_on = AtomicBool::new(true);
    let filler = Filler {
        queue: &queue,
        goes_on: &|| goes_on.load(Ordering::Relaxed),
        is_whole: &|_| true,
        fetch,
        segment_bytes: SEGMENT,
        looker: Mutex::new(()),
        state: Mutex::new(State::new(SEGMENT, 4)),
    };
    thread::scope(|scope| {
        let run = scope.spawn(|| filler.run(3));
        server(&queue);
        goes_on.store(false, Ordering::Relaxed);
        run.join().unwrap()
    })
}

fn content(segment: SegmentName) -> Vec<u8> {
    segment.start.0.to_le_bytes().repeat(4)
}

#[test]
fn a_slow_worker_s_segment_is_never_another_s() {
    // The first fetch of 31 lasts until the server has gone back and come round to it.
    let (fetches, twice) = (AtomicUsize::new(0), AtomicBool::new(false));
    let go = AtomicBool::new(false);
    let fetch = |segment: SegmentName| {
        if segment.start.0 == 31 * SEGMENT && !go.load(Ordering::SeqCst) {
            twice.fetch_or(fetches.fetch_add(1, Ordering::SeqCst) > 0, Ordering::SeqCst);
            wait_until(|| go.load(Ordering::SeqCst));
        }
        Ok(content(segment))
    };
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("RECOVERYXLOG");
    filled(&fetch, |queue| {
        wait_until(|| queue.names().unwrap().len() == 4);
        queue.missed(&name(20), true).unwrap();
        for number in 21..=30 {
            wait_until(|| queue.take(&name(number), &to).unwrap());
        }
        thread::sleep(LOOK * 10);
        go.store(true, Ordering::SeqCst);
        for number in 31..=40 {
            wait_until(|| queue.take(&name(number), &to).unwrap());
            let expected = content(SegmentName { timeline: 1, start: Lsn(number * SEGMENT) });
            assert_eq!(std::fs::read(&to).unwrap(), expected, "{number}");
        }
    })
    .unwrap();
    assert!(!twice.into_inner(), "31 was fetched by two at once");
}

#[test]
fn what_is_fetched_in_vain_is_thrown_away_and_no_failure() {
    let go = AtomicBool::new(false);
    let fetch = |segment: SegmentName| {
        wait_until(|| segment.start.0 < 30 * SEGMENT || go.load(Ordering::SeqCst));
        Ok(content(segment))
    };
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("RECOVERYXLOG");
    filled(&fetch, |queue| {
        wait_until(|| queue.names().unwrap().len() >= 3);
        queue.missed(&name(3), true).unwrap();
        go.store(true, Ordering::SeqCst);
        for number in 4..=20 {
            wait_until(|| queue.take(&name(number), &to).unwrap());
        }
        let ahead = |names: Vec<String>| names.iter().all(|n| *n > name(20) && *n <= name(24));
        assert!(ahead(queue.names().unwrap()));
    })
    .unwrap();
}

#[test]
fn what_fails_ends_fetching_and_leaves_what_is_ready() {
    let fetch = |segment: SegmentName| match segment.start.0 >= 33 * SEGMENT {
        true => Err(VaultError::NotFound("it".to_owned())),
        false => Ok(content(segment)),
    };
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("RECOVERYXLOG");
    let ended = filled(&fetch, |queue| {
        wait_until(|| queue.names().unwrap() == [name(31), name(32)]);
        assert!(queue.take(&name(31), &to).unwrap() && queue.take(&name(32), &to).unwrap());
        assert!(!queue.take(&name(33), &to).unwrap());
    });
    assert!(matches!(ended, Err(VaultError::NotFound(_))), "{ended:?}");
}

#[test]
fn only_segments_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::new(folder.path(), "7-1", "here");
    assert!(queue.missed(&name(1), true).unwrap());
    std::fs::write(folder.path().join("precious"), "x").unwrap();
    for name in ["../precious", "asked", "00000002.history", ""] {
        assert!(!queue.take(name, &folder.path().join("to")).unwrap(), "{name}");
    }
    // Nobody fills it and nothing is to come: it goes.
    assert!(!queue.missed(&name(2), false).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
