//! The sending end of a link.

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::update_connections::UpdateConnections;
use iceoryx2::port::{DegradationAction, SendError};
use iceoryx2::prelude::{BackpressureStrategy, PortFactory as _};

use super::error::{LinkError, PushRefused};
use super::residue::Territory;
use super::wall::Walled;
use super::{Factory, Service, room};
use crate::descriptor::Descriptor;

/// The sending end of a link: pushes, and never waits. Threads may share it; pushes are then in the order of an
/// internal lock.
#[derive(Debug)]
pub struct LinkSender {
    /// Before the service: a port is taken down before what it is a port of.
    publisher: Walled<Publisher<Service, Descriptor, ()>>,
    service: Walled<Factory>,
    link: String,
}

// === impl LinkSender ===

impl LinkSender {
    pub(super) fn create(
        link: String,
        service: Walled<Factory>,
        files: &Territory,
    ) -> Result<Self, LinkError> {
        let publisher = service
            .ask("creating a sender", |service| {
                service
                    .publisher_builder()
                    .max_loaned_samples(1)
                    .backpressure_strategy(BackpressureStrategy::DiscardData)
                    .set_degradation_handler(|_, _| DegradationAction::DegradeAndFail)
                    .create()
            })?
            .map_err(|source| LinkError::Publish { link: link.clone(), source })?;
        let sender = Self { publisher: Walled::new(publisher), service, link };
        let id = sender.publisher.ask("naming a sender", |publisher| publisher.id().value())?;
        room::reserve(files, id)?;
        Ok(sender)
    }

    /// Queues a descriptor at the receiver. What was queued is received exactly once, in order, by the receiver if it
    /// lives to pop it.
    ///
    /// # Errors
    /// The queue is full, nobody receives, or the link is broken; the descriptor was not queued.
    pub fn push(&self, descriptor: &Descriptor) -> Result<(), PushRefused> {
        let sent = self
            .publisher
            .ask("pushing", |publisher| publisher.send_copy(*descriptor))
            .map_err(PushRefused::Broken)?;
        match sent {
            Ok(0) if self.registered() == 0 => Err(PushRefused::NoReceiver),
            Ok(0) => Err(PushRefused::Full),
            Ok(_) => Ok(()),
            Err(source) => Err(PushRefused::Broken(self.send_error(source))),
        }
    }

    /// How many receivers this end is connected to: 1 once step 3 of the handshake is done, 0 before the receiver
    /// came, after it closed its end, and when the connection failed. A receiver that was killed counts until it is
    /// cleaned up.
    #[must_use]
    pub fn receivers(&self) -> usize {
        match self.publisher.ask("connecting a sender", UpdateConnections::update_connections) {
            Ok(Ok(())) => self.registered(),
            Ok(Err(_)) | Err(_) => 0,
        }
    }

    fn registered(&self) -> usize {
        self.service
            .ask("counting receivers", |service| service.dynamic_config().number_of_subscribers())
            .unwrap_or(0)
    }

    fn send_error(&self, source: SendError) -> LinkError {
        LinkError::Send { link: self.link.clone(), source }
    }
}
