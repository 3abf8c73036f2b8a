//! What a gateway holds at rest, to be compared with what it holds later.

use super::{Plant, RELEASE};
use crate::deadline::until;

/// What an allocator may keep of what was given back.
const SLACK_BYTES: u64 = 16 << 20;

/// What a gateway held at rest.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    pid: u32,
    fds: usize,
    private_bytes: u64,
}

impl Plant {
    /// What the gateway holds, once nothing is under way.
    ///
    /// # Panics
    /// It does not come to rest.
    pub async fn footprint(&self) -> Footprint {
        self.idle_within(RELEASE).await;
        let gateway = self.gateway();
        Footprint { pid: gateway.pid(), fds: gateway.fds(), private_bytes: gateway.private_bytes() }
    }

    /// Waits until it holds as much again.
    ///
    /// # Panics
    /// It is another process, or keeps files or memory.
    pub async fn is_as_before(&self, before: &Footprint) {
        self.idle_within(RELEASE).await;
        assert_eq!(self.status().await.gateway.pid, before.pid, "another gateway answers");
        until(RELEASE, async || {
            let files = self.gateway().open_files();
            if files.len() <= before.fds { Ok(()) } else { Err(files) }
        })
        .await;
        let bytes = self.gateway().private_bytes();
        assert!(bytes < before.private_bytes + SLACK_BYTES, "{bytes} bytes are held, after {before:?}");
    }
}
