//! Requests whose last piece says that it is the last.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;

/// A channel over which a request's last piece says that it is the last. Otherwise the end of a request is a piece by
/// itself, and a service that waits for it is woken once more.
#[derive(Clone, Debug)]
pub(super) struct Whole<S>(S);

/// A request's body, of which one piece more than was asked for is known, if it is there.
struct Pieces {
    inner: Body,
    next: Option<Result<Frame<Bytes>, Status>>,
    is_over: bool,
}

// === impl Whole ===

impl<S> Whole<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self(inner)
    }
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Whole<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.0.call(request.map(|inner| Body::new(Pieces { inner, next: None, is_over: false })))
    }
}

// === impl Pieces ===

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { inner, next, is_over } = &mut *self;
        if *is_over && next.is_none() {
            return Poll::Ready(None);
        }
        let piece = match next.take() {
            Some(piece) => piece,
            None => match ready!(Pin::new(&mut *inner).poll_frame(cx)) {
                Some(piece) => piece,
                None => return Poll::Ready(None),
            },
        };
        match Pin::new(inner).poll_frame(cx) {
            Poll::Ready(Some(behind)) => *next = Some(behind),
            Poll::Ready(None) => *is_over = true,
            Poll::Pending => {}
        }
        Poll::Ready(Some(piece))
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none() && (self.is_over || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    type Polled = Poll<Option<Result<Frame<Bytes>, Status>>>;

    /// A body that gives these, one at each asking.
    struct Given(VecDeque<Polled>);

    impl HttpBody for Given {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Polled {
            self.0.pop_front().expect("nobody asks behind the end")
        }
    }

    fn data(text: &'static str) -> Polled {
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }

    /// Whatever comes, by asking until the end; each piece with whether it was known to be the last.
    fn asked(given: impl Into<VecDeque<Polled>>) -> Vec<(String, bool)> {
        let mut pieces = Pieces { inner: Body::new(Given(given.into())), next: None, is_over: false };
        let mut cx = Context::from_waker(Waker::noop());
        let mut came = Vec::new();
        loop {
            let piece = match Pin::new(&mut pieces).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
                }
                Poll::Ready(Some(Err(status))) => status.message().to_owned(),
                Poll::Ready(None) => return came,
                Poll::Pending => "…".to_owned(),
            };
            came.push((piece, pieces.is_end_stream()));
        }
    }

    #[test]
    fn the_last_piece_says_so_if_the_end_is_there_and_nothing_is_lost_or_turned_round() {
        let failed = || Poll::Ready(Some(Err(Status::internal("failed"))));
        let end = || Poll::Ready(None);
        let check = |given: Vec<_>, expect: &[(&str, bool)]| {
            let expect: Vec<_> = expect.iter().map(|(piece, last)| ((*piece).to_owned(), *last)).collect();
            assert_eq!(asked(given), expect);
        };
        check(vec![data("a"), end()], &[("a", true)]);
        check(vec![data("a"), data("b"), end()], &[("a", false), ("b", true)]);
        check(
            vec![data("a"), Poll::Pending, Poll::Pending, data("b"), Poll::Pending, end()],
            &[("a", false), ("…", false), ("b", false)],
        );
        check(vec![data("a"), failed(), end()], &[("a", false), ("failed", true)]);
        check(vec![end()], &[]);
    }
}
