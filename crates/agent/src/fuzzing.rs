//! What fuzz targets need of readers that no other crate calls. Nothing else calls it.

use config::measurement::NodeMeasurement;

use crate::api::access::Route;
use crate::api::call::{CreateToken, ForkBody, HeadBody, JoinBody, RejoinBody, RenewBody};
use crate::node;

/// A join token's text with this content, whatever it is, and the checksum that fits it.
#[must_use]
pub fn token_text(content: &[u8]) -> String {
    crate::identity::token::text_of(content)
}

/// Reads a body of a call as its handler does. Whether it is one.
#[must_use]
pub fn body(route: Route, bytes: &[u8]) -> bool {
    use crate::api::routes::membership as of;
    match route {
        Route::CreateToken => serde_json::from_slice::<CreateToken>(bytes).is_ok(),
        Route::Join => {
            serde_json::from_slice::<JoinBody>(bytes).is_ok_and(|body| of::read_join(&body).is_ok())
        }
        Route::Rejoin => serde_json::from_slice::<RejoinBody>(bytes)
            .is_ok_and(|body| of::read_bytes("the datagram key", &body.datagram_key).is_ok()),
        Route::Renew => serde_json::from_slice::<RenewBody>(bytes)
            .is_ok_and(|body| crate::identity::CertificateRequest::from_pem(&body.request).is_ok()),
        Route::RecordHead => serde_json::from_slice::<HeadBody>(bytes).is_ok(),
        Route::ReportFork => serde_json::from_slice::<ForkBody>(bytes).is_ok(),
        _ => serde_json::from_slice::<serde_json::Value>(bytes).is_ok(),
    }
}

/// Reads the query of a call for events. Whether it is one.
#[must_use]
pub fn events_query(query: &str) -> bool {
    use axum::extract::Query;
    let uri: Result<axum::http::Uri, _> = format!("/v1/events?{query}").parse();
    uri.is_ok_and(|uri| {
        Query::<crate::api::routes::events::EventsQuery>::try_from_uri(&uri).is_ok()
    })
}

/// Reads a datagram of a measurement in every way in which one is read.
#[must_use]
pub fn measured(datagram: &[u8]) -> Option<NodeMeasurement> {
    node::measure::measured(datagram)
}
