//! Turns a stream into a `redis` connection and distinguishes all possible failures.
//!
//! This module performs the handshake itself. The `redis` crate reports a wrong password, a missing
//! one and a loading server alike. Routing by slot is in [`cluster_client`](super::cluster_client).
//! [`cluster_client`](super::cluster_client)).

use std::io;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, ServerErrorKind, Value};
use tokio::io::{AsyncRead, AsyncWrite};

use super::dialer::Dialer;
use secret::{Password, Passwords};

/// A connection that any number of tasks may share. Clone it freely.
pub type Connection = MultiplexedConnection;

/// Time limit for dialling and the handshake together. Port-forwarding through a busy API server
/// takes tens of milliseconds. A server that is silent for this long is stopped or unreachable.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit for one answer. Longer than any command of the harness needs, and shorter than the
/// time that people wait.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The reason why there is no usable connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens on the port.
    #[error("connection refused")]
    Refused(#[source] io::Error),
    /// The stream ended before the handshake was over.
    #[error("connection closed during the handshake")]
    Closed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The stream could not be opened at all.
    #[error("stream to the pod could not be opened")]
    Dial(#[source] io::Error),
    /// The server wants a password and none was given.
    #[error("the server requires a password and none was given (NOAUTH)")]
    NoAuth,
    /// The server rejects this password.
    #[error("the server rejected the password (WRONGPASS)")]
    WrongPass,
    /// A password was given, but the server has none.
    #[error("a password was given, but the server has none configured")]
    NoPasswordSet,
    /// The server is loading its dataset.
    #[error("the server is loading its dataset (LOADING)")]
    Loading,
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer is not one that Valkey gives.
    #[error("unexpected answer to the handshake: {0}")]
    Protocol(String),
}

/// Makes a connection of `stream`: authenticates, and proves with a PING that commands are served.
/// Spawns a task that drives the connection.
///
/// # Errors
/// See [`ConnectError`]. The whole handshake is bounded by [`CONNECT_TIMEOUT`], each later answer
/// by [`RESPONSE_TIMEOUT`].
pub async fn connect<S>(stream: S, password: Option<&Password>) -> Result<Connection, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    connect_within(stream, password, CONNECT_TIMEOUT).await
}

/// Connects like [`connect`], with another time limit for the handshake.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect_within<S>(
    stream: S,
    password: Option<&Password>,
    limit: Duration,
) -> Result<Connection, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match tokio::time::timeout(limit, handshake(stream, password)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(ConnectError::Timeout(limit)),
    }
}

/// Dials `pod` and connects.
///
/// # Errors
/// As [`connect`], and [`ConnectError::Refused`] or [`ConnectError::Dial`] when no stream could be
/// opened.
pub async fn dial_and_connect(
    dialer: &dyn Dialer,
    pod: &str,
    password: Option<&Password>,
) -> Result<Connection, ConnectError> {
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, dialer.dial(pod)).await {
        Err(_elapsed) => return Err(ConnectError::Timeout(CONNECT_TIMEOUT)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(ConnectError::Refused(error));
        }
        Ok(Err(error)) => return Err(ConnectError::Dial(error)),
        Ok(Ok(stream)) => stream,
    };
    connect(stream, password).await
}

/// Dials `pod` and connects with the first of `passwords` that it accepts.
///
/// # Errors
/// As [`dial_and_connect`]; the last refusal when none is accepted.
pub async fn dial_with_any(
    dialer: &dyn Dialer,
    pod: &str,
    passwords: &Passwords,
) -> Result<Connection, ConnectError> {
    let mut refusal = ConnectError::NoAuth;
    for password in passwords.candidates() {
        match dial_and_connect(dialer, pod, password).await {
            Err(error @ (ConnectError::NoAuth | ConnectError::WrongPass)) => refusal = error,
            settled => return settled,
        }
    }
    Err(refusal)
}

