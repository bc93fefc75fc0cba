//! Tokens, joining, renewing.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use data_encoding::HEXLOWER;
use model::NodeName;

use super::ask;
use crate::api::access::Route;
use crate::api::call::{Call, Join, JoinBody, RejoinBody, RenewBody, Renewal};
use crate::api::router::{Api, Connected, ReadBody};
use crate::identity::{CertificateRequest, DatagramPublicKey};

/// A new join token. It is shown once; the cluster keeps a hash.
#[cfg_attr(test, utoipa::path(post, path = "/v1/tokens",
    request_body = crate::api::call::CreateToken, responses(
    (status = 200, description = "The token's text"),
    (status = 403, description = "Not an operator", body = crate::api::Problem),
    (status = 421, description = "Ask the coordinator", body = crate::api::call::Elsewhere),
)))]
pub(in crate::api) async fn create_token(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
    body: ReadBody,
) -> Response {
    match api.json(body, Route::CreateToken) {
        Ok(token) => ask(&api, &connected, Call::CreateToken(token)).await,
        Err(response) => response,
    }
}

/// Joins with a token: the only way to a first certificate.
#[cfg_attr(test, utoipa::path(post, path = "/v1/join", request_body = JoinBody, responses(
    (status = 200, description = "Joined", body = crate::api::call::Issued),
    (status = 400, description = "Can't be read", body = crate::api::Problem),
    (status = 403, description = "The token is not good for this", body = crate::api::Problem),
    (status = 421, description = "Ask the coordinator", body = crate::api::call::Elsewhere),
)))]
pub(in crate::api) async fn join(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
    body: ReadBody,
) -> Response {
    match api.json(body, Route::Join) {
        Ok(body) => match read_join(&body) {
            Ok(join) => ask(&api, &connected, Call::Join(Box::new(join))).await,
            Err(detail) => api.malformed(detail),
        },
        Err(response) => response,
    }
}

pub(crate) fn read_bytes(what: &str, text: &str) -> Result<[u8; 32], String> {
    let decoded = HEXLOWER.decode(text.as_bytes()).ok();
    decoded
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .ok_or_else(|| format!("{what} has not 64 digits, 0-9 and a-f"))
}

pub(crate) fn read_join(body: &JoinBody) -> Result<Join, String> {
    let datagram_key = match &body.datagram_key {
        Some(text) => Some(DatagramPublicKey(read_bytes("the datagram key", text)?)),
        None => None,
    };
    Ok(Join {
        secret: read_bytes("the secret", &body.secret)?,
        name: NodeName::new(body.name.as_str()).map_err(|error| error.to_string())?,
        request: CertificateRequest::from_pem(&body.request).map_err(|e| e.to_string())?,
        datagram_key,
    })
}

/// Comes back as a new incarnation: a node that lost its disk and kept its certificate.
#[cfg_attr(test, utoipa::path(post, path = "/v1/rejoin", request_body = RejoinBody, responses(
    (status = 200, description = "Its new replica id"),
    (status = 400, description = "Can't be read", body = crate::api::Problem),
    (status = 403, description = "Not a node", body = crate::api::Problem),
    (status = 421, description = "Ask the coordinator", body = crate::api::call::Elsewhere),
)))]
pub(in crate::api) async fn rejoin(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
    body: ReadBody,
) -> Response {
    let body: RejoinBody = match api.json(body, Route::Rejoin) {
        Ok(body) => body,
        Err(response) => return response,
    };
    match read_bytes("the datagram key", &body.datagram_key) {
        Ok(key) => ask(&api, &connected, Call::Rejoin(DatagramPublicKey(key))).await,
        Err(detail) => api.malformed(detail),
    }
}

/// The next certificate for whoever shows one, even one that has run out.
#[cfg_attr(test, utoipa::path(post, path = "/v1/renew", request_body = RenewBody, responses(
    (status = 200, description = "Renewed", body = crate::api::call::Issued),
    (status = 400, description = "Can't be read", body = crate::api::Problem),
    (status = 403, description = "No certificate, or removed", body = crate::api::Problem),
    (status = 421, description = "Ask the coordinator", body = crate::api::call::Elsewhere),
)))]
pub(in crate::api) async fn renew(
    State(api): State<Arc<Api>>,
    Extension(connected): Extension<Connected>,
    body: ReadBody,
) -> Response {
    let body: RenewBody = match api.json(body, Route::Renew) {
        Ok(body) => body,
        Err(response) => return response,
    };
    match CertificateRequest::from_pem(&body.request) {
        Ok(request) => {
            ask(&api, &connected, Call::Renew(Box::new(Renewal { request, body }))).await
        }
        Err(error) => api.malformed(error),
    }
}
