//! The cluster's authority: who issues, who is believed, a rotation under way.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;

use super::ask;
use crate::api::access::Route;
#[cfg(test)]
use crate::api::call::BeginRotation;
use crate::api::call::Call;
use crate::api::router::{Api, Connected, ReadBody};

/// Authorities, who has a certificate of which, a rotation under way, people known and refused.
#[cfg_attr(test, utoipa::path(get, path = "/v1/authority", responses(
    (status = 200, description = "The authorities and who rests on which"),
    (status = 403, description = "No certificate", body = crate::api::Problem),
    (status = 421, description = "Ask the coordinator", body = crate::api::call::Elsewhere),
)))]
pub(in crate::api) async fn show(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
) -> Response {
    ask(&api, &connected, Call::Authority).await
}

/// Makes a new authority and lets everybody believe it beside the present one. The further steps
/// are operations.
#[cfg_attr(test, utoipa::path(post, path = "/v1/authority", request_body = BeginRotation,
    responses(
        (status = 200, description = "Begun: the new authority's fingerprint"),
        (status = 403, description = "Not an operator", body = crate::api::Problem),
        (status = 409, description = "One is under way", body = crate::api::Problem),
        (status = 421, description = "Ask the coordinator", body = crate::api::call::Elsewhere),
        (status = 503, description = "This node can't issue", body = crate::api::Problem),
    )
))]
pub(in crate::api) async fn begin(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
    body: ReadBody,
) -> Response {
    match api.json(body, Route::BeginRotation) {
        Ok(begin) => ask(&api, &connected, Call::BeginRotation(begin)).await,
        Err(response) => response,
    }
}