async fn handshake<S>(stream: S, password: Option<&Password>) -> Result<Connection, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // The crate itself sends nothing, no AUTH and no CLIENT SETINFO, so ours is the first command.
    let info = RedisConnectionInfo::default().set_skip_set_lib_name();
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
    let (mut connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
        .await
        .map_err(|error| classify(&error))?;
    tokio::spawn(driver);
    let mut greeting = redis::pipe();
    if let Some(password) = password {
        greeting.cmd("AUTH").arg(password.expose());
    }
    greeting.cmd("PING");
    let count = greeting.len();
    let answers = connection
        .send_packed_commands(&greeting, 0, count)
        .await
        .map_err(|error| classify(&error))?;
    for answer in answers {
        match answer {
            // A server that cannot write to its disk refuses PING like a write, but answers every
            // query.
            Value::ServerError(error) if error.code() == "MISCONF" => {}
            Value::ServerError(error) => return Err(classify(&error.into())),
            Value::Okay => {}
            Value::SimpleString(text) if text == "PONG" => {}
            other => return Err(ConnectError::Protocol(format!("{other:?}"))),
        }
    }
    Ok(connection)
}

/// Distinguishes errors that the `redis` crate reports as one kind.
fn classify(error: &RedisError) -> ConnectError {
    match error.code() {
        Some("NOAUTH") => return ConnectError::NoAuth,
        Some("WRONGPASS") => return ConnectError::WrongPass,
        _ => {}
    }
    let detail = error.detail().unwrap_or_default();
    if error.kind() == redis::ErrorKind::Server(ServerErrorKind::BusyLoading) {
        ConnectError::Loading
    } else if detail.contains("without any password configured") {
        ConnectError::NoPasswordSet
    } else if error.is_connection_refusal() {
        ConnectError::Refused(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            error.to_string(),
        ))
    } else if error.is_timeout() {
        ConnectError::Timeout(RESPONSE_TIMEOUT)
    } else if error.is_io_error() || error.is_connection_dropped() {
        ConnectError::Closed(Box::new(error.clone()))
    } else {
        ConnectError::Protocol(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SILENCE: &str = "(silence)";

    /// Connects to a server that answers every handshake with `answer`, and then closes.
    async fn against(answer: &'static str, password: Option<&str>) -> Result<Connection, ConnectError> {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let server = async move {
            let mut question = [0; 512];
            let _ = theirs.read(&mut question).await;
            if answer == SILENCE {
                std::future::pending::<()>().await;
            }
            let _ = theirs.write_all(answer.as_bytes()).await;
        };
        tokio::spawn(server);
        let password = password.map(Password::new);
        connect_within(ours, password.as_ref(), Duration::from_millis(200)).await
    }

    #[tokio::test]
    async fn every_way_to_be_refused_is_told_apart() {
        let noauth = against("-NOAUTH Authentication required.\r\n", None).await;
        assert!(matches!(noauth, Err(ConnectError::NoAuth)), "{noauth:?}");
        let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n-NOAUTH Authentication required.\r\n";
        let wrong = against(wrong, Some("x")).await;
        assert!(matches!(wrong, Err(ConnectError::WrongPass)), "{wrong:?}");
        let none = "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?\r\n+PONG\r\n";
        let none = against(none, Some("x")).await;
        assert!(matches!(none, Err(ConnectError::NoPasswordSet)), "{none:?}");
        let loading = against("-LOADING Valkey is loading the dataset in memory\r\n", None).await;
        assert!(matches!(loading, Err(ConnectError::Loading)), "{loading:?}");
        let closed = against("", None).await;
        assert!(matches!(closed, Err(ConnectError::Closed(_))), "{closed:?}");
        let protocol = against("+HELLO\r\n", None).await;
        assert!(matches!(protocol, Err(ConnectError::Protocol(_))), "{protocol:?}");
        let http = against("HTTP/1.1 400 Bad Request\r\n\r\n", None).await;
        assert!(
            matches!(http, Err(ConnectError::Protocol(_) | ConnectError::Closed(_))),
            "{http:?}"
        );
    }

    #[tokio::test]
    async fn a_server_that_cannot_write_to_its_disk_can_be_asked_why() {
        let full = "-MISCONF Errors writing to the AOF file: No space left on device\r\n";
        let full = against(full, None).await;
        assert!(full.is_ok(), "{full:?}");
    }

    #[tokio::test]
    async fn silence_is_a_timeout() {
        let silence = against(SILENCE, None).await;
        assert!(matches!(silence, Err(ConnectError::Timeout(_))), "{silence:?}");
    }
}
