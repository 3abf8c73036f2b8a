//! What can go wrong with a link.

use std::io;
use std::path::PathBuf;

use iceoryx2::node::NodeCreationFailure;
use iceoryx2::port::publisher::PublisherCreateError;
use iceoryx2::port::subscriber::SubscriberCreateError;
use iceoryx2::port::update_connections::ConnectionFailure;
use iceoryx2::port::{ReceiveError, SendError};
use iceoryx2::prelude::SemanticStringError;
use iceoryx2::service::builder::publish_subscribe::{PublishSubscribeCreateError, PublishSubscribeOpenError};

/// Something the transport could not do.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The prefix cannot begin a file name.
    #[error("transport prefix '{prefix}' cannot be used, expected 1 to 32 lower-case letters and digits")]
    Prefix {
        /// As configured.
        prefix: String,
    },
    /// The domain's directory cannot be the transport's root.
    #[error(
        "transport directory {directory:?} cannot be used, expected an absolute path of at most {limit} bytes"
    )]
    Root {
        /// Root and prefix, as configured.
        directory: PathBuf,
        /// Longest path, in bytes.
        limit: usize,
    },
    /// The domain's directory could not be made.
    #[error("transport directory {directory:?} could not be made")]
    Directory {
        /// Which.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The node's name is not one for iceoryx2.
    #[error("transport node name '{name}' cannot be used, expected fewer than 128 characters")]
    NodeName {
        /// As given.
        name: String,
        /// Why.
        source: SemanticStringError,
    },
    /// `/dev/shm` is full, or nearly so.
    #[error(
        "{available} bytes are free in /dev/shm, expected {needed}: give it a larger size or use fewer workers"
    )]
    NoRoom {
        /// What the operation wants to be free, in bytes.
        needed: u64,
        /// What is free, in bytes.
        available: u64,
    },
    /// A file of the link could not be given its pages, or `/dev/shm` could not be read.
    #[error("room for {path:?} could not be reserved")]
    Reserve {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No node.
    #[error("the transport refused this process")]
    Node(#[source] NodeCreationFailure),
    /// `/proc` shows another pid namespace, and iceoryx2 names files after what it reads there.
    #[error("/proc calls this process {seen} and it is {pid}: mount the /proc of its own pid namespace")]
    ForeignProc {
        /// The pid that `/proc` tells.
        seen: u32,
        /// The pid.
        pid: u32,
    },
    /// A member's name is not one for a service; cannot happen.
    #[error("link {link} cannot be a service's name")]
    Name {
        /// The link's name.
        link: String,
    },
    /// The link's service was not made.
    #[error("link {link} could not be made")]
    Create {
        /// The link's name.
        link: String,
        /// Why.
        source: PublishSubscribeCreateError,
    },
    /// The link's service was not opened: it does not exist, or looks different.
    #[error("link {link} could not be opened")]
    Open {
        /// The link's name.
        link: String,
        /// Why.
        source: PublishSubscribeOpenError,
    },
    /// No receiving end: the link has one, or resources are short.
    #[error("link {link} refused its receiver")]
    Subscribe {
        /// The link's name.
        link: String,
        /// Why.
        source: SubscriberCreateError,
    },
    /// No sending end: the link has one, or resources are short.
    #[error("link {link} refused its sender")]
    Publish {
        /// The link's name.
        link: String,
        /// Why.
        source: PublisherCreateError,
    },
    /// An end could not connect to the other.
    #[error("the ends of link {link} could not connect")]
    Connect {
        /// The link's name.
        link: String,
        /// Why.
        source: ConnectionFailure,
    },
    /// A pop failed: the connection is damaged.
    #[error("nothing can be received over link {link}")]
    Receive {
        /// The link's name.
        link: String,
        /// Why.
        source: ReceiveError,
    },
    /// A push failed: the connection is damaged.
    #[error("nothing can be sent over link {link}")]
    Send {
        /// The link's name.
        link: String,
        /// Why.
        source: SendError,
    },
    /// iceoryx2 panicked; the object that did is not used again.
    #[error("the transport panicked while {doing}")]
    Panicked {
        /// What was being done.
        doing: &'static str,
    },
    /// The object was used after it panicked.
    #[error("the transport panicked before and is not used for {doing}")]
    Broken {
        /// What was asked for.
        doing: &'static str,
    },
    /// The domain's files could not be listed or removed.
    #[error("the transport's files could not be cleaned up")]
    Residue(#[source] io::Error),
}

/// Why a descriptor was not pushed. Nothing of it remains: a push is whole or absent.
#[derive(Debug, thiserror::Error)]
pub enum PushRefused {
    /// The receiver's queue is full. Credits keep this from happening, so it is a bug of the sender's.
    #[error("link is full: its receiver has not popped what was pushed before")]
    Full,
    /// There is no receiver: the handshake was not kept to, or the receiver has closed its end.
    #[error("link has no receiver")]
    NoReceiver,
    /// The link cannot be used any more.
    #[error("link is broken")]
    Broken(#[source] LinkError),
}
