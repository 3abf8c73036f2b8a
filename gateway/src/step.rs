//! One thing that is done around every call, on its way to the methods and back.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

/// What comes of a call.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// One thing that is done around every call.
pub(crate) trait Step: Clone {
    /// Sees a request on its way in. The answer is that of `next`, changed or not, or one of its own.
    fn pass<B>(&self, request: Request<B>, next: impl FnOnce(Request<B>) -> Answer) -> Answer;
}

/// Puts a step around whatever is inside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<T>(pub(crate) T);

/// A service with a step around it.
#[derive(Clone, Debug)]
pub(crate) struct Stepped<T, S> {
    step: T,
    inner: S,
}

// === impl Around ===

impl<T: Step, S> Layer<S> for Around<T> {
    type Service = Stepped<T, S>;

    fn layer(&self, inner: S) -> Stepped<T, S> {
        Stepped { step: self.0.clone(), inner }
    }
}

// === impl Stepped ===

impl<T, S, B> Service<Request<B>> for Stepped<T, S>
where
    T: Step,
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        let Self { step, inner } = self;
        step.pass(request, |request| Box::pin(inner.call(request)))
    }
}
