//! What happened, from a number on; the answer can wait for the next event (long poll).

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::ask;
use crate::api::call::Call;
use crate::api::router::{Api, Connected};

/// Most events in one answer.
pub const LIMIT_MAX: usize = 1_000;
/// Longest wait for the next event, in milliseconds; below the time limit of a call.
pub const WAIT_MAX_MS: u64 = 20_000;

/// Which events.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    /// Those with a larger number; 0 for all that are kept.
    #[serde(default)]
    after: u64,
    /// At most so many; 1,000 at most.
    limit: Option<usize>,
    /// Where there is none yet, wait so long for one, in milliseconds; 20,000 at most.
    #[serde(default)]
    wait_ms: u64,
}

/// What happened, oldest first.
#[cfg_attr(test, utoipa::path(get, path = "/v1/events", params(EventsQuery), responses(
    (status = 200, description = "The events; none where the wait ended without one"),
    (status = 400, description = "A parameter can't be read", body = crate::api::Problem),
    (status = 403, description = "No certificate", body = crate::api::Problem),
)))]
pub(in crate::api) async fn events(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Response {
    let Query(query) = match query {
        Ok(query) => query,
        Err(rejection) => return api.malformed(rejection.body_text()),
    };
    let call = Call::Events {
        after: query.after,
        limit: query.limit.unwrap_or(LIMIT_MAX).min(LIMIT_MAX),
        wait: Duration::from_millis(query.wait_ms.min(WAIT_MAX_MS)),
    };
    ask(&api, &connected, call).await
}
