//! The API over real TLS on loopback: who may call what, limits, hints, and its client.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::api::access::{Verb, Who};
use agent::api::{
    ApiClient, ApiServer, Backend, BoxFuture, Call, ClientError, Limits, Metrics, Problem, Refusal,
    Reply, Route, openapi,
};
use agent::identity::{
    Caller, Credential, DatagramKey, JoinToken, NodeKey, Role, TrustBundle, Validity, wall_s,
};
use agent::net::counters::Denied;
use agent::net::tls::API_PROTOCOL;
use agent::net::{Port, Refused, Tls};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::support::{Issuer, attack, soon, tls, until};

/// Answers with what it was asked.
#[derive(Default)]
struct Echo {
    /// Where writes go instead, if anywhere.
    elsewhere: Mutex<Option<(String, SocketAddr)>>,
    /// Calls wait for this once it is `slow`.
    go: Notify,
    entered: Notify,
    slow: Mutex<bool>,
    /// Answers that it can't, if set.
    unable: Mutex<Option<Problem>>,
    calls: Mutex<Vec<String>>,
}

impl Backend for Echo {
    fn call(&self, caller: Option<Caller>, call: Call) -> BoxFuture<'_, Reply> {
        let name = caller.map(|caller| caller.name.to_string());
        self.calls.lock().unwrap().push(format!("{call:?}"));
        Box::pin(async move {
            if let Some((name, address)) = self.elsewhere.lock().unwrap().clone() {
                return Reply::Elsewhere { coordinator: name.parse().unwrap(), address };
            }
            let slow = *self.slow.lock().unwrap();
            if slow {
                self.entered.notify_one();
                self.go.notified().await;
            }
            if let Some(problem) = self.unable.lock().unwrap().clone() {
                return Reply::Refused(Refusal::Unavailable, problem);
            }
            match call {
                Call::Status(_) => Reply::Json(json!({ "caller": name })),
                Call::Metrics => Reply::Text(Metrics::default().encode()),
                Call::Active(name) => {
                    let yes = name.as_str() == "gateway";
                    Reply::Health { yes, detail: json!({ "active": yes }) }
                }
                Call::Explain(resource, _) => Reply::Refused(
                    Refusal::NotFound,
                    Problem::new("no_resource", format!("no {resource}"), "see `status`"),
                ),
                Call::Events { after, limit, wait } => {
                    Reply::Json(json!({ "after": after, "limit": limit, "wait": wait.as_millis() }))
                }
                other => Reply::Json(json!({ "call": format!("{other:?}"), "caller": name })),
            }
        })
    }
}

struct Api {
    issuer: Issuer,
    echo: Arc<Echo>,
    metrics: Arc<Metrics>,
    server: ApiServer,
}

fn start(limits: Limits) -> Api {
    start_as(Issuer::new(), "a", limits)
}

fn start_as(issuer: Issuer, name: &str, limits: Limits) -> Api {
    let credential = issuer.credential(Role::Voter, name);
    start_with(issuer, &credential, limits)
}

fn start_with(issuer: Issuer, credential: &Credential, limits: Limits) -> Api {
    let (echo, metrics) = (Arc::new(Echo::default()), Arc::new(Metrics::default()));
    let tls = Arc::new(Tls::new(credential).unwrap());
    let listen = ["127.0.0.1:0".parse().unwrap(), "127.0.0.2:0".parse().unwrap()];
    let backend = Arc::clone(&echo) as Arc<dyn Backend>;
    let server =
        ApiServer::start(&Handle::current(), &listen, tls, Arc::clone(&metrics), backend, limits)
            .unwrap();
    Api { issuer, echo, metrics, server }
}

impl Api {
    fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    fn client(&self, credential: &Credential) -> ApiClient {
        ApiClient::new(credential, self.server.addresses()).unwrap()
    }

    fn anonymous(&self) -> ApiClient {
        ApiClient::anonymous(&self.issuer.bundle(), self.server.addresses()).unwrap()
    }

    fn denied(&self, reason: Denied) -> u64 {
        self.metrics.counters.calls_denied(reason)
    }
}

