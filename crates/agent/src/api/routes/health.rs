//! What load balancers, supervisors and orchestrators ask, without a certificate.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use model::ResourceName;

use super::ask;
use crate::api::call::Call;
use crate::api::router::{Api, Connected};

/// The process runs and its event loop answers.
#[cfg_attr(test, utoipa::path(get, path = "/livez", responses(
    (status = 200, description = "It lives"),
    (status = 503, description = "It has stopped itself"),
)))]
pub(in crate::api) async fn live(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
) -> Response {
    ask(&api, &connected, Call::Live).await
}

/// The node has joined and hears a coordinator.
#[cfg_attr(test, utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "It takes part"),
    (status = 503, description = "It does not, with the reason"),
)))]
pub(in crate::api) async fn ready(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
) -> Response {
    ask(&api, &connected, Call::Ready).await
}

/// Whether the active instance of a resource is on this node and covered by a lease.
#[cfg_attr(test, utoipa::path(get, path = "/resources/{name}/active",
    params(("name" = String, Path, description = "The resource")),
    responses(
        (status = 200, description = "It is active here: send traffic"),
        (status = 503, description = "It is not: don't"),
        (status = 400, description = "No name of a resource", body = crate::api::Problem),
    )
))]
pub(in crate::api) async fn active(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
    Path(name): Path<String>,
) -> Response {
    match ResourceName::new(name) {
        Ok(name) => ask(&api, &connected, Call::Active(name)).await,
        Err(error) => api.malformed(error),
    }
}
