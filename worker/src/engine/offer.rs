//! What a worker offers, and how far it is in loading that.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use remotemedia_core::node::NodeInfo;
use remotemedia_ipc::control::messages::News;

use crate::registry::Registry;

/// What a worker offers. It outlives memberships: whoever joins another gateway does not load anew.
#[derive(Debug, Default)]
pub(super) struct Offer {
    registry: OnceLock<Registry>,
    /// What there is before.
    nothing: Registry,
    told: Mutex<Told>,
}

/// Loads a worker's nodes while its engine has joined already, so that who needs them knows that they come. Dropped
/// before [`Self::ready`], the worker stays in the state that it told last.
#[derive(Debug)]
pub struct Loader(Arc<Offer>);

/// What gateways are told.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Told {
    /// As far as they are known.
    pub(super) nodes: Vec<NodeInfo>,
    /// What it does before it is ready; none if it is.
    pub(super) loading: Option<String>,
}

/// Longest description of a step, in bytes.
const STEP_BYTES: usize = 128;

// === impl Offer ===

impl Offer {
    /// Of a worker that has nothing to load.
    pub(super) fn ready(registry: Registry) -> Self {
        let told = Told { nodes: registry.infos(), loading: None };
        Self { registry: OnceLock::from(registry), told: Mutex::new(told), ..Self::default() }
    }

    pub(super) fn loading(step: &str) -> (Arc<Self>, Loader) {
        let told = Told { nodes: Vec::new(), loading: Some(shortened(step)) };
        let offer = Arc::new(Self { told: Mutex::new(told), ..Self::default() });
        (Arc::clone(&offer), Loader(offer))
    }

    /// Empty while it is loading: then there is no session either.
    pub(super) fn registry(&self) -> &Registry {
        self.registry.get().unwrap_or(&self.nothing)
    }

    pub(super) fn told(&self) -> Told {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Told ===

impl Told {
    /// What one who knows `self` has to hear, so that it knows `later`.
    pub(super) fn news(&self, later: &Self) -> Vec<News> {
        let mut news = Vec::new();
        if self.nodes != later.nodes {
            news.push(News::Offers { nodes: later.nodes.clone() });
        }
        if self.loading != later.loading {
            news.push(match &later.loading {
                Some(step) => News::Loading { step: step.clone() },
                None => News::Ready,
            });
        }
        news
    }
}

// === impl Loader ===

impl Loader {
    /// Tells what is done now, such as `setting up Whisper`.
    pub fn step(&self, step: &str) {
        self.0.lock().loading = Some(shortened(step));
    }

    /// Tells which node types there will be.
    pub fn offer(&self, nodes: Vec<NodeInfo>) {
        self.0.lock().nodes = nodes;
    }

    /// All is loaded.
    pub fn ready(self, registry: Registry) {
        let nodes = registry.infos();
        // Nobody else sets it: a loader is there once, and is used up.
        drop(self.0.registry.set(registry));
        *self.0.lock() = Told { nodes, loading: None };
    }
}

fn shortened(step: &str) -> String {
    step[..step.floor_char_boundary(STEP_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::stock;

    #[test]
    fn who_knows_a_step_hears_only_what_came_after_it() {
        let (offer, loader) = Offer::loading("importing models");
        let first = offer.told();
        assert_eq!((first.nodes.len(), first.loading.as_deref()), (0, Some("importing models")));
        assert_eq!(first.news(&first), []);
        assert_eq!(offer.registry().infos(), []);

        loader.offer(stock().infos());
        loader.step("setting up PassThrough");
        let second = offer.told();
        assert_eq!(
            first.news(&second),
            [
                News::Offers { nodes: stock().infos() },
                News::Loading { step: "setting up PassThrough".to_owned() }
            ]
        );
        loader.ready(stock());
        assert_eq!(second.news(&offer.told()), [News::Ready]);
        assert_eq!(offer.registry().infos(), stock().infos());
    }

    #[test]
    fn a_long_step_is_cut_between_two_characters() {
        let (offer, _loader) = Offer::loading(&"ö".repeat(100));
        assert_eq!(offer.told().loading.unwrap().len(), STEP_BYTES);
        let (offer, _loader) = Offer::loading(&format!("a{}", "ö".repeat(100)));
        assert_eq!(offer.told().loading.unwrap().len(), STEP_BYTES - 1);
    }
}
