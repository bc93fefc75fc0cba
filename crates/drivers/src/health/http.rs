//! An HTTP GET answers with a status of 200 to 299.
//!
//! Plain HTTP, one request per connection. Only the head of the answer is read, through `hyper`;
//! the body is not.

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Largest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 16_384;
/// The port of `http://` where none is named.
const PORT: u16 = 80;

/// Asks for a URL. The caller bounds the time.
///
/// # Errors
/// A sentence for the operator.
pub async fn probe_http(url: &str) -> Result<(), String> {
    let uri: hyper::Uri = url.parse().map_err(|e| format!("{url} is no URL: {e}"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("{url}: only http:// is asked"));
    }
    let authority = uri.authority().ok_or_else(|| format!("{url} names no host"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(PORT);
    let failed = |what: &str, error: &dyn std::error::Error| format!("{url}: {what}: {error}");
    let stream = TcpStream::connect((host, port)).await.map_err(|e| failed("no connection", &e))?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|e| failed("no connection", &e))?;
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let request = Request::get(path)
        .header(hyper::header::HOST, authority.as_str())
        .header(hyper::header::USER_AGENT, "backstay")
        .header(hyper::header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|e| failed("no request", &e))?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    // The connection does the work of the request; the answer may be there when it ends.
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => return Err(failed("no answer", &error)),
        },
    };
    match answer {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("{url} answered {}", answer.status())),
        Err(error) => Err(failed("no answer", &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(answer: Vec<u8>) -> Result<(), String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/livez?x=1", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0u8; 1_024];
            let len = stream.read(&mut head).await.unwrap();
            // The asker may hang up once it knows enough.
            drop(stream.write_all(&answer).await);
            String::from_utf8_lossy(&head[..len]).into_owned()
        });
        let result = probe_http(&url).await;
        let head = server.await.unwrap();
        assert!(head.starts_with("GET /livez?x=1 HTTP/1.1\r\n"), "{head}");
        result
    }

    #[tokio::test]
    async fn only_a_status_of_200_to_299_passes() {
        let answer = |line: &str| format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n");
        for line in ["200 OK", "204 No Content", "299 Fine"] {
            assert_eq!(ask(answer(line).into()).await, Ok(()), "{line}");
        }
        for line in ["199 Early", "302 Found", "404 Not Found", "503 Unavailable"] {
            assert!(ask(answer(line).into()).await.is_err(), "{line}");
        }
    }

    #[tokio::test]
    async fn garbage_silence_and_endless_heads_fail() {
        assert!(ask(b"220 mail.example ESMTP\r\n".to_vec()).await.is_err());
        assert!(ask(Vec::new()).await.is_err());
        let mut endless = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
        endless.extend(vec![b'y'; 4 * HEAD_BYTES_MAX]);
        assert!(ask(endless).await.is_err());
        assert!(probe_http("https://127.0.0.1/").await.is_err());
        assert!(probe_http("not a url").await.is_err());
    }
}
