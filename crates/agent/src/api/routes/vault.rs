//! What the cluster remembers of the vault's repositories.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::ask;
use crate::api::access::Route;
use crate::api::call::{Call, ForkBody, HeadBody};
use crate::api::router::{Api, Connected, ReadBody};

/// How to look.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultQuery {
    /// What this node knows will do: it is not sent on to the coordinator.
    #[serde(default)]
    local: bool,
}

/// How far each repository's chain had come, who said so, the newest backup and proof of each
/// source; and on which nodes tasks of each resource run.
#[cfg_attr(test, utoipa::path(get, path = "/v1/vault", params(VaultQuery), responses(
    (status = 200, description = "What is remembered; `authoritative` where nothing is newer"),
    (status = 400, description = "A parameter can't be read", body = crate::api::Problem),
    (status = 403, description = "No certificate", body = crate::api::Problem),
    (status = 421, description = "Ask the coordinator", body = crate::api::call::Elsewhere),
)))]
pub(in crate::api) async fn look(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
    query: Result<Query<VaultQuery>, QueryRejection>,
) -> Response {
    match query {
        Ok(Query(VaultQuery { local })) => ask(&api, &connected, Call::Vault { local }).await,
        Err(rejection) => api.malformed(rejection.body_text()),
    }
}

/// Records how far a repository's chain has come. The one who calls has seen that `head` follows
/// `previous`, which must be what is remembered.
#[cfg_attr(test, utoipa::path(post, path = "/v1/vault/heads", request_body = HeadBody, responses(
    (status = 200, description = "Committed, or remembered already"),
    (status = 400, description = "Can't be read, or too much", body = crate::api::Problem),
    (status = 403, description = "Neither node nor operator", body = crate::api::Problem),
    (status = 409, description = "`head-moved`: look again; `forked`: it stands against what is \
     remembered, and was noted; `too-many-repositories`", body = crate::api::Problem),
    (status = 421, description = "Ask the coordinator", body = crate::api::call::Elsewhere),
)))]
pub(in crate::api) async fn record(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
    body: ReadBody,
) -> Response {
    match api.json::<HeadBody>(body, Route::RecordHead) {
        Ok(body) => ask(&api, &connected, Call::RecordHead(Box::new(body))).await,
        Err(response) => response,
    }
}

/// Notes that a repository does not contain what the cluster remembers.
#[cfg_attr(test, utoipa::path(post, path = "/v1/vault/forks", request_body = ForkBody, responses(
    (status = 400, description = "Can't be read", body = crate::api::Problem),
    (status = 403, description = "Neither node nor operator", body = crate::api::Problem),
    (status = 409, description = "`forked`: it is noted; `head-moved`: look again",
     body = crate::api::Problem),
    (status = 421, description = "Ask the coordinator", body = crate::api::call::Elsewhere),
)))]
pub(in crate::api) async fn fork(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
    body: ReadBody,
) -> Response {
    match api.json::<ForkBody>(body, Route::ReportFork) {
        Ok(body) => ask(&api, &connected, Call::ReportFork(body)).await,
        Err(response) => response,
    }
}
