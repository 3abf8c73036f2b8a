//! Who may call: nobody while the service goes away.

use hyper::Request;

use crate::life::{LifeWatch, Phase};
use crate::rescue;
use crate::step::{Answer, Step};

/// Lets calls in as long as the process serves.
#[derive(Clone, Debug)]
pub(crate) struct Admit(pub(crate) LifeWatch);

impl Step for Admit {
    fn pass<B>(&self, request: Request<B>, next: impl FnOnce(Request<B>) -> Answer) -> Answer {
        match self.0.phase() {
            Phase::Serving => next(request),
            Phase::Draining | Phase::Ending | Phase::Over => {
                Box::pin(async { Ok(rescue::of_closed_door().into_http()) })
            }
        }
    }
}