/// A path and a body that the route understands.
fn example(route: Route) -> (String, Value) {
    let path = route.rule().path.replace("{name}", "gateway").replace("{resource}", "gateway");
    let request = NodeKey::generate().unwrap().request().unwrap();
    let head = |number: u64| format!("{number}:{}", "0".repeat(64));
    let body = match route {
        Route::CreateToken => json!({ "role": "member" }),
        Route::Join => json!({ "secret": "0".repeat(64), "name": "n", "request": request }),
        Route::Rejoin => json!({ "datagram_key": "1".repeat(64) }),
        Route::Renew => json!({ "request": request }),
        Route::RecordHead => json!({ "repository": "0".repeat(32), "head": head(1) }),
        Route::ReportFork => {
            json!({ "repository": "0".repeat(32), "found": head(1), "known": head(2) })
        }
        Route::BeginRotation => json!({}),
        _ => json!({ "switchover": "gateway" }),
    };
    (path, body)
}

async fn try_route(client: &ApiClient, route: Route) -> Result<(), ClientError> {
    let (path, body) = example(route);
    let calling = async {
        match route.rule().verb {
            Verb::Get => client.get_text(&path).await.map(drop),
            Verb::Post if route == Route::Apply => {
                client.post_text(&path, "[cluster]").await.map(drop)
            }
            Verb::Post => client.post(&path, &body).await.map(drop),
        }
    };
    soon("a call is answered", calling).await
}

/// The status that a call was answered with.
fn status(outcome: &Result<(), ClientError>) -> u16 {
    match outcome {
        Ok(()) => 200,
        Err(ClientError::Refused { status, .. }) => *status,
        Err(other) => panic!("{other}"),
    }
}

/// The matrix, written out once more by hand: who gets through.
fn may(route: Route, caller: Option<Role>, expired: bool) -> bool {
    match route {
        Route::Live | Route::Ready | Route::Active | Route::Join => true,
        Route::Renew => caller.is_some_and(|role| role.is_node() || !expired),
        Route::Rejoin => caller.is_some_and(Role::is_node) && !expired,
        Route::Operate
        | Route::Apply
        | Route::CreateToken
        | Route::State
        | Route::BeginRotation => caller == Some(Role::Operator) && !expired,
        Route::RecordHead | Route::ReportFork => {
            caller.is_some_and(|role| role != Role::Viewer) && !expired
        }
        Route::OpenApi
        | Route::Status
        | Route::Explain
        | Route::Events
        | Route::Spec
        | Route::Metrics
        | Route::Position
        | Route::Authority
        | Route::Vault => caller.is_some() && !expired,
    }
}

#[tokio::test]
async fn every_role_may_call_what_the_table_says_and_nothing_else() {
    let api = start(Limits::default());
    let mut callers = vec![(None, false, api.anonymous())];
    for role in Role::ALL {
        let name = format!("the-{role}");
        callers.push((Some(role), false, api.client(&api.issuer.credential(role, &name))));
        callers.push((Some(role), true, api.client(&api.issuer.expired(role, &name))));
    }
    let mut denied = 0;
    for (role, expired, client) in &callers {
        for route in Route::ALL {
            let outcome = try_route(client, route).await;
            let what = format!("{route:?} by {role:?}, expired: {expired}: {outcome:?}");
            let expect = match may(route, *role, *expired) {
                true if route == Route::Explain => 404,
                true => 200,
                false => 403,
            };
            assert_eq!(status(&outcome), expect, "{what}");
            if let (403, Err(ClientError::Refused { problem, .. })) = (expect, &outcome) {
                let code = match (role, expired) {
                    (None, _) => "anonymous",
                    (_, true) => "expired",
                    _ => "role",
                };
                assert_eq!(problem.code, code, "{what}");
                assert!(!problem.help.is_empty(), "{what}");
                denied += 1;
            }
        }
    }
    let counted = [Denied::Anonymous, Denied::Expired, Denied::Role].map(|r| api.denied(r));
    assert_eq!(counted.iter().sum::<u64>(), denied, "every denial is counted");
    assert!(counted.iter().all(|count| *count > 0));
}

#[test]
fn every_route_is_in_the_table_once_and_described() {
    let document = openapi::document();
    let paths = document["paths"].as_object().unwrap();
    let verbs = paths.values().map(|verbs| verbs.as_object().unwrap().len());
    assert_eq!(verbs.sum::<usize>(), Route::ALL.len());
    for route in Route::ALL {
        let rule = route.rule();
        let verb = if rule.verb == Verb::Get { "get" } else { "post" };
        let described = &paths[rule.path][verb];
        assert!(described.is_object(), "{} is described", rule.path);
        let denied = described["responses"].get("403").is_some();
        let open = rule.who == Who::Everybody && route != Route::Join;
        assert_eq!(denied, !open, "{} says whether it can be denied", rule.path);
        assert_eq!(rule.body_max > 0, rule.verb == Verb::Post, "{}", rule.path);
    }
}

