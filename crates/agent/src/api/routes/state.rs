//! What can be read of the cluster.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use model::ResourceName;
use serde::Deserialize;

use super::ask;
use crate::api::call::{Call, Reply, Whose};
use crate::api::openapi;
use crate::api::router::{Api, Connected};

/// This description.
#[cfg_attr(test, utoipa::path(get, path = "/v1/openapi.json", responses(
    (status = 200, description = "OpenAPI 3.1"),
    (status = 403, description = "No certificate", body = crate::api::Problem),
)))]
pub(in crate::api) async fn open_api() -> Response {
    Reply::Json(openapi::document()).into_response()
}

/// Whose view is asked for.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub(crate) struct OfQuery {
    /// `coordinator`: a node that does not speak for the cluster says who does. Without it: as
    /// the node sees it that is asked.
    of: Option<Of>,
}

/// The one word that `of` takes.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
enum Of {
    Coordinator,
}

impl OfQuery {
    fn whose(&self) -> Whose {
        if self.of.is_some() { Whose::Coordinator } else { Whose::Own }
    }
}

/// Nodes, resources, instances, coordinator, as this node sees them.
#[cfg_attr(test, utoipa::path(get, path = "/v1/status", params(OfQuery), responses(
    (status = 200, description = "The state of the cluster"),
    (status = 403, description = "No certificate", body = crate::api::Problem),
    (status = 421, description = "Ask the coordinator", body = crate::api::call::Elsewhere),
)))]
pub(in crate::api) async fn status(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
    query: Result<Query<OfQuery>, QueryRejection>,
) -> Response {
    match query {
        Ok(Query(query)) => ask(&api, &connected, Call::Status(query.whose())).await,
        Err(error) => api.malformed(error),
    }
}

/// Why a resource is where it is, from the reasons in the log.
#[cfg_attr(test, utoipa::path(get, path = "/v1/explain/{resource}",
    params(("resource" = String, Path, description = "The resource"), OfQuery),
    responses(
        (status = 200, description = "The reasons, which node says them, and whether that one \
            speaks for the cluster"),
        (status = 421, description = "Ask the coordinator", body = crate::api::call::Elsewhere),
        (status = 403, description = "No certificate", body = crate::api::Problem),
        (status = 404, description = "No such resource", body = crate::api::Problem),
    )
))]
pub(in crate::api) async fn explain(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
    Path(resource): Path<String>,
    query: Result<Query<OfQuery>, QueryRejection>,
) -> Response {
    match (ResourceName::new(resource), query) {
        (Ok(resource), Ok(Query(query))) => {
            ask(&api, &connected, Call::Explain(resource, query.whose())).await
        }
        (Err(error), _) => api.malformed(error),
        (_, Err(error)) => api.malformed(error),
    }
}

/// The committed specification.
#[cfg_attr(test, utoipa::path(get, path = "/v1/spec", responses(
    (status = 200, description = "The specification and its revision"),
    (status = 403, description = "No certificate", body = crate::api::Problem),
)))]
pub(in crate::api) async fn spec(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
) -> Response {
    ask(&api, &connected, Call::Spec).await
}

/// Metrics in the OpenMetrics text format.
#[cfg_attr(test, utoipa::path(get, path = "/metrics", responses(
    (status = 200, description = "OpenMetrics text"),
    (status = 403, description = "No certificate", body = crate::api::Problem),
)))]
pub(in crate::api) async fn metrics(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
) -> Response {
    ask(&api, &connected, Call::Metrics).await
}

/// The control state at one index, as the text of a file that can be kept and imported.
#[cfg_attr(test, utoipa::path(get, path = "/v1/state", responses(
    (status = 200, description = "The file's text, as `file`"),
    (status = 403, description = "Not an operator", body = crate::api::Problem),
)))]
pub(in crate::api) async fn export(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
) -> Response {
    ask(&api, &connected, Call::State).await
}

/// Where this node's log stands, and the coordinator it knows.
#[cfg_attr(test, utoipa::path(get, path = "/v1/position", responses(
    (status = 200, description = "Generation, last term and index, commit index"),
    (status = 403, description = "No certificate", body = crate::api::Problem),
)))]
pub(in crate::api) async fn position(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
) -> Response {
    ask(&api, &connected, Call::Position).await
}
