//! The API's description (OpenAPI), made from the handlers.

use serde_json::Value;
use utoipa::OpenApi;

use super::call::{CreateToken, Elsewhere, Issued, JoinBody, Problem, RejoinBody, RenewBody};
use super::routes::{change, events, health, membership, state};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Backstay",
        description = "HTTP/1.1 over TLS 1.3 on every node. A client certificate decides what may \
                       be called. Any node answers; writes go to the coordinator (421 names it)."
    ),
    paths(
        health::live,
        health::ready,
        health::active,
        state::open_api,
        state::status,
        state::explain,
        events::events,
        state::spec,
        state::metrics,
        state::export,
        state::position,
        change::operate,
        change::apply,
        membership::create_token,
        membership::join,
        membership::rejoin,
        membership::renew,
    ),
    components(schemas(CreateToken, Elsewhere, Issued, JoinBody, Problem, RejoinBody, RenewBody))
)]
struct Description;

/// The document.
///
/// # Panics
/// Never: it is made of what the compiler has seen.
#[must_use]
pub fn document() -> Value {
    serde_json::to_value(Description::openapi()).expect("the description can be encoded")
}