#[tokio::test]
async fn what_is_not_in_the_table_does_not_exist() {
    let api = start(Limits::default());
    let client = api.client(&api.issuer.credential(Role::Operator, "ann"));
    for path in ["/", "/v1", "/v2/status", "/v1/status/", "/v1/../metrics", "/resources/x"] {
        let outcome = client.get(path).await.map(drop);
        assert_eq!(status(&outcome), 404, "{path}");
    }
    let wrong_verb = client.post("/v1/status", &json!({})).await.map(drop);
    assert_eq!(status(&wrong_verb), 404);
    assert_eq!(api.denied(Denied::NoRoute), 7);
    assert!(api.echo.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_expired_certificate_can_renew_and_the_backend_is_told() {
    let api = start(Limits::default());
    let client = api.client(&api.issuer.expired(Role::Voter, "b"));
    let (path, body) = example(Route::Renew);
    let answer = client.post(&path, &body).await.unwrap();
    assert_eq!(answer["caller"], "b");
    let refused = client.get("/v1/status").await.unwrap_err().to_string();
    assert!(refused.contains("has run out") && refused.contains("agent renews it"), "{refused}");
}

#[tokio::test]
async fn a_whole_cluster_that_ran_out_can_renew_and_nothing_else() {
    let issuer = Issuer::new();
    let expired = issuer.expired(Role::Voter, "a");
    let api = start_with(issuer, &expired, Limits::default());
    let other = api.issuer.expired(Role::Voter, "b");
    let wary = api.client(&other).get("/livez").await.unwrap_err();
    assert!(wary.to_string().contains("has run out"), "{wary}");
    let renewing = ApiClient::renewing(&other, api.server.addresses()).unwrap();
    let (path, body) = example(Route::Renew);
    assert_eq!(renewing.post(&path, &body).await.unwrap()["caller"], "b");
    assert_eq!(status(&renewing.get("/v1/status").await.map(drop)), 403);
}

#[tokio::test]
async fn strangers_are_refused_in_the_handshake_and_counted() {
    let api = start(Limits::default());
    let cases = [
        (Issuer::new().credential(Role::Operator, "eve"), Refused::Cluster),
        (Issuer::of(api.issuer.cluster).credential(Role::Operator, "eve"), Refused::Authority),
        (Issuer::since(api.issuer.cluster, 60).expired(Role::Voter, "a"), Refused::Authority),
    ];
    for (credential, reason) in cases {
        let before = api.metrics.counters.connections_refused(Port::Api, reason);
        attack(api.address(), Some(&credential), API_PROTOCOL).await.unwrap_err();
        let counted = || api.metrics.counters.connections_refused(Port::Api, reason);
        let what = format!("{reason} is counted");
        until(&what, || counted() == before + 1).await;
    }
    let error = api.client(&Issuer::new().credential(Role::Viewer, "eve"));
    let error = error.get("/livez").await.unwrap_err().to_string();
    assert!(error.contains("is for cluster"), "{error}");
}

#[tokio::test]
async fn joining_believes_only_the_authority_in_the_token() {
    let api = start(Limits::default());
    let impostor = Issuer::of(api.issuer.cluster);
    let token = |authority| {
        let addresses = api.server.addresses().to_vec();
        JoinToken::new(api.issuer.cluster, authority, Role::Member, None, addresses)
    };
    let good = token(api.issuer.authority.fingerprint());
    let body = json!({
        "secret": data_encoding::HEXLOWER.encode(good.secret()),
        "name": "n",
        "request": NodeKey::generate().unwrap().request().unwrap(),
        "datagram_key": data_encoding::HEXLOWER.encode(&DatagramKey::generate().public().0),
    });
    ApiClient::joining(&good).unwrap().post("/v1/join", &body).await.unwrap();
    let call = api.echo.calls.lock().unwrap()[0].clone();
    assert!(
        call.starts_with("Join") && !call.contains("secret"),
        "secrets are not printed: {call}"
    );
    let wrong = token(impostor.authority.fingerprint());
    let error = ApiClient::joining(&wrong).unwrap().post("/v1/join", &body).await.unwrap_err();
    assert!(error.to_string().contains("not believed here"), "{error}");
    assert_eq!(api.echo.calls.lock().unwrap().len(), 1, "the secret never left");
}

#[tokio::test]
async fn bodies_and_parameters_that_cannot_be_are_refused() {
    let api = start(Limits::default());
    let client = api.client(&api.issuer.credential(Role::Operator, "ann"));
    let large = "#".repeat(Route::Apply.rule().body_max + 1);
    let outcome = client.post_text("/v1/apply", &large).await.map(drop);
    assert_eq!(status(&outcome), 413);
    assert_eq!(api.denied(Denied::TooLarge), 1);
    let request = NodeKey::generate().unwrap().request().unwrap();
    let bad = [
        ("/v1/tokens", json!({ "role": "root" })),
        ("/v1/tokens", json!({ "role": "member", "more": 1 })),
        ("/v1/join", json!({ "secret": "00", "name": "n", "request": request })),
        ("/v1/join", json!({ "secret": "0".repeat(64), "name": "N", "request": request })),
        ("/v1/renew", json!({ "request": "-----BEGIN CERTIFICATE REQUEST-----" })),
        (
            "/v1/renew",
            json!({ "request": NodeKey::generate().unwrap().request().unwrap(), "x": 1 }),
        ),
        ("/v1/renew", json!({ "request": "x".repeat(5_000) })),
    ];
    for (path, body) in &bad {
        let outcome = client.post(path, body).await.map(drop);
        assert_eq!(status(&outcome), 400, "{path} {body}");
    }
    for path in [
        "/v1/events?after=-1",
        "/v1/events?more=1",
        "/v1/explain/NO",
        "/v1/status?of=me",
        "/v1/status?whose=own",
        "/v1/explain/x?of=",
    ] {
        assert_eq!(status(&client.get(path).await.map(drop)), 400, "{path}");
    }
    assert_eq!(api.denied(Denied::Malformed), bad.len() as u64 + 6);
    assert!(api.echo.calls.lock().unwrap().is_empty());
    for path in ["/v1/apply?base=x", "/v1/apply?version=1"] {
        assert_eq!(status(&client.post_text(path, "").await.map(drop)), 400, "{path}");
    }
    let applied = client.post_text("/v1/apply?base=7", "[cluster]").await.unwrap();
    assert!(applied["call"].as_str().unwrap().contains("base: Some(7)"), "{applied}");
    let events = client.get("/v1/events?after=7&limit=999999&wait_ms=999999").await.unwrap();
    assert_eq!(events, json!({ "after": 7, "limit": 1_000, "wait": 20_000 }));
}

#[tokio::test]
async fn a_load_balancer_needs_no_certificate() {
    let api = start(Limits::default());
    let client = api.anonymous();
    assert_eq!(client.get("/resources/gateway/active").await.unwrap(), json!({ "active": true }));
    let other = client.get("/resources/ledger/active").await.map(drop);
    assert_eq!(status(&other), 503);
}

#[tokio::test]
async fn the_client_passes_dead_nodes_and_goes_to_the_coordinator() {
    let here = start_as(Issuer::new(), "a", Limits::default());
    let cluster = Issuer { cluster: here.issuer.cluster, authority: copy(&here.issuer) };
    let there = start_as(cluster, "b", Limits::default());
    let ann = here.issuer.credential(Role::Operator, "ann");
    let dead = "127.0.0.1:1".parse().unwrap();
    let client = ApiClient::new(&ann, &[dead, here.address()]).unwrap();
    client.get("/v1/status").await.unwrap();

    // One that can't says that nothing was done, and the next is asked.
    let problem = Problem::new("no_quorum", "this node is alone", "ask another");
    *here.echo.unable.lock().unwrap() = Some(problem);
    let either = ApiClient::new(&ann, &[here.address(), there.address()]).unwrap();
    either.post("/v1/operations", &json!({ "drain": "a" })).await.unwrap();
    assert_eq!(there.echo.calls.lock().unwrap().drain(..).count(), 1);
    let alone = client.get("/v1/status").await.unwrap_err().to_string();
    assert!(alone.contains("this node is alone"), "{alone}");
    *here.echo.unable.lock().unwrap() = None;

    *here.echo.elsewhere.lock().unwrap() = Some(("b".to_string(), there.address()));
    client.post("/v1/operations", &json!({ "drain": "a" })).await.unwrap();
    assert_eq!(there.echo.calls.lock().unwrap().len(), 1);

    *here.echo.elsewhere.lock().unwrap() = Some(("c".to_string(), there.address()));
    let error = client.get("/v1/status").await.unwrap_err().to_string();
    assert!(error.contains("it is b, not the coordinator"), "{error}");

    *here.echo.elsewhere.lock().unwrap() = Some(("a".to_string(), here.address()));
    let error = client.get("/v1/status").await.unwrap_err();
    assert!(matches!(error, ClientError::Circle), "{error}");

    let nobody = ApiClient::new(&ann, &[dead]).unwrap().get("/v1/status").await.unwrap_err();
    assert!(nobody.to_string().contains("127.0.0.1:1"), "{nobody}");
    let none = ApiClient::new(&ann, &[]).unwrap().get("/v1/status").await.unwrap_err();
    assert!(matches!(none, ClientError::NoEndpoint));
}

fn copy(issuer: &Issuer) -> agent::identity::Authority {
    let certificate = issuer.authority.certificate().to_pem();
    agent::identity::Authority::from_pem(&certificate, &issuer.authority.key_pem()).unwrap()
}

#[tokio::test]
async fn a_change_without_an_answer_is_not_sent_again() {
    let api = start(Limits::default());
    *api.echo.slow.lock().unwrap() = true;
    let calls = || api.echo.calls.lock().unwrap().len();
    let client = api.client(&api.issuer.credential(Role::Operator, "ann"));
    let hasty = client.within(Duration::from_millis(200));
    let error = hasty.post("/v1/operations", &json!({})).await.unwrap_err();
    assert!(matches!(error, ClientError::Unknown { .. }), "{error}");
    assert_eq!(calls(), 1, "it may have been carried out");
    let error = hasty.get("/v1/status").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert_eq!(calls(), 3, "a read is tried on every address");
}

#[tokio::test]
async fn garbage_silence_and_crowds_are_refused_and_counted() {
    let limits = Limits {
        connections_per_address: 3,
        handshake: Duration::from_millis(300),
        headers: Duration::from_millis(300),
        ..Limits::default()
    };
    let api = start(limits);
    let counters = &api.metrics.counters;
    let mut plain = TcpStream::connect(api.address()).await.unwrap();
    plain.write_all(b"GET /livez HTTP/1.1\r\n\r\n").await.unwrap();
    let refused = |reason| counters.connections_refused(Port::Api, reason);
    until("plaintext is refused", || refused(Refused::Garbage) == 1).await;
    drop(plain);

    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(api.address()).await.unwrap());
    }
    until("a fourth is one too many", || refused(Refused::TooMany) >= 1).await;
    until("silence ends", || refused(Refused::Timeout) >= 3).await;
    drop(silent);

    // One that says its headers slowly is ended as well.
    let ann = api.issuer.credential(Role::Operator, "ann");
    let mut slow = tls(api.address(), Some(&ann), API_PROTOCOL).await.unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let mut rest = Vec::new();
    let ended = soon("a slow request ends", slow.read_to_end(&mut rest)).await;
    assert!(ended.is_err() || !rest.starts_with(b"HTTP/1.1 200"), "{rest:?}");

    let mut headers = b"GET /livez HTTP/1.1\r\n".to_vec();
    headers.extend(std::iter::repeat_n(b"X-Filler: yes\r\n".as_slice(), 100).flatten());
    headers.extend(b"\r\n");
    let mut many = tls(api.address(), Some(&ann), API_PROTOCOL).await.unwrap();
    many.write_all(&headers).await.unwrap();
    let mut answer = Vec::new();
    soon("too many headers are refused", many.read_to_end(&mut answer)).await.ok();
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    assert!(api.echo.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_slow_call_ends_at_its_limit() {
    let limits = Limits { call: Duration::from_millis(100), ..Limits::default() };
    let api = start(limits);
    *api.echo.slow.lock().unwrap() = true;
    let client = api.client(&api.issuer.credential(Role::Viewer, "vera"));
    let outcome = soon("it ends", client.get("/v1/status")).await.map(drop);
    assert_eq!(status(&outcome), 504);
    assert_eq!(api.denied(Denied::Timeout), 1);
}

#[tokio::test]
async fn stopping_lets_a_running_call_finish_and_takes_no_new_one() {
    let api = start(Limits::default());
    *api.echo.slow.lock().unwrap() = true;
    let ann = api.issuer.credential(Role::Operator, "ann");
    let address = api.address();
    let client = ApiClient::new(&ann, &[address]).unwrap();
    let running = tokio::spawn(async move { client.get("/v1/status").await });
    soon("the call is running", api.echo.entered.notified()).await;
    let stopping = tokio::spawn(api.server.stop(Duration::from_secs(20)));
    let gone = async { while TcpStream::connect(address).await.is_ok() {} };
    soon("nobody is let in any more", gone).await;
    api.echo.go.notify_one();
    let answer = soon("the call ends", running).await.unwrap().unwrap();
    assert_eq!(answer, json!({ "caller": "ann" }));
    assert!(soon("the server ends", stopping).await.unwrap());
}

#[tokio::test]
async fn metrics_are_text_that_names_every_reason() {
    let api = start(Limits::default());
    let client = api.client(&api.issuer.credential(Role::Viewer, "prometheus"));
    let text = client.get_text("/metrics").await.unwrap();
    for line in [
        "backstay_datagrams_dropped_total{reason=\"replay\"} 0",
        "backstay_connections_refused_total{port=\"peer\",reason=\"authority\"} 0",
        "backstay_calls_denied_total{reason=\"role\"} 0",
        "backstay_lease_remaining_seconds 0.0",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

/// An HTTP connection that stays open between requests, as a client would keep one.
struct Kept(tokio_rustls::client::TlsStream<TcpStream>);

impl Kept {
    async fn open(to: SocketAddr, credential: &Credential) -> Kept {
        Kept(
            crate::support::tls(to, Some(credential), agent::net::tls::API_PROTOCOL).await.unwrap(),
        )
    }

    /// The head of the answer to a request; none where the connection has ended.
    async fn ask(&mut self) -> Option<String> {
        let request = b"GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n";
        self.0.write_all(request).await.ok()?;
        let mut answer = vec![0; 4_096];
        let read = soon("an answer or an end", self.0.read(&mut answer)).await.ok()?;
        (read > 0).then(|| String::from_utf8_lossy(&answer[..read]).into_owned())
    }
}

/// Judged at every request: a connection that was made before is no way around.
#[tokio::test]
async fn a_refused_name_and_a_dropped_authority_end_what_was_open() {
    let old = Issuer::new();
    let new = Issuer::of(old.cluster);
    let both = old.bundle().with(new.authority.certificate().clone()).unwrap();
    let under = |issuer: &Issuer, bundle: &TrustBundle| {
        let key = NodeKey::generate().unwrap();
        let chain = issuer.chain(Role::Voter, "a", &key, Validity::days(wall_s(), 30));
        Credential::new(bundle.clone(), &chain, key).unwrap()
    };
    let tls = Arc::new(Tls::new(&under(&new, &both)).unwrap());
    let listen = ["127.0.0.1:0".parse().unwrap()];
    let (echo, metrics) = (Arc::new(Echo::default()), Arc::new(Metrics::default()));
    let backend = Arc::clone(&echo) as Arc<dyn Backend>;
    let (of, limits) = (Arc::clone(&tls), Limits::default());
    let server =
        ApiServer::start(&Handle::current(), &listen, of, Arc::clone(&metrics), backend, limits);
    let server = server.unwrap();
    let to = server.addresses()[0];

    let mut eve = Kept::open(to, &old.credential(Role::Operator, "eve")).await;
    let mut ann = Kept::open(to, &old.credential(Role::Operator, "ann")).await;
    let mut bob = Kept::open(to, &new.credential(Role::Viewer, "bob")).await;
    for kept in [&mut eve, &mut ann, &mut bob] {
        assert!(kept.ask().await.unwrap().starts_with("HTTP/1.1 200"));
    }
    tls.refuse(std::collections::BTreeSet::from(["eve".parse().unwrap()]));
    let refused = eve.ask().await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("revoked"), "{refused}");
    assert_eq!(metrics.counters.calls_denied(Denied::Revoked), 1);
    assert!(ann.ask().await.unwrap().starts_with("HTTP/1.1 200"));
    tls.replace(&under(&new, &new.bundle())).unwrap();
    for (who, mut kept) in [("eve", eve), ("ann", ann)] {
        let ended = async { while kept.ask().await.is_some_and(|a| !a.contains(" 403 ")) {} };
        soon(who, ended).await;
        soon(who, async { while kept.ask().await.is_some() {} }).await;
    }
    assert!(bob.ask().await.unwrap().starts_with("HTTP/1.1 200"), "of the new one");
}
