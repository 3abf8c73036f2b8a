//! The receiving end of a link.

use iceoryx2::port::DegradationAction;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::port::update_connections::UpdateConnections;

use super::error::LinkError;
use super::wall::Walled;
use super::{Factory, Service};
use crate::descriptor::Descriptor;

/// The receiving end of a link: pops, and never waits.
#[derive(Debug)]
pub struct LinkReceiver {
    /// Before the service: a port is taken down before what it is a port of.
    subscriber: Walled<Subscriber<Service, Descriptor, ()>>,
    _service: Walled<Factory>,
    link: String,
}

// === impl LinkReceiver ===

impl LinkReceiver {
    pub(super) fn create(link: String, service: Walled<Factory>) -> Result<Self, LinkError> {
        let subscriber = service
            .ask("creating a receiver", |service| {
                service
                    .subscriber_builder()
                    .set_degradation_handler(|_, _| DegradationAction::DegradeAndFail)
                    .create()
            })?
            .map_err(|source| LinkError::Subscribe { link: link.clone(), source })?;
        Ok(Self { subscriber: Walled::new(subscriber), _service: service, link })
    }

    /// The oldest descriptor that was pushed and not popped yet, copied out of shared memory; none if there is
    /// none now. Goes on giving what a dead sender had pushed.
    ///
    /// # Errors
    /// The link is broken; nothing more will come.
    pub fn pop(&mut self) -> Result<Option<Descriptor>, LinkError> {
        self.subscriber
            .ask("popping", |subscriber| Ok(subscriber.receive()?.map(|sample| *sample.payload())))?
            .map_err(|source| LinkError::Receive { link: self.link.clone(), source })
    }

    /// Connects to the sender: step 4 of the handshake. From here what the sender pushes is not lost with it.
    ///
    /// # Errors
    /// The connection failed: the sender is dead, or resources are short.
    pub fn settle(&self) -> Result<(), LinkError> {
        self.subscriber
            .ask("settling", UpdateConnections::update_connections)?
            .map_err(|source| LinkError::Connect { link: self.link.clone(), source })
    }
}
