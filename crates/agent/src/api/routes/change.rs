//! What changes the cluster. Operators only.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use super::ask;
use crate::api::access::Route;
use crate::api::call::Call;
use crate::api::router::{Api, Connected, ReadBody};

/// An operation, such as a switchover or a maintenance.
#[cfg_attr(test, utoipa::path(post, path = "/v1/operations", request_body = Value, responses(
    (status = 200, description = "Accepted and committed"),
    (status = 403, description = "Not an operator", body = crate::api::Problem),
    (status = 409, description = "It does not fit the state", body = crate::api::Problem),
    (status = 421, description = "Ask the coordinator", body = crate::api::call::Elsewhere),
)))]
pub(in crate::api) async fn operate(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
    body: ReadBody,
) -> Response {
    match api.json::<Value>(body, Route::Operate) {
        Ok(operation) => ask(&api, &connected, Call::Operate(operation)).await,
        Err(response) => response,
    }
}

/// What a new specification was made from.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub(crate) struct ApplyQuery {
    /// The version of the specification that it is to replace: refused where another is in force
    /// by now. Without it, it replaces the one of the moment.
    base: Option<u64>,
}

/// A new specification: committed whole, or not at all.
#[cfg_attr(test, utoipa::path(post, path = "/v1/apply", params(ApplyQuery),
    request_body(content = String, content_type = "application/toml"),
    responses(
        (status = 200, description = "Committed"),
        (status = 400, description = "Not a specification", body = crate::api::Problem),
        (status = 403, description = "Not an operator", body = crate::api::Problem),
        (status = 409, description = "Another version is in force", body = crate::api::Problem),
        (status = 421, description = "Ask the coordinator", body = crate::api::call::Elsewhere),
    )
))]
pub(in crate::api) async fn apply(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
    query: Result<Query<ApplyQuery>, QueryRejection>,
    body: ReadBody,
) -> Response {
    let base = match query {
        Ok(Query(query)) => query.base,
        Err(rejection) => return api.malformed(rejection.body_text()),
    };
    let bytes = match api.bytes(body, Route::Apply) {
        Ok(bytes) => bytes,
        Err(response) => return response,
    };
    match String::from_utf8(bytes.into()) {
        Ok(text) => ask(&api, &connected, Call::Apply { text, base }).await,
        Err(error) => api.malformed(error),
    }
}
