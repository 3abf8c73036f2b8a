//! `remotemedia restart`: fresh workers in the place of those that run, and nobody is refused meanwhile.

use std::time::Duration;

use remotemedia_core::launching::{LaunchOrder, Rollout};
use remotemedia_core::token::Token;

use crate::admin::AdminDoor;
use crate::args::RestartArgs;
use crate::error::CommandError;
use crate::find;
use crate::launch::Home;

/// How often it is asked how far they are.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Has the launcher of a running service replace its workers, and waits until it has. Who stops waiting does not stop
/// the launcher.
///
/// # Errors
/// There is no gateway or no launcher, or a fresh worker did not become ready: the others are left as they were.
pub async fn restart(args: RestartArgs, token: Option<&Token>, home: &Home) -> Result<(), CommandError> {
    let serving = find::gateway(home, args.runtime_dir.as_deref())?;
    let door = AdminDoor::at(&serving.admin);
    door.order(&LaunchOrder::Restart { pool: args.pool }, token).await?;
    let mut told = 0;
    loop {
        // Told before the order was answered. A gateway that dies meanwhile ends the waiting, and not the restart.
        let Rollout { done, left, problem } = door.status().await?.restart.unwrap_or_default();
        done.iter().skip(told).for_each(|name| crate::say(&format!("{name} is replaced")));
        told = told.max(done.len());
        if !problem.is_empty() {
            return Err(CommandError::Restart { problem, done, left });
        }
        if left.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
