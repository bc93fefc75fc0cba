//! Every call × every certificate. The calls come from the API's own description, so that a new
//! one can't be forgotten; who may make them stands in docs/security.md, written by hand, and
//! nowhere near the code that decides.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent::api::access::Who;
use agent::api::{
    ApiServer, Backend, BoxFuture, Call, Limits, Metrics, Reply, Route, Rule, openapi,
};
use agent::identity::{Caller, Credential, NodeKey, Role, Validity, wall_s};
use agent::net::tls::{API_PROTOCOL, PEER_PROTOCOL};
use agent::net::{Counters, DialMap, Generations, Local, PeerOptions, Peers, Port, Refused, Tls};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use crate::support::{Issuer, attack, soon, tls, until};

/// Where the table is.
const SECURITY: &str = include_str!("../../../../docs/security.md");
/// What its head says.
const HEAD: &str = "| call | nobody | viewer | operator | member | witness | voter \
                    | expired person | expired node | revoked person |";
/// The row of the port on which nodes speak.
const PEERS: &str = "peer port";

/// Whether a holder may make a call, as the documentation has it.
type Table = BTreeMap<String, BTreeMap<String, bool>>;

fn table() -> Table {
    let (_, behind) = SECURITY.split_once(HEAD).expect("docs/security.md has the table");
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    let names = cells(HEAD);
    let rows = behind.lines().skip(2).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let mut row = cells(line).into_iter();
        let call = row.next().expect("a row begins with its call");
        let may = row.map(|cell| match cell.as_str() {
            "yes" => true,
            "–" => false,
            other => panic!("{call}: {other:?} is neither yes nor –"),
        });
        let may: BTreeMap<String, bool> = names[1..].iter().cloned().zip(may).collect();
        assert_eq!(may.len(), names.len() - 1, "{call} has a cell for every column");
        (call, may)
    };
    rows.map(row).collect()
}

/// All calls, as the API describes itself.
fn calls() -> BTreeSet<String> {
    let document = openapi::document();
    let paths = document["paths"].as_object().expect("paths");
    let verbs = |(path, verbs): (&String, &Value)| -> Vec<String> {
        let verbs = verbs.as_object().expect("verbs").keys();
        verbs.map(|verb| format!("{} {path}", verb.to_uppercase())).collect()
    };
    paths.iter().flat_map(verbs).collect()
}

/// Counts what reaches it.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Backend for Counting {
    fn call(&self, _: Option<Caller>, _: Call) -> BoxFuture<'_, Reply> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Reply::Json(json!({})) })
    }
}

struct Api {
    issuer: Issuer,
    backend: Arc<Counting>,
    server: ApiServer,
}

fn start(table: fn(Route) -> Rule) -> Api {
    let issuer = Issuer::new();
    let tls = Arc::new(Tls::new(&issuer.credential(Role::Voter, "a")).unwrap());
    tls.refuse(BTreeSet::from([REVOKED.parse().unwrap()]));
    let backend = Arc::new(Counting::default());
    let listen = ["127.0.0.1:0".parse().unwrap()];
    let (metrics, limits) = (Arc::new(Metrics::default()), Limits::default());
    let asked = Arc::clone(&backend) as Arc<dyn Backend>;
    let server = ApiServer::start_with_table(
        &Handle::current(),
        &listen,
        tls,
        metrics,
        asked,
        limits,
        table,
    );
    Api { issuer, backend, server: server.unwrap() }
}

/// Whose certificates are refused: people's and programs' of this name, and no node's.
const REVOKED: &str = "mallory";

/// Everyone who may stand before the door: the column, who exactly, and what is shown.
fn holders(issuer: &Issuer) -> Vec<(&'static str, String, Option<Credential>)> {
    let mut all = vec![("nobody", "nobody".to_owned(), None)];
    for role in Role::ALL {
        let name = format!("the-{role}");
        let expired = if role.is_node() { "expired node" } else { "expired person" };
        all.push((role.as_str(), name.clone(), Some(issuer.credential(role, &name))));
        all.push((expired, format!("expired {name}"), Some(issuer.expired(role, &name))));
        // A node that is called alike is another one.
        let column = if role.is_node() { role.as_str() } else { "revoked person" };
        all.push((column, format!("{role} {REVOKED}"), Some(issuer.credential(role, REVOKED))));
    }
    all
}

