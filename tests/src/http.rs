//! A gateway's admin door, asked as `curl` asks.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::PATIENCE;
use crate::deadline::within;

/// The status and the body of the answer to GET, of a door at `HOST:PORT`.
///
/// # Panics
/// Nobody answers in time, or not so.
pub async fn get(address: &str, path: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("the door is open");
        let request = format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the question is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the answer is text");
        answer
    };
    let answer = within(PATIENCE, path, exchange).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head and a body");
    let status = head.split(' ').nth(1).expect("a status line has a status");
    (status.parse().expect("a status is a number"), body.to_owned())
}
