//! Who may call: nobody while the service goes away, but those who ask whether it does.

use hyper::Request;

use crate::life::{LifeWatch, Phase};
use crate::rescue;
use crate::rpc::Rpc;
use crate::step::{Answer, Step};

/// Lets calls in as long as the process serves.
#[derive(Clone, Debug)]
pub(crate) struct Admit {
    pub(crate) life: LifeWatch,
    /// Whether the socket outlives the process. Clients are told to make new connections, which wait for its successor; what
    /// they have sent before they hear it is served.
    pub(crate) is_succeeded: bool,
}

impl Step for Admit {
    fn pass<B>(&self, request: Request<B>, next: impl FnOnce(Request<B>) -> Answer) -> Answer {
        // Answered at once, from what is known.
        if Rpc::of(request.uri().path()) == Rpc::HealthV1Check {
            return next(request);
        }
        match self.life.phase() {
            Phase::Serving => next(request),
            Phase::Draining if self.is_succeeded => next(request),
            Phase::Draining | Phase::Ending | Phase::Over => {
                Box::pin(async { Ok(rescue::of_closed_door().into_http()) })
            }
        }
    }
}
