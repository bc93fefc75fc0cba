//! The API's description (OpenAPI). Handlers and bodies describe themselves to utoipa; a test makes
//! the document of them and fails unless `crates/agent/openapi.json` is that document, so that a
//! build pays nothing for it.

use serde_json::Value;

/// The document, as text.
pub const TEXT: &str = include_str!("../../openapi.json");

/// The document.
///
/// # Panics
/// Never: a test has read it.
#[must_use]
pub fn document() -> Value {
    serde_json::from_str(TEXT).expect("the description is JSON")
}

#[cfg(test)]
mod tests {
    use super::TEXT;
    use crate::api::call::{
        BeginRotation, CreateToken, Elsewhere, ForkBody, HeadBody, Issued, JoinBody, Problem,
        RejoinBody, RenewBody,
    };
    use crate::api::routes::{authority, change, events, health, membership, state, vault};
    use utoipa::OpenApi;

    #[derive(OpenApi)]
    #[openapi(
        info(
            title = "Backstay",
            description = "HTTP/1.1 over TLS 1.3 on every node. A client certificate decides what \
                           may be called. Any node answers; writes go to the coordinator (421 \
                           names it)."
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
            vault::look,
            vault::record,
            vault::fork,
            change::operate,
            change::apply,
            membership::create_token,
            membership::join,
            membership::rejoin,
            membership::renew,
            authority::show,
            authority::begin,
        ),
        components(schemas(
            BeginRotation,
            CreateToken,
            Elsewhere,
            ForkBody,
            HeadBody,
            Issued,
            JoinBody,
            Problem,
            RejoinBody,
            RenewBody
        ))
    )]
    struct Description;

    /// `BACKSTAY_WRITE_OPENAPI=1` writes the file that this test compares.
    #[test]
    fn the_kept_description_is_that_of_the_handlers() {
        let made = Description::openapi().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("BACKSTAY_WRITE_OPENAPI").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
            std::fs::write(path, &made).unwrap();
            return;
        }
        assert!(
            TEXT == made,
            "a handler changed: BACKSTAY_WRITE_OPENAPI=1 cargo test -p backstay-agent --lib \
             openapi writes crates/agent/openapi.json anew"
        );
    }
}
