//! What a gateway says of itself over its admin door.

use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use remotemedia_core::launching::{LaunchOrder, LaunchRefusal, Rollout};
use remotemedia_core::token::Token;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// The longest answer: forty workers with a hundred nodes each are far below.
const MAX_ANSWER_BYTES: usize = 4 * 1_024 * 1_024;
/// How long an answer may take. The gateway answers from memory.
const DEADLINE: Duration = Duration::from_secs(5);

/// The file in a runtime directory that says where its gateway serves.
pub const GATEWAY_FILE: &str = "gateway.json";

/// Where a gateway serves: what it prints when it does, and writes to [`GATEWAY_FILE`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Serving {
    /// `HOST:PORT`, or `unix:PATH`.
    pub grpc: String,
    /// `HOST:PORT`, or `unix:PATH`.
    pub admin: String,
    /// The gateway's process id.
    pub pid: u32,
    /// How long it may take to stop, in milliseconds, but for a second or two; none if it does not say.
    #[serde(default)]
    pub drain_ms: Option<u64>,
}

/// The admin door of one gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminDoor {
    /// `HOST:PORT`
    Tcp(String),
    /// A unix socket.
    Unix(PathBuf),
}

/// The answer to `/status`, as far as this program uses it.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Status {
    /// The gateway itself.
    pub gateway: GatewayStatus,
    /// The workers that have registered.
    pub workers: Vec<WorkerStatus>,
    /// The memory that frames live in.
    pub frame_pools: Vec<FramePoolStatus>,
    /// The sessions that run.
    pub sessions: Vec<SessionStatus>,
    /// The latest death of each worker's name.
    #[serde(default)]
    pub losses: Vec<LossStatus>,
    /// Times that work whose worker died was given to another.
    #[serde(default)]
    pub replays: u64,
    /// Times that work was given up because it had killed too many workers.
    #[serde(default)]
    pub poisons: u64,
    /// The workers that are not started for a while.
    #[serde(default)]
    pub quarantines: Vec<QuarantineStatus>,
    /// How far the launcher is, or came last, in replacing workers.
    #[serde(default)]
    pub restart: Option<Rollout>,
}

/// The gateway itself.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct GatewayStatus {
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: f64,
    /// Where clients reach it.
    pub grpc: String,
}

/// One worker.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct WorkerStatus {
    /// Its process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its pool's kind.
    pub kind: String,
    /// What it does.
    pub state: String,
    /// What it loads, if it is loading.
    #[serde(default)]
    pub step: Option<String>,
    /// Sessions that have a node in it.
    pub sessions: u64,
    /// How often a process of this name was replaced.
    pub restarts: u64,
    /// The node types that it offers.
    #[serde(default)]
    pub nodes: Vec<String>,
}

/// The latest death of a worker of some name.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct LossStatus {
    /// The name.
    pub worker: String,
    /// Which process it was.
    pub pid: u32,
    /// How it ended, in words.
    pub cause: String,
    /// Whether it had loaded.
    pub ready: bool,
    /// How many of this name have died.
    pub deaths: u64,
    /// What it wrote last to its standard error.
    pub last_lines: Vec<String>,
}

/// A worker that keeps dying, and is not started for a while.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct QuarantineStatus {
    /// Its name.
    pub worker: String,
    /// How often it has died in a row.
    pub deaths: u64,
    /// How it died last, in words.
    pub cause: String,
    /// How long until it is tried again, in seconds.
    pub left_s: f64,
    /// Why, in words.
    pub reason: String,
    /// The command that ends it.
    pub remedy: String,
}

/// What became of an order that was not done.
#[derive(Debug, Deserialize)]
struct Undone {
    message: String,
    #[serde(default)]
    refusal: Option<LaunchRefusal>,
}

