//! A TCP connection succeeds.

use tokio::net::TcpStream;

/// Connects to `host:port` and hangs up. The caller bounds the time.
///
/// # Errors
/// A sentence for the operator.
pub async fn probe_tcp(target: &str) -> Result<(), String> {
    match TcpStream::connect(target).await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("no TCP connection to {target}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_passes_while_somebody_listens() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        assert_eq!(probe_tcp(&target).await, Ok(()));
        drop(listener);
        let failure = probe_tcp(&target).await.unwrap_err();
        assert!(failure.contains(&target), "{failure}");
    }
}
