//! From the table of `access` to a router, and what every call has in common: the decision who
//! may, the size of its body, its time limit, its count.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::handler::Handler;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::Value;

use super::access::{Denial, Route, Rule, Verb, decide};
use super::call::{Backend, Elsewhere, Problem, Refusal, Reply};
use super::metrics::Metrics;
use super::routes;
use crate::identity::Caller;
use crate::net::Tls;
use crate::net::counters::{Denied, worth_a_line};

/// What handlers share.
pub(super) struct Api {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tls: Arc<Tls>,
    /// Longest time a call may take.
    pub(super) call_max: Duration,
}

/// Who is at the other end of the connection that a request came over.
#[derive(Debug, Clone)]
pub(super) struct Connected(pub(super) Option<Caller>);

impl Connected {
    /// The caller, judged now.
    pub(super) fn caller(&self, tls: &Tls) -> Option<Caller> {
        self.0.clone().map(|caller| tls.judge(caller))
    }
}

/// The router: a handler for every route of a table.
pub(super) fn router(api: &Arc<Api>, table: fn(Route) -> Rule) -> Router {
    let mut router = Router::new();
    for route in Route::ALL {
        let rule = table(route);
        let handler = handler(route, rule.verb)
            .layer(DefaultBodyLimit::max(rule.body_max))
            .layer(from_fn_with_state((Arc::clone(api), route, rule), guard))
            .with_state(Arc::clone(api));
        // Two methods of one path are two routes; the router puts them together.
        router = router.route(rule.path, handler);
    }
    router.fallback(no_route).method_not_allowed_fallback(no_route).with_state(Arc::clone(api))
}

fn handler(route: Route, verb: Verb) -> MethodRouter<Arc<Api>> {
    fn on<H, T>(verb: Verb, handler: H) -> MethodRouter<Arc<Api>>
    where
        H: Handler<T, Arc<Api>>,
        T: 'static,
    {
        match verb {
            Verb::Get => get(handler),
            Verb::Post => post(handler),
        }
    }
    match route {
        Route::Live => on(verb, routes::health::live),
        Route::Ready => on(verb, routes::health::ready),
        Route::Active => on(verb, routes::health::active),
        Route::OpenApi => on(verb, routes::state::open_api),
        Route::Status => on(verb, routes::state::status),
        Route::Explain => on(verb, routes::state::explain),
        Route::Events => on(verb, routes::events::events),
        Route::Spec => on(verb, routes::state::spec),
        Route::Metrics => on(verb, routes::state::metrics),
        Route::Operate => on(verb, routes::change::operate),
        Route::Apply => on(verb, routes::change::apply),
        Route::CreateToken => on(verb, routes::membership::create_token),
        Route::Join => on(verb, routes::membership::join),
        Route::Rejoin => on(verb, routes::membership::rejoin),
        Route::Renew => on(verb, routes::membership::renew),
        Route::State => on(verb, routes::state::export),
        Route::Position => on(verb, routes::state::position),
        Route::Vault => on(verb, routes::vault::look),
        Route::RecordHead => on(verb, routes::vault::record),
        Route::ReportFork => on(verb, routes::vault::fork),
        Route::Authority => on(verb, routes::authority::show),
        Route::BeginRotation => on(verb, routes::authority::begin),
    }
}

/// What stands before every handler.
async fn guard(
    State((api, route, rule)): State<(Arc<Api>, Route, Rule)>,
    request: Request,
    next: Next,
) -> Response {
    let connected = request.extensions().get::<Connected>().cloned();
    let caller = connected.and_then(|connected| connected.caller(&api.tls));
    let response = match decide(rule.who, caller.as_ref()) {
        Err(denial) => denied(&api, route, &denial),
        Ok(()) => match tokio::time::timeout(api.call_max, next.run(request)).await {
            Ok(response) => response,
            Err(_) => {
                api.metrics.counters.call_denied(Denied::Timeout);
                let message = format!("the call took longer than {} s", api.call_max.as_secs());
                let help = "ask for `status`: it may have been carried out all the same";
                problem(StatusCode::GATEWAY_TIMEOUT, Problem::new("timeout", message, help))
            }
        },
    };
    api.metrics.call_answered(route, response.status().as_u16());
    response
}

