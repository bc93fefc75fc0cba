//! A small object store on this machine that keeps its promises, but one.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The promise that it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// None: a repository is made here.
    Nothing,
    /// Every create wins, whatever is there.
    Conditions,
    /// What was just made is not listed.
    Listings,
    /// What was deleted is still there.
    Deletions,
    /// Ranges begin at the beginning.
    Ranges,
}

type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// The store. Its thread ends with the program.
pub(crate) struct Liar {
    pub(crate) port: u16,
    objects: Objects,
}

/// A request: its first line's words, the headers in small letters, and the body.
struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Liar {
    pub(crate) fn start(lie: Lie) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let objects = Objects::default();
        let kept = Arc::clone(&objects);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let objects = Arc::clone(&kept);
                let stream = stream.unwrap();
                std::thread::spawn(move || serve(stream, &objects, lie));
            }
        });
        Liar { port, objects }
    }

    /// The names of everything that it keeps.
    pub(crate) fn names(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }
}

/// Answers one request. Who hangs up, hears nothing.
fn serve(mut stream: TcpStream, objects: &Objects, lie: Lie) {
    let Some(request) = read(&mut stream) else { return };
    let (status, headers, body) = answer(&request, &mut objects.lock().unwrap(), lie);
    let (length, is_head) = (body.len(), request.method == "HEAD");
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\nETag: \"1\"\r\n\
         Last-Modified: Sun, 22 Nov 2026 00:00:00 GMT\r\n{headers}\r\n"
    );
    let body = if is_head { &[][..] } else { &body };
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}

type Answer = (&'static str, String, Vec<u8>);

fn answer(request: &Request, objects: &mut BTreeMap<String, Vec<u8>>, lie: Lie) -> Answer {
    let plain = |status| (status, String::new(), Vec::new());
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let key = path.strip_prefix("/bucket/").unwrap_or_default().to_owned();
    match request.method.as_str() {
        "PUT" => {
            let is_new = request.headers.contains_key("if-none-match");
            if is_new && objects.contains_key(&key) && lie != Lie::Conditions {
                return plain("412 Precondition Failed");
            }
            objects.insert(key, request.body.clone());
            plain("200 OK")
        }
        "GET" if key.is_empty() => ("200 OK", String::new(), list(query, objects, lie)),
        "GET" | "HEAD" => match (objects.get(&key), request.headers.get("range")) {
            (None, _) => plain("404 Not Found"),
            (Some(bytes), None) => ("200 OK", String::new(), bytes.clone()),
            (Some(bytes), Some(range)) => part(bytes, range, lie),
        },
        "DELETE" => {
            if lie != Lie::Deletions {
                objects.remove(&key);
            }
            plain("204 No Content")
        }
        "POST" => {
            let text = String::from_utf8_lossy(&request.body).into_owned();
            let keys = text.split("<Key>").skip(1).filter_map(|t| t.split_once("</Key>"));
            if lie != Lie::Deletions {
                keys.for_each(|(key, _)| drop(objects.remove(key)));
            }
            ("200 OK", String::new(), b"<DeleteResult></DeleteResult>".to_vec())
        }
        _ => plain("405 Method Not Allowed"),
    }
}

/// `bytes=from-last`.
fn part(bytes: &[u8], range: &str, lie: Lie) -> Answer {
    let (from, last) = range.trim_start_matches("bytes=").split_once('-').unwrap();
    let (from, last): (usize, usize) = (from.parse().unwrap(), last.parse().unwrap());
    if from >= bytes.len() {
        return ("416 Range Not Satisfiable", String::new(), Vec::new());
    }
    let last = last.min(bytes.len() - 1);
    let header = format!("Content-Range: bytes {from}-{last}/{}\r\n", bytes.len());
    let begin = if lie == Lie::Ranges { 0 } else { from };
    ("206 Partial Content", header, bytes[begin..=begin + last - from].to_vec())
}

fn list(query: &str, objects: &BTreeMap<String, Vec<u8>>, lie: Lie) -> Vec<u8> {
    let of = |name: &str| {
        let found = query.split('&').find_map(|pair| pair.strip_prefix(name));
        found.unwrap_or_default().replace("%2F", "/")
    };
    let (prefix, after) = (of("prefix="), of("start-after="));
    let mut text = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
    for (key, bytes) in objects {
        if key.starts_with(&prefix) && *key > after && lie != Lie::Listings {
            text += &format!(
                "<Contents><Key>{key}</Key><LastModified>2026-11-22T00:00:00.000Z</LastModified>\
                 <ETag>\"1\"</ETag><Size>{}</Size></Contents>",
                bytes.len()
            );
        }
    }
    (text + "</ListBucketResult>").into_bytes()
}
