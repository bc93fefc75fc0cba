//! The order store: a TCP server around the [`Book`]. It stands for the venue or the database
//! behind an order gateway.
//!
//! It answers after the record is in its file (in the kernel's hands, not on the disk: the
//! example outlives every process but not the machine). Where it can't write its file it stops.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::accept::accept_each;
use super::book::Book;
use super::lines::read_line;
use super::records::{RecordFile, StoreRecord, now};
use super::wire::StoreRequest;
use super::{OrdersError, block_on};

/// Most connections served at once; more wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 256;

/// Most records in the answer to one `dump`, so that nobody waits long behind it.
pub const DUMP_MAX: usize = 2_000;

/// How to run the store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The append-only file of all attempts; without one they are kept in memory only.
    pub records: Option<PathBuf>,
}

/// The book and its file, changed together.
struct Shelf {
    book: Book,
    file: Option<RecordFile>,
}

type Shared = Arc<Mutex<Shelf>>;

fn lock(shelf: &Shared) -> MutexGuard<'_, Shelf> {
    // A panic while the lock is held ends the process (one thread), so poison can't be seen.
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the store until it is killed.
///
/// # Errors
/// [`OrdersError::Listen`] and [`OrdersError::Record`].
pub fn run(options: &StoreOptions) -> Result<(), OrdersError> {
    block_on(async {
        let listen = options.listen;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| OrdersError::Listen { address: listen, source })?;
        let file = options.records.as_deref().map(RecordFile::open).transpose()?;
        let shelf = Arc::new(Mutex::new(Shelf { book: Book::default(), file }));
        // The first failure of the file ends the store: the record must have no gap.
        let (failed, mut failure) = mpsc::channel(1);
        tokio::select! {
            () = accept_each(listener, CONNECTIONS_MAX, move |stream| {
                let (shelf, failed) = (Arc::clone(&shelf), failed.clone());
                async move { serve(stream, &shelf, &failed).await }
            }) => Ok(()),
            Some(error) = failure.recv() => Err(error),
        }
    })
}

async fn serve(
    stream: TcpStream,
    shelf: &Shared,
    failed: &mpsc::Sender<OrdersError>,
) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let (mut line, mut answer) = (Vec::new(), Vec::new());
    while let Some(request) = read_line(&mut read, &mut line).await? {
        answer.clear();
        match request.parse() {
            Ok(request) => {
                if let Err(error) = respond(shelf, request, &mut answer) {
                    // One place in the channel: the first failure is the one that is told.
                    _ = failed.try_send(error);
                    return Ok(());
                }
                write.write_all(&answer).await?;
            }
            Err(error) => {
                write.write_all(format!("error {error}\n").as_bytes()).await?;
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Answers one request into `answer`.
fn respond(shelf: &Shared, request: StoreRequest, answer: &mut Vec<u8>) -> Result<(), OrdersError> {
    use std::io::Write as _;
    let mut shelf = lock(shelf);
    let shelf = &mut *shelf;
    let printed = match request {
        StoreRequest::Write(write) => {
            let (written, record) = shelf.book.write(write, now());
            if let (Some(file), Some(record)) = (&mut shelf.file, record) {
                file.append(record)?;
            }
            writeln!(answer, "{written}")
        }
        StoreRequest::Claim { epoch, .. } => {
            let word = if shelf.book.claim(epoch) { "claimed" } else { "stale" };
            writeln!(answer, "{word} {}", shelf.book.counts().highest)
        }
        StoreRequest::Ask { order } => {
            let word = if shelf.book.has(&order) { "yes" } else { "no" };
            writeln!(answer, "{word} {order}")
        }
        StoreRequest::Count => print_json(answer, &shelf.book.counts()),
        StoreRequest::Dump { from } => dump(answer, shelf.book.records(), from),
    };
    printed.map_err(|source| OrdersError::Record { path: "the answer".into(), source })
}

fn dump(answer: &mut Vec<u8>, records: &[StoreRecord], from: u64) -> std::io::Result<()> {
    use std::io::Write as _;
    let first = usize::try_from(from).unwrap_or(usize::MAX).min(records.len());
    let next = records.len().min(first.saturating_add(DUMP_MAX));
    for record in &records[first..next] {
        print_json(answer, record)?;
    }
    writeln!(answer, "end {next}")
}

fn print_json(answer: &mut Vec<u8>, value: &impl serde::Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *answer, value)?;
    answer.push(b'\n');
    Ok(())
}