fn denied(api: &Api, route: Route, denial: &Denial) -> Response {
    let count = api.metrics.counters.call_denied(denial.counted_as());
    if worth_a_line(count) {
        tracing::info!(route = route.as_str(), %denial, count, "call denied");
    }
    let code = denial.counted_as().as_str();
    problem(StatusCode::FORBIDDEN, Problem::new(code, denial, denial.help()))
}

async fn no_route(State(api): State<Arc<Api>>) -> Response {
    api.metrics.counters.call_denied(Denied::NoRoute);
    let message = "the API has no such path, or not for this method";
    let help = "GET /v1/openapi.json lists what it has";
    problem(StatusCode::NOT_FOUND, Problem::new("no_route", message, help))
}

/// A body as it arrived, or why it didn't.
pub(super) type ReadBody = Result<Bytes, BytesRejection>;

impl Api {
    /// The body's bytes, or the answer to a body that is too large or broken off.
    #[expect(clippy::result_large_err, reason = "the error is the answer, and it is rare")]
    pub(super) fn bytes(&self, body: ReadBody, route: Route) -> Result<Bytes, Response> {
        body.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                self.metrics.counters.call_denied(Denied::TooLarge);
                let message = format!("the body has more than {} bytes", route.rule().body_max);
                let body = Problem::new("too_large", message, "send less in one call");
                return problem(StatusCode::PAYLOAD_TOO_LARGE, body);
            }
            self.malformed(rejection.body_text())
        })
    }

    /// The body as JSON of one shape.
    #[expect(clippy::result_large_err, reason = "the error is the answer, and it is rare")]
    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        body: ReadBody,
        route: Route,
    ) -> Result<T, Response> {
        let bytes = self.bytes(body, route)?;
        serde_json::from_slice(&bytes).map_err(|error| self.malformed(error))
    }

    /// The answer to a request that can't be read.
    pub(super) fn malformed(&self, detail: impl std::fmt::Display) -> Response {
        self.metrics.counters.call_denied(Denied::Malformed);
        let message = format!("the request can't be read: {detail}");
        let help = "GET /v1/openapi.json says what this call takes";
        problem(StatusCode::BAD_REQUEST, Problem::new("malformed", message, help))
    }
}

pub(super) fn problem(status: StatusCode, body: Problem) -> Response {
    json(status, &serde_json::to_value(body).expect("a problem can be encoded"))
}

fn json(status: StatusCode, body: &Value) -> Response {
    text(status, body.to_string(), "application/json")
}

fn text(status: StatusCode, body: String, kind: &'static str) -> Response {
    let mut response = (status, Body::from(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        match self {
            Reply::Json(body) => json(StatusCode::OK, &body),
            Reply::Text(body) => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                text(StatusCode::OK, body, kind)
            }
            Reply::Health { yes: true, detail } => json(StatusCode::OK, &detail),
            Reply::Health { yes: false, detail } => json(StatusCode::SERVICE_UNAVAILABLE, &detail),
            Reply::Elsewhere { coordinator, address } => {
                let body = Elsewhere { coordinator, address };
                let body = serde_json::to_value(body).expect("an address can be encoded");
                json(StatusCode::MISDIRECTED_REQUEST, &body)
            }
            Reply::Refused(refusal, body) => problem(status(refusal), body),
        }
    }
}

fn status(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::Invalid => StatusCode::BAD_REQUEST,
        Refusal::Denied => StatusCode::FORBIDDEN,
        Refusal::NotFound => StatusCode::NOT_FOUND,
        Refusal::Conflict => StatusCode::CONFLICT,
        Refusal::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Unknown => StatusCode::GATEWAY_TIMEOUT,
        Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