/// One frame pool.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct FramePoolStatus {
    /// Its number.
    pub id: u64,
    /// The process that fills it.
    pub owner: String,
    /// Its size.
    pub bytes: u64,
    /// Bytes of the blocks that somebody holds.
    #[serde(default)]
    pub bytes_in_use: u64,
    /// Its blocks.
    pub blocks: u64,
    /// Those of them that somebody holds.
    pub blocks_in_use: u64,
    /// Whether its owner lives.
    pub state: String,
}

/// One session.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct SessionStatus {
    /// Its name.
    pub id: String,
    /// What people call its pipeline.
    pub pipeline: String,
    /// What it does.
    pub state: String,
    /// Seconds since it was opened.
    pub age_s: f64,
    /// The workers that run its nodes.
    pub workers: Vec<String>,
}

/// The gateway did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody is there.
    #[error("no gateway answers at {door}: {source}")]
    Connect {
        /// Where it was tried.
        door: AdminDoor,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("the gateway's admin door at {door} broke off: {source}")]
    Http {
        /// Where it was tried.
        door: AdminDoor,
        /// What went wrong.
        source: hyper::Error,
    },
    /// It said no.
    #[error("the gateway's admin door at {door} answered {status} to {path}")]
    Refused {
        /// Where it was tried.
        door: AdminDoor,
        /// What was asked.
        path: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// It does not take an order.
    #[error("the gateway's admin door at {door} takes no order: {message}")]
    NoOrder {
        /// Where it was tried.
        door: AdminDoor,
        /// In its words.
        message: String,
    },
    /// The launcher does not do it.
    #[error(transparent)]
    Launcher(LaunchRefusal),
    /// It said something else.
    #[error("the gateway's admin door at {door} answered {path} with something unexpected: {problem}")]
    Answer {
        /// Where it was tried.
        door: AdminDoor,
        /// What was asked.
        path: &'static str,
        /// What is wrong with the answer.
        problem: String,
    },
    /// It said nothing.
    #[error("the gateway's admin door at {door} did not answer within {} s", DEADLINE.as_secs())]
    Late {
        /// Where it was tried.
        door: AdminDoor,
    },
}

// === impl AdminDoor ===

impl AdminDoor {
    /// The door at `HOST:PORT` or `unix:PATH`.
    #[must_use]
    pub fn at(address: &str) -> Self {
        match address.strip_prefix("unix:") {
            Some(path) => Self::Unix(path.trim_start_matches("//").into()),
            None => Self::Tcp(address.to_owned()),
        }
    }

    /// Asks for `/status`.
    ///
    /// # Errors
    /// The gateway did not answer, or not so.
    pub async fn status(&self) -> Result<Status, AdminError> {
        self.get_json("/status").await
    }

