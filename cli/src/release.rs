//! `remotemedia release`: a worker that kept dying is tried again at once.

use remotemedia_core::launching::LaunchOrder;
use remotemedia_core::token::Token;

use crate::admin::AdminDoor;
use crate::args::ReleaseArgs;
use crate::error::CommandError;
use crate::find;
use crate::launch::Home;

/// Has the launcher of a running service start a worker that it leaves alone.
///
/// # Errors
/// There is no gateway, no launcher, or the worker is not in quarantine.
pub async fn release(args: ReleaseArgs, token: Option<&Token>, home: &Home) -> Result<(), CommandError> {
    let serving = find::gateway(home, args.runtime_dir.as_deref())?;
    let order = LaunchOrder::Release { worker: args.worker.clone() };
    AdminDoor::at(&serving.admin).order(&order, token).await?;
    crate::say(&format!("{} is released: `remotemedia status` shows how it does", args.worker));
    Ok(())
}
