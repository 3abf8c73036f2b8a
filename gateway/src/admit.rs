//! Who may call: nobody while the service goes away.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use crate::life::{LifeWatch, Phase};
use crate::rescue;

/// Lets calls in as long as the process serves.
#[derive(Clone, Debug)]
pub(crate) struct Admit(LifeWatch);

/// See [`Admit`].
#[derive(Clone, Debug)]
pub(crate) struct Admitted<S> {
    inner: S,
    life: LifeWatch,
}

// === impl Admit ===

impl Admit {
    pub(crate) const fn new(life: LifeWatch) -> Self {
        Self(life)
    }
}

impl<S> Layer<S> for Admit {
    type Service = Admitted<S>;

    fn layer(&self, inner: S) -> Admitted<S> {
        Admitted { inner, life: self.0.clone() }
    }
}

impl<S, B> Service<Request<B>> for Admitted<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.life.phase() {
            Phase::Serving => Box::pin(self.inner.call(request)),
            Phase::Draining | Phase::Ending | Phase::Over => {
                Box::pin(async { Ok(rescue::of_closed_door().into_http()) })
            }
        }
    }
}
