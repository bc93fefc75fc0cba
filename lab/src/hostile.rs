//! Somebody who took a node over: with its real key and certificate, and none of its manners. What
//! it says on the wire is written down here byte by byte, from the description of the formats, so
//! that nothing honest stands between it and those who must refuse it.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, NODES};
use crate::shell::{Done, pass};

/// The peer protocol: its name in TLS, its version, and what frames of it are.
const PROTOCOL: &str = "backstay-peer/1";
/// As above.
const VERSION: u8 = 2;
/// As above.
const HELLO: u8 = 0;
/// As above.
const WELCOME: u8 = 1;
/// As above.
const MESSAGE: u8 = 3;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_millis(500);

/// What the log's library calls its messages.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Raft {
    Append = 3,
    RequestVote = 5,
    Heartbeat = 8,
    TimeoutNow = 14,
    RequestPreVote = 17,
}

/// A node in hostile hands.
#[derive(Debug)]
pub(crate) struct Hostile {
    node: usize,
    replica: u8,
    cluster: Vec<u8>,
    identity: String,
    /// Its certificate and key as a person would show them.
    pub(crate) credential: String,
}

/// A connection by somebody else's TLS.
struct Connection(Child);

impl Drop for Connection {
    fn drop(&mut self) {
        // It is ours, and nothing waits for it but this.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Hostile {
    /// Takes what a node is known by.
    pub(crate) fn take(cluster: &Cluster, node: usize) -> Done<Hostile> {
        let data = cluster.of(node, "data");
        let read = |name: &str| {
            std::fs::read_to_string(format!("{data}/{name}")).map_err(|e| format!("{name}: {e}"))
        };
        let file: Value = serde_json::from_str(&read("node.json")?).map_err(|e| e.to_string())?;
        let id = file["cluster_id"].as_str().ok_or("no id of the cluster")?;
        let byte = |at: usize| id.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
        let id: Option<Vec<u8>> = (0..id.len()).step_by(2).map(byte).collect();
        let replica = file["replica"].as_u64().and_then(|number| u8::try_from(number).ok());
        let credential = cluster.path("hostile.pem");
        let chain = read("identity/node.pem")?;
        let (leaf, _) = chain.split_once("-----END").ok_or("no certificate")?;
        let leaf = format!("{leaf}-----END CERTIFICATE-----\n");
        let text = [leaf, read("identity/node.key")?, read("identity/authority.pem")?].concat();
        std::fs::write(&credential, text).map_err(|e| e.to_string())?;
        let only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&credential, only).map_err(|e| e.to_string())?;
        let (cluster, replica) = (id.ok_or("no id")?, replica.ok_or("no replica")?);
        Ok(Hostile { node, replica, cluster, identity: format!("{data}/identity"), credential })
    }

    fn connect(&self, cluster: &Cluster, to: usize, port: u16, more: &[&str]) -> Done<Connection> {
        let file = |name: &str| format!("{}/{name}", self.identity);
        let mut command = cluster.network.on(NODES[self.node]);
        command.args(["openssl", "s_client", "-quiet", "-tls1_3", "-no_ign_eof"]);
        command.args(["-connect", &format!("10.77.0.{}:{port}", to + 1)]).args(more);
        command.args(["-cert", &file("node.pem"), "-key", &file("node.key")]);
        command.args(["-CAfile", &file("authority.pem")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().map(Connection).map_err(|e| format!("openssl: {e}"))
    }

    /// A number that a node counts, summed over all lines that contain these words.
    pub(crate) fn counted(&self, cluster: &Cluster, at: usize, words: &[&str]) -> Done<u64> {
        let mut connection = self.connect(cluster, at, 7402, &[])?;
        let mut input = connection.0.stdin.take().ok_or("no input")?;
        let ask = "GET /metrics HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
        input.write_all(ask.as_bytes()).map_err(|e| e.to_string())?;
        let mut text = String::new();
        let mut output = connection.0.stdout.take().ok_or("no output")?;
        output.read_to_string(&mut text).map_err(|e| e.to_string())?;
        drop(input);
        if !text.starts_with("HTTP/1.1 200") {
            return Err(format!("no figures: {text}"));
        }
        let lines = text.lines().filter(|l| words.iter().all(|w| l.contains(w)));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Says hello to a node as a replica, and then this; whether it was welcome.
    pub(crate) fn say(
        &self,
        cluster: &Cluster,
        to: usize,
        replica: u8,
        messages: &[Vec<u8>],
    ) -> Done<bool> {
        let mut connection = self.connect(cluster, to, 7400, &["-alpn", PROTOCOL])?;
        let mut input = connection.0.stdin.take().ok_or("no input")?;
        let mut output = connection.0.stdout.take().ok_or("no output")?;
        let name = NODES[to].as_bytes();
        let (to, length) = (to as u8 + 1, name.len() as u8);
        let head = [&[VERSION][..], &self.cluster, &[replica, to, length]].concat();
        // Its generation, last: the first.
        let hello = frame(HELLO, &[&head, name, &[1]].concat());
        input.write_all(&hello).and_then(|()| input.flush()).map_err(|e| e.to_string())?;
        let mut answer = [0; 5];
        let welcome = output.read_exact(&mut answer).is_ok() && answer[4] == WELCOME;
        if welcome {
            let all: Vec<u8> = messages.iter().flat_map(|body| frame(MESSAGE, body)).collect();
            input.write_all(&all).and_then(|()| input.flush()).map_err(|e| e.to_string())?;
            pass(ANSWER);
        }
        Ok(welcome)
    }

    /// A message of the log's library from this node, in a term of its own choice.
    pub(crate) fn raft(&self, kind: Raft, to: usize, term: u8) -> Vec<u8> {
        let fields = [0x08, kind as u8, 0x10, to as u8 + 1, 0x18, self.replica, 0x20, term];
        // The first kind of message, its bytes, and no proof.
        [&[0, fields.len() as u8][..], &fields, &[0]].concat()
    }

    /// Its own replica's number.
    pub(crate) fn replica(&self) -> u8 {
        self.replica
    }
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 1).to_be_bytes()[..], &[kind], body].concat()
}