/// Those with whom nobody speaks at all, in every role.
fn strangers(issuer: &Issuer) -> Vec<(String, Credential)> {
    let (other_cluster, other_authority) = (Issuer::new(), Issuer::of(issuer.cluster));
    let now = wall_s();
    let tomorrow = Validity { begins_s: now + 86_400, ends_s: now + 2 * 86_400 };
    let mut all = Vec::new();
    for role in Role::ALL {
        all.push((format!("{role} of another cluster"), other_cluster.credential(role, "eve")));
        all.push((format!("{role} of another authority"), other_authority.credential(role, "eve")));
        let early = issuer.credential_within(role, "eve", tomorrow);
        all.push((format!("{role} from tomorrow on"), early));
    }
    all
}

/// A request for a call, whose body is one that the call understands.
fn request(call: &str) -> String {
    let (verb, path) = call.split_once(' ').expect("verb and path");
    let csr = NodeKey::generate().unwrap().request().unwrap();
    let head = |number: u64| format!("{number}:{}", "0".repeat(64));
    let body = match path {
        _ if verb == "GET" => String::new(),
        "/v1/operations" => json!({ "switchover": { "resource": "gateway" } }).to_string(),
        "/v1/apply" => "[cluster]".to_owned(),
        "/v1/authority" => json!({ "compromised": false }).to_string(),
        "/v1/tokens" => json!({ "role": "member" }).to_string(),
        "/v1/join" => json!({ "secret": "0".repeat(64), "name": "n", "request": csr }).to_string(),
        "/v1/rejoin" => json!({ "datagram_key": "1".repeat(64) }).to_string(),
        "/v1/renew" => json!({ "request": csr }).to_string(),
        "/v1/vault/heads" => json!({ "repository": "0".repeat(32), "head": head(1) }).to_string(),
        "/v1/vault/forks" => {
            let (found, known) = (head(1), head(2));
            json!({ "repository": "0".repeat(32), "found": found, "known": known }).to_string()
        }
        other => panic!("{other} is new: say here what it takes"),
    };
    let path = path.replace("{name}", "gateway").replace("{resource}", "gateway");
    let length = body.len();
    format!(
        "{verb} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n\
         {body}"
    )
}

