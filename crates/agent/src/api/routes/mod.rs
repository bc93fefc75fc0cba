//! The handlers: each reads its request, makes a [`Call`](super::Call) of it and passes the reply
//! on. Their `utoipa` attributes are the API's description.

pub mod authority;
pub mod change;
pub mod events;
pub mod health;
pub mod membership;
pub mod state;
pub mod vault;

use std::sync::Arc;

use axum::response::{IntoResponse, Response};

use super::call::Call;
use super::router::{Api, Connected};

/// Asks the backend.
async fn ask(api: &Arc<Api>, connected: &Connected, call: Call) -> Response {
    api.backend.call(connected.caller(&api.tls), call).await.into_response()
}
