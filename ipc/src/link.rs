//! Links: how a descriptor gets from one process to another.
//!
//! A link is one iceoryx2 publish/subscribe service for one ordered pair of members. Its name carries both
//! incarnations and is never used again, so that nothing meant for a dead process reaches its successor. It has room
//! for one publisher and one subscriber: a second lease-carrying sender is refused by construction, and a link that
//! lost an end is dropped and not repaired. Overflow is off and nothing ever waits: what does not fit is refused.
//!
//! # The handshake
//!
//! Publisher and subscriber must not come up at the same time, and a publisher that comes and goes between two looks
//! of its subscriber loses everything it sent. So the two ends meet in this order, each step reported over the
//! control socket before the next begins:
//!
//! 1. the gateway: [`Transport::create_link`], held for as long as the link is wanted;
//! 2. the receiver: [`Transport::subscribe`], then reports that it is ready;
//! 3. the sender: [`Transport::publish`], and checks that [`LinkSender::receivers`] is 1;
//! 4. the receiver: [`LinkReceiver::settle`], then confirms;
//! 5. the sender pushes.
//!
//! After the sender's death the receiver pops until there is nothing left: what was pushed stays readable and whole
//! for as long as the [`LinkReceiver`] lives. After the receiver's death pushes still succeed until its queue is full.
//! Neither end learns of a death here; the death of a process is known from its pidfd.
//!
//! # Where the bytes are
//!
//! Everything that has a path lies in the directory [`TransportConfig::directory`]. iceoryx2's shared memory cannot
//! be put there: it is POSIX shared memory, always under `/dev/shm`, with names that begin with the
//! [`TransportConfig::mark`]. Those files are sparse, and on a full `/dev/shm` the first touch of a page is a SIGBUS.
//! So an end that creates files first asks whether there is room for twice what it will need, and then reserves every
//! page of them: that a link does not fit is an error when it is made, and never a signal while it is used. What
//! remains is the moment between asking and reserving, in which another process may fill the rest.
//!
//! A container gives 64 MiB of `/dev/shm` unless told otherwise; one link of 1024 descriptors takes 0.33 MiB.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process;

use iceoryx2::prelude::{
    FileName, Node, NodeBuilder, NodeName, Path as NodePath, PortFactory as _, SemanticString, ServiceName,
    SignalHandlingMode, ipc_threadsafe,
};
use iceoryx2::service::builder::publish_subscribe::Builder;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;
use serde::{Deserialize, Serialize};

use crate::descriptor::Descriptor;
use crate::slot::Member;

mod error;
mod receiver;
mod residue;
mod room;
mod sender;
mod wall;

pub use error::{LinkError, PushRefused};
pub use receiver::LinkReceiver;
pub(crate) use residue::{Burial, Origin, Territory, remove};
pub use sender::LinkSender;
pub(crate) use wall::contained;

use wall::Walled;

/// This process's foothold in the domain's transport.
///
/// The ends of links outlive it, should it be dropped first.
#[derive(Debug)]
pub struct Transport {
    node: Walled<Node<Service>>,
    config: TransportConfig,
}

/// Keeps a link's service alive: the gateway's share of a link.
#[derive(Debug)]
pub struct LinkService {
    _service: Walled<Factory>,
}

/// Where a domain's transport lives and how big its links are. The gateway makes it once a boot and tells every worker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TransportConfig {
    /// The runtime directory, on tmpfs; the domain's own directory is made below it.
    pub root: PathBuf,
    /// What sets this boot of this gateway apart from every other: 1 to 32 lower-case letters and digits.
    pub prefix: String,
    /// How many descriptors a link holds before it refuses more.
    pub capacity: usize,
}

/// Thread-safe: a sender is shared by all threads of a process.
type Service = ipc_threadsafe::Service;
type Factory = PortFactory<Service, Descriptor, ()>;

/// Longest path of a domain's directory, in bytes. iceoryx2 ends at 255 and appends names of up to about 130, and
/// panics when that is too long.
const LONGEST_DIRECTORY: usize = 100;

/// Longest prefix, in bytes: a connection's file name is prefix, hash and two ids, in at most 255 bytes.
const LONGEST_PREFIX: usize = 32;

/// How many nodes a link's service registers: gateway, sender and receiver, and as many again in case one of them
/// opens it a second time while its first registration is still being taken down.
const NODES_PER_LINK: usize = 6;

// === impl Transport ===

