//! What a bucket says of itself: whether it locks objects, and whether it keeps versions.
//! `object_store` has no calls for that, only what they are made of.

use super::protection::{Protection, YEAR_DAYS};
use http::{Method, StatusCode};
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{HttpClient, HttpConnector, HttpRequestBody, ReqwestConnector};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{ClientOptions, Error};
use serde::Deserialize;
use std::time::Duration;

/// The answer to `GET ?object-lock`.
#[derive(Deserialize)]
struct LockConfiguration {
    #[serde(rename = "Rule")]
    rule: Option<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(rename = "DefaultRetention")]
    retention: Option<Retention>,
}

#[derive(Deserialize)]
struct Retention {
    #[serde(rename = "Mode", default)]
    mode: String,
    #[serde(rename = "Days", default)]
    days: String,
    #[serde(rename = "Years", default)]
    years: String,
}

/// The answer to `GET ?versioning`.
#[derive(Deserialize)]
struct Versioning {
    #[serde(rename = "Status", default)]
    status: String,
}

/// Asks a bucket.
pub(super) async fn ask(bucket: &AmazonS3, region: &str) -> Result<Protection, Error> {
    let lock = match get(bucket, region, "object-lock").await? {
        (StatusCode::OK, text) => parse_lock(&text)?,
        (StatusCode::FORBIDDEN, _) => return Ok(Protection::Unknown),
        // None is configured, or the store knows no locks.
        _ => None,
    };
    if let Some(lock) = lock {
        return Ok(lock);
    }
    match get(bucket, region, "versioning").await? {
        (StatusCode::OK, text) => {
            let versioning: Versioning = quick_xml::de::from_str(&text).map_err(fault)?;
            // Suspended versioning loses what is overwritten.
            let keeps = versioning.status == "Enabled";
            Ok(if keeps { Protection::Versions } else { Protection::Nothing })
        }
        (StatusCode::FORBIDDEN, _) => Ok(Protection::Unknown),
        _ => Ok(Protection::Nothing),
    }
}

fn parse_lock(text: &str) -> Result<Option<Protection>, Error> {
    let found: LockConfiguration = quick_xml::de::from_str(text).map_err(fault)?;
    let Some(retention) = found.rule.and_then(|rule| rule.retention) else { return Ok(None) };
    // One of the two is told; the other is absent, empty or zero.
    let number = |text: &str| match text.trim() {
        "" => Ok(0),
        digits => digits.parse::<u32>().map_err(fault),
    };
    let years = number(&retention.years)?.saturating_mul(YEAR_DAYS);
    let days = number(&retention.days)?.saturating_add(years);
    Ok((days > 0).then_some(Protection::Locked { mode: retention.mode, days }))
}

fn fault(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: "S3", source: Box::new(source) }
}

/// How long the address of a bucket is good for, which only its host and path are taken from.
const ADDRESS_FOR: Duration = Duration::from_secs(60);
/// A name, to ask where objects are.
const SOME_NAME: &str = "x";

/// One signed request for a setting; transient failures are errors.
async fn get(
    bucket: &AmazonS3,
    region: &str,
    setting: &str,
) -> Result<(StatusCode, String), Error> {
    let object = bucket.signed_url(Method::GET, &Path::from(SOME_NAME), ADDRESS_FOR).await?;
    let object = object.as_str().split('?').next().unwrap_or_default();
    let address = object.strip_suffix(SOME_NAME).unwrap_or(object);
    let mut request = http::Request::get(format!("{address}?{setting}="))
        .body(HttpRequestBody::empty())
        .map_err(fault)?;
    let credential = bucket.credentials().get_credential().await?;
    AwsAuthorizer::new(&credential, "s3", region).authorize(&mut request, None);
    let options = ClientOptions::new().with_allow_http(address.starts_with("http://"));
    let client: HttpClient = ReqwestConnector::default().connect(&options)?;
    let answer = client.execute(request).await.map_err(fault)?;
    let status = answer.status();
    if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
        let what = format!("{status} to a question for its {setting}");
        return Err(fault(std::io::Error::other(what)));
    }
    let body = answer.into_body().bytes().await.map_err(fault)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<(&str, u32)>) {
        let expect = expect.map(|(mode, days)| Protection::Locked { mode: mode.to_owned(), days });
        assert_eq!(parse_lock(text).unwrap(), expect, "{text}");
    }

    #[test]
    fn a_default_retention_is_read_and_nothing_else_is_one() {
        let all = |rule: &str| {
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ObjectLockConfiguration \
                 xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><ObjectLockEnabled>Enabled\
                 </ObjectLockEnabled>{rule}</ObjectLockConfiguration>"
            )
        };
        let retention = |inner: &str| {
            all(&format!("<Rule><DefaultRetention>{inner}</DefaultRetention></Rule>"))
        };
        check(&all(""), None);
        check(&all("<Rule/>"), None);
        let days = retention("<Mode>COMPLIANCE</Mode><Days>30</Days>");
        check(&days, Some(("COMPLIANCE", 30)));
        let years = retention("<Years>2</Years><Mode>GOVERNANCE</Mode><Days></Days>");
        check(&years, Some(("GOVERNANCE", 730)));
        check(&retention("<Mode>GOVERNANCE</Mode><Days>0</Days>"), None);
        for text in ["", "no", &retention("<Mode>GOVERNANCE</Mode><Days>x</Days>")] {
            assert!(parse_lock(text).is_err(), "{text}");
        }
    }
}
