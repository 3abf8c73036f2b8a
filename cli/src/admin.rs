//! What a gateway says of itself over its admin door.

use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
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
    #[error("the gateway's admin door at {door} answered {status} to GET {path}")]
    Refused {
        /// Where it was tried.
        door: AdminDoor,
        /// What was asked.
        path: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// It said something else.
    #[error("the gateway's admin door at {door} answered GET {path} with something unexpected: {problem}")]
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
        let answer = tokio::time::timeout(DEADLINE, self.get(path))
            .await
            .map_err(|_elapsed| AdminError::Late { door: self.clone() })??;
        serde_json::from_slice(&answer).map_err(|error| self.unexpected(path, &error))
    }

    async fn get(&self, path: &'static str) -> Result<Bytes, AdminError> {
        let connect = |source| AdminError::Connect { door: self.clone(), source };
        match self {
            Self::Tcp(address) => self.ask(TcpStream::connect(address).await.map_err(connect)?, path).await,
            Self::Unix(socket) => self.ask(UnixStream::connect(socket).await.map_err(connect)?, path).await,
        }
    }

    async fn ask<S>(&self, stream: S, path: &'static str) -> Result<Bytes, AdminError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let http = |source| AdminError::Http { door: self.clone(), source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let request = Request::get(path)
            .header("host", "gateway")
            .body(Empty::<Bytes>::new())
            .expect("a constant path makes a request");
        let exchange = async {
            let response = sender.send_request(request).await.map_err(http)?;
            if !response.status().is_success() {
                let status = response.status().as_u16();
                return Err(AdminError::Refused { door: self.clone(), path, status });
            }
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(|error| self.body_error(path, error))
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