impl Transport {
    /// Joins the domain, as `name` in iceoryx2's own listings. The gateway is first: it makes the directories.
    ///
    /// # Errors
    /// The configuration cannot be used, `/dev/shm` is full, `/proc` is another pid namespace's, or iceoryx2 refuses
    /// the node.
    pub fn open(config: &TransportConfig, name: &str) -> Result<Self, LinkError> {
        let settings = config.settings()?;
        let directory = config.directory();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|source| LinkError::Directory { directory, source })?;
        room::ask(room::FOR_A_NODE)?;
        let name =
            NodeName::new(name).map_err(|source| LinkError::NodeName { name: name.to_owned(), source })?;
        let node = wall::contained("creating a node", || {
            NodeBuilder::new()
                .name(&name)
                .config(&settings)
                .signal_handling_mode(SignalHandlingMode::Disabled)
                .create::<Service>()
        })?
        .map_err(LinkError::Node)?;
        let node = Walled::new(node);
        let seen = Origin::of_id(node.ask("naming a node", |node| node.id().value())?).pid();
        let pid = process::id();
        // Or the cleaner would not know this process's files by its pid.
        if seen == pid {
            Ok(Self { node, config: config.clone() })
        } else {
            Err(LinkError::ForeignProc { seen, pid })
        }
    }

    /// Makes the link's service: step 1 of the handshake, the gateway's alone. The link can be opened while the
    /// result is held, or either end lives.
    ///
    /// # Errors
    /// There is no room in `/dev/shm`, the link exists already, or iceoryx2 refuses.
    pub fn create_link(&self, from: Member, to: Member) -> Result<LinkService, LinkError> {
        room::ask(room::FOR_A_SERVICE)?;
        let link = link_name(from, to);
        let name = service_name(&link)?;
        let service = self
            .node
            .ask("creating a link", |node| shaped(node, &name, self.config.capacity).create())?
            .map_err(|source| LinkError::Create { link, source })?;
        let service = Walled::new(service);
        let id = service.ask("naming a service", |service| service.unique_service_id().value())?;
        room::reserve(&Territory::of(&self.config), id)?;
        Ok(LinkService { _service: service })
    }

    /// Creates the receiving end: step 2 of the handshake.
    ///
    /// # Errors
    /// The link does not exist (any more), it has its receiver already, or iceoryx2 refuses.
    pub fn subscribe(&self, from: Member, to: Member) -> Result<LinkReceiver, LinkError> {
        LinkReceiver::create(link_name(from, to), self.open_link(from, to)?)
    }

    /// Creates the sending end: step 3 of the handshake, and the one that takes room in `/dev/shm`.
    ///
    /// # Errors
    /// There is no room, the link does not exist (any more), it has its sender already, or iceoryx2 refuses.
    pub fn publish(&self, from: Member, to: Member) -> Result<LinkSender, LinkError> {
        room::ask(room::for_a_sender(self.config.capacity))?;
        LinkSender::create(link_name(from, to), self.open_link(from, to)?, &Territory::of(&self.config))
    }

    fn open_link(&self, from: Member, to: Member) -> Result<Walled<Factory>, LinkError> {
        let link = link_name(from, to);
        let name = service_name(&link)?;
        let service = self
            .node
            .ask("opening a link", |node| shaped(node, &name, self.config.capacity).open())?
            .map_err(|source| LinkError::Open { link, source })?;
        Ok(Walled::new(service))
    }
}

// === impl TransportConfig ===

impl TransportConfig {
    /// The domain's own directory: everything in it belongs to this boot of the gateway and to nothing else.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.root.join(&self.prefix)
    }

    /// How the names of the domain's files in `/dev/shm` begin. Ends with a character that no prefix contains, so
    /// that no domain's mark begins another's.
    #[must_use]
    pub fn mark(&self) -> String {
        format!("{}_", self.prefix)
    }

    /// The settings for iceoryx2, complete: a configuration file that lies about is not read.
    pub(crate) fn settings(&self) -> Result<iceoryx2::config::Config, LinkError> {
        let mut settings = iceoryx2::config::Config::default();
        settings.global.set_root_path(&self.node_path()?);
        settings.global.prefix = FileName::new(self.mark().as_bytes())
            .map_err(|_| LinkError::Prefix { prefix: self.prefix.clone() })?;
        // One cleaner: the gateway's. A worker that cleans could hang on what a dead one left half-made.
        settings.global.service.cleanup_dead_nodes_on_open = false;
        settings.global.node.cleanup_dead_nodes_on_creation = false;
        settings.global.node.cleanup_dead_nodes_on_destruction = false;
        // A link has one sender, so at most one connection of it can expire.
        settings.defaults.publish_subscribe.subscriber_expired_connection_buffer = 4;
        Ok(settings)
    }

    fn node_path(&self) -> Result<NodePath, LinkError> {
        let fits = (1..=LONGEST_PREFIX).contains(&self.prefix.len());
        if !fits || !self.prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(LinkError::Prefix { prefix: self.prefix.clone() });
        }
        let directory = self.directory();
        let path =
            directory.to_str().filter(|path| path.len() <= LONGEST_DIRECTORY && directory.is_absolute());
        path.and_then(|path| NodePath::new(path.as_bytes()).ok())
            .ok_or(LinkError::Root { directory, limit: LONGEST_DIRECTORY })
    }
}

/// `<from slot>.<from incarnation>-<to slot>.<to incarnation>`
fn link_name(from: Member, to: Member) -> String {
    format!("{from}-{to}")
}

fn service_name(link: &str) -> Result<ServiceName, LinkError> {
    ServiceName::new(link).map_err(|_| LinkError::Name { link: link.to_owned() })
}

/// A link's service as both its creator and those who open it describe it.
fn shaped(node: &Node<Service>, name: &ServiceName, capacity: usize) -> Builder<Descriptor, (), Service> {
    node.service_builder(name)
        .publish_subscribe::<Descriptor>()
        .enable_safe_overflow(false)
        .history_size(0)
        .subscriber_max_buffer_size(capacity)
        // A descriptor is copied out and given back at once.
        .subscriber_max_borrowed_samples(1)
        .max_publishers(1)
        .max_subscribers(1)
        .max_nodes(NODES_PER_LINK)
}

#[cfg(test)]
pub(crate) mod tests;