/// The status of the answer; none where no answer came.
async fn ask(to: SocketAddr, credential: Option<&Credential>, call: &str) -> Option<u16> {
    let asking = async {
        let mut stream = tls(to, credential, API_PROTOCOL).await.ok()?;
        stream.write_all(request(call).as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        // Whoever is refused in the handshake learns of it here (TLS 1.3).
        _ = stream.read_to_end(&mut answer).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
    };
    soon("an answer or none", asking).await
}

/// Plays these calls by everyone; what is not as the table has it.
async fn judge(api: &Api, table: &Table, calls: &BTreeSet<String>) -> Vec<String> {
    let (to, mut wrong) = (api.server.addresses()[0], Vec::new());
    let reached = || api.backend.0.load(Ordering::SeqCst);
    let holders = holders(&api.issuer);
    for call in calls {
        let Some(row) = table.get(call) else {
            wrong.push(format!("{call} has no row"));
            continue;
        };
        for (column, who, credential) in &holders {
            let before = reached();
            let status = ask(to, credential.as_ref(), call).await;
            let passed = reached() > before;
            let fits = match row[*column] {
                true => status == Some(200),
                false => status == Some(403) && !passed,
            };
            if !fits {
                wrong.push(format!("{call} by {who}: {status:?}, carried out: {passed}"));
            }
        }
    }
    wrong
}

#[tokio::test]
async fn every_call_and_every_certificate_are_as_the_table_says() {
    let (api, table, calls) = (start(Route::rule), table(), calls());
    assert_eq!(judge(&api, &table, &calls).await, [""; 0]);
    let rows: BTreeSet<String> = table.into_keys().filter(|row| row != PEERS).collect();
    assert_eq!(rows, calls, "a row for each call, and none for what there is not");
}

#[tokio::test]
async fn strangers_are_answered_nothing_at_all() {
    let api = start(Route::rule);
    let to = api.server.addresses()[0];
    for (who, credential) in strangers(&api.issuer) {
        for call in calls() {
            assert_eq!(ask(to, Some(&credential), &call).await, None, "{call} by {who}");
        }
    }
    assert_eq!(api.backend.0.load(Ordering::SeqCst), 0);
}

thread_local! {
    /// The check that is missing or too wide.
    static HOLE: Cell<Option<(Route, Who)>> = const { Cell::new(None) };
}

fn with_hole(route: Route) -> Rule {
    match HOLE.get() {
        Some((hole, who)) if hole == route => Rule { who, ..route.rule() },
        _ => route.rule(),
    }
}

/// A router without one check, or with another's, is noticed for every call.
#[tokio::test]
async fn a_missing_or_mistaken_check_of_any_call_is_noticed() {
    let table = table();
    let mut checks: Vec<Who> = Vec::new();
    for who in Route::ALL.map(|route| route.rule().who) {
        if !checks.contains(&who) {
            checks.push(who);
        }
    }
    let mut holes = 0;
    for route in Route::ALL {
        let own = route.rule();
        for who in checks.iter().filter(|who| **who != own.who) {
            HOLE.set(Some((route, *who)));
            let api = start(with_hole);
            let verb = if own.body_max > 0 { "POST" } else { "GET" };
            let call = format!("{verb} {}", own.path);
            let wrong = judge(&api, &table, &BTreeSet::from([call.clone()])).await;
            assert!(!wrong.is_empty(), "{call} with the check {who:?} passed for sound");
            holes += 1;
        }
    }
    HOLE.set(None);
    assert!(holes > Route::ALL.len(), "{holes} holes");
}

#[test]
fn a_call_without_a_row_is_noticed() {
    let (mut table, calls) = (table(), calls());
    let lost = table.remove("POST /v1/operations");
    assert!(lost.is_some() && calls.iter().any(|call| !table.contains_key(call)));
}

/// The port on which nodes speak: whoever gets past its certificate check is waited for, until
/// the time for a hello is over.
#[tokio::test]
async fn the_peer_port_is_as_the_table_says() {
    let issuer = Issuer::new();
    let counters = Counters::default();
    let options = PeerOptions {
        stall: Duration::from_secs(5),
        handshake: Duration::from_millis(300),
        dial: DialMap::default(),
        belongs: Arc::new(|_, _| true),
        counters: counters.clone(),
        generations: Generations { mine: Arc::default(), superseded: Arc::new(|_| ()) },
    };
    let tls = Arc::new(Tls::new(&issuer.credential(Role::Voter, "a")).unwrap());
    let local = Local { replica: 1, listen: vec!["127.0.0.1:0".parse().unwrap()] };
    let peers = Peers::start(Handle::current(), local, tls, options, Arc::new(|_, _| ())).unwrap();
    let to = peers.addresses()[0];
    let of = |reason: &Refused| counters.connections_refused(Port::Peer, *reason);
    let count = || Refused::ALL.iter().map(of).sum::<u64>();
    let passed = || counters.connections_refused(Port::Peer, Refused::Timeout);
    let row = &table()[PEERS];
    let mut cases: Vec<(bool, String, Option<Credential>)> = holders(&issuer)
        .into_iter()
        .map(|(column, who, credential)| (row[column], who, credential))
        .collect();
    let strangers = strangers(&issuer).into_iter();
    cases.extend(strangers.map(|(who, credential)| (false, who, Some(credential))));
    for (may, who, credential) in cases {
        let (all, before) = (count(), passed());
        let said = attack(to, credential.as_ref(), PEER_PROTOCOL).await;
        assert!(said.is_err(), "{who} said nothing and was answered {said:?}");
        until("the refusal is counted", || count() == all + 1).await;
        assert_eq!(passed() > before, may, "{who}");
    }
}

/// Passes bytes on and keeps what the client sent.
async fn record(to: SocketAddr, listener: TcpListener) -> Vec<u8> {
    let (mut client, _) = listener.accept().await.unwrap();
    let mut server = TcpStream::connect(to).await.unwrap();
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut kept = Vec::new();
    let forth = async {
        let mut buffer = [0; 4_096];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            kept.extend_from_slice(&buffer[..n]);
            to_server.write_all(&buffer[..n]).await.unwrap();
        }
    };
    let back = async { _ = tokio::io::copy(&mut from_server, &mut to_client).await };
    tokio::select! { () = forth => {}, () = back => {} }
    kept
}

#[tokio::test]
async fn a_recorded_request_is_worth_nothing() {
    let api = start(Route::rule);
    let to = api.server.addresses()[0];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let recording = tokio::spawn(record(to, listener));
    let ann = api.issuer.credential(Role::Operator, "ann");
    assert_eq!(ask(at, Some(&ann), "POST /v1/operations").await, Some(200));
    let recorded = soon("the recording ends", recording).await.unwrap();
    assert_eq!(api.backend.0.load(Ordering::SeqCst), 1);

    let mut again = TcpStream::connect(to).await.unwrap();
    again.write_all(&recorded).await.unwrap();
    let mut answer = Vec::new();
    // It ends with an alert or a reset: the server's part of the handshake is another one.
    _ = soon("the server ends it", again.read_to_end(&mut answer)).await;
    let rest = String::from_utf8_lossy(&answer).into_owned();
    assert!(!rest.contains("HTTP/1.1"), "{rest}");
    assert_eq!(api.backend.0.load(Ordering::SeqCst), 1, "it was carried out once");
}
