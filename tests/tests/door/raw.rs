//! Calls below gRPC: whatever bytes one likes as the body of an HTTP/2 request.

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use remotemedia_tests::Client;
use remotemedia_tests::client::PATIENCE;
use remotemedia_tests::deadline::within;
use tonic::body::Body;
use tonic::client::GrpcService as _;
use tonic::codegen::http;
use tonic::{Code, Status};

/// The status of the answer, and the bytes of its body.
pub(crate) async fn send(client: &Client, path: &str, body: Bytes) -> (Status, Bytes) {
    send_body(client, path, Body::new(Full::new(body))).await
}

/// The same of a body that comes as it likes.
pub(crate) async fn send_body(client: &Client, path: &str, body: Body) -> (Status, Bytes) {
    let request = http::Request::post(format!("http://gateway{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .expect("a path makes a request");
    let exchange = async {
        let mut channel = client.channel();
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await.expect("the connection stands");
        let answer = channel.call(request).await.expect("there is an answer");
        let from_headers = Status::from_header_map(answer.headers());
        let collected = match answer.into_body().collect().await {
            Ok(collected) => collected,
            Err(status) => return (status, Bytes::new()),
        };
        let from_trailers = collected.trailers().and_then(Status::from_header_map);
        let status =
            from_headers.or(from_trailers).unwrap_or_else(|| Status::new(Code::Unknown, "no status"));
        (status, collected.to_bytes())
    };
    within(PATIENCE, path, exchange).await
}

/// A message with the prefix that gRPC gives it.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a message of a test is short");
    prefixed(0, length, message)
}

/// Any prefix before any bytes.
pub(crate) fn prefixed(flag: u8, length: u32, bytes: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(bytes.len() + 5);
    body.put_u8(flag);
    body.put_u32(length);
    body.put_slice(bytes);
    body.freeze()
}