    /// Asks for the JSON document at `path`.
    ///
    /// # Errors
    /// The gateway did not answer, or not with such a document.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &'static str) -> Result<T, AdminError> {
        let (status, answer) = self.exchange(Question { path, order: None, token: None }).await?;
        if !status.is_success() {
            return Err(AdminError::Refused { door: self.clone(), path, status: status.as_u16() });
        }
        serde_json::from_slice(&answer).map_err(|error| self.unexpected(path, &error))
    }

    /// Has the gateway pass an order on to the launcher of its workers, who does it, or begins to.
    ///
    /// # Errors
    /// The gateway did not answer, or the launcher refused, or there is none.
    pub async fn order(&self, order: &LaunchOrder, token: Option<&Token>) -> Result<(), AdminError> {
        let path = "/launcher";
        let body = serde_json::to_vec(order).map_err(|error| self.unexpected(path, &error))?;
        let (status, answer) = self.exchange(Question { path, order: Some(body), token }).await?;
        if status.is_success() {
            return Ok(());
        }
        let undone = serde_json::from_slice(&answer).map_err(|error| self.unexpected(path, &error))?;
        Err(match undone {
            Undone { refusal: Some(refusal), .. } => AdminError::Launcher(refusal),
            Undone { message, refusal: None } => AdminError::NoOrder { door: self.clone(), message },
        })
    }

    async fn exchange(&self, question: Question<'_>) -> Result<(StatusCode, Bytes), AdminError> {
        let connect = |source| AdminError::Connect { door: self.clone(), source };
        let exchange = async {
            match self {
                Self::Tcp(address) => {
                    self.ask(TcpStream::connect(address).await.map_err(connect)?, question).await
                }
                Self::Unix(socket) => {
                    self.ask(UnixStream::connect(socket).await.map_err(connect)?, question).await
                }
            }
        };
        let answer = tokio::time::timeout(DEADLINE, exchange).await;
        answer.map_err(|_elapsed| AdminError::Late { door: self.clone() })?
    }

    async fn ask<S>(&self, stream: S, question: Question<'_>) -> Result<(StatusCode, Bytes), AdminError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let path = question.path;
        let http = |source| AdminError::Http { door: self.clone(), source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let request = question.into_request().map_err(|problem| self.unexpected(path, &problem))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(http)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes);
            body.map(|body| (status, body)).map_err(|error| self.body_error(path, error))
        };
        // The connection does the work for the exchange, and may end before it with the last bytes read.
        tokio::pin!(exchange, connection);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(http(error)),
            },
        }
    }

    fn body_error(&self, path: &'static str, error: Box<dyn std::error::Error + Send + Sync>) -> AdminError {
        match error.downcast::<hyper::Error>() {
            Ok(source) => AdminError::Http { door: self.clone(), source: *source },
            Err(error) if error.is::<LengthLimitError>() => {
                self.unexpected(path, &format_args!("more than {MAX_ANSWER_BYTES} bytes"))
            }
            Err(error) => self.unexpected(path, &error),
        }
    }

    fn unexpected(&self, path: &'static str, problem: &dyn fmt::Display) -> AdminError {
        AdminError::Answer { door: self.clone(), path, problem: problem.to_string() }
    }
}

/// What the door is asked.
struct Question<'a> {
    path: &'static str,
    /// An order as JSON; none to be told something.
    order: Option<Vec<u8>>,
    token: Option<&'a Token>,
}

// === impl Question ===

impl Question<'_> {
    fn into_request(self) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let method = if self.order.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::builder().method(method).uri(self.path).header("host", "gateway");
        if let Some(token) = self.token {
            request = request.header("authorization", format!("Bearer {}", token.secret()));
        }
        request.body(Full::from(self.order.unwrap_or_default()))
    }
}

impl fmt::Display for AdminDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with these bytes, then closes.
    async fn door(answer: &'static str) -> AdminDoor {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _from) = listener.accept().await.unwrap();
            let mut request = [0; 1_024];
            let _count = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        AdminDoor::at(&address)
    }

    #[tokio::test]
    async fn a_status_is_read_and_unknown_fields_are_left_alone() {
        let status = door(concat!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
            r#"{"gateway":{"pid":7,"version":"0.1.0","uptime_s":1.5,"grpc":"127.0.0.1:1","new":1},"#,
            r#""workers":[{"pid":8,"name":"rust-1","kind":"rust","state":"ready","sessions":0,"restarts":0}],"#,
            r#""frame_pools":[],"sessions":[]}"#
        ))
        .await
        .status()
        .await
        .unwrap();
        assert_eq!((status.gateway.pid, status.workers[0].pid), (7, 8));
    }

    #[tokio::test]
    async fn refusals_and_nonsense_are_told_apart() {
        let check = async |answer, expect: &str| {
            let error = door(answer).await.status().await.unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "answered 503").await;
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", "something unexpected").await;
        check("SSH-2.0-OpenSSH\r\n", "broke off").await;
    }

    #[tokio::test]
    async fn a_closed_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = AdminDoor::at(&address).status().await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("no gateway answers at {address}: ")), "{error}");
    }

    #[test]
    fn unix_sockets_are_written_in_both_usual_ways() {
        assert_eq!(AdminDoor::at("unix:/run/a"), AdminDoor::Unix("/run/a".into()));
        assert_eq!(AdminDoor::at("unix:///run/a"), AdminDoor::Unix("/run/a".into()));
    }
}
