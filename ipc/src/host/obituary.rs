//! A death of which the cause is not known yet.

use std::time::{Duration, Instant};

use remotemedia_core::fault::DeathCause;
use remotemedia_core::launching::Invocation;

use super::HostEvent;
use super::launchers::Launchers;
use crate::control::messages::{Burial, Hello};
use crate::death::{Exit, PidFd};
use crate::slot::Member;

/// One who is dead, and of whom is still to be told of what.
#[derive(Debug)]
pub(super) struct Obituary {
    member: Member,
    pid: i32,
    name: String,
    process: PidFd,
    /// If it was a unit of systemd, which reports how it ended.
    invocation: Option<Invocation>,
    condemned: Option<DeathCause>,
    /// When it is published all the same. Counted from the first look: burying many takes longer than this.
    until: Option<Instant>,
}

/// How long the kernel's word is waited for: it knows the cause when the parent has reaped the process.
const KERNEL: Duration = Duration::from_millis(50);

/// How long the parent's word is waited for, where it is connected: it reads what the dead wrote last.
const PARENT: Duration = Duration::from_millis(100);

/// The same where the kernel says nothing either, as it does until the process is reaped: what took much memory is
/// long in dying, and a cause that comes late is better than none.
const PARENT_ALONE: Duration = Duration::from_secs(1);

/// How long a report of systemd is waited for, where the kernel has no word or its word is not enough: it first buries all that the unit had
/// started, and then runs a program, on a machine that may be busy.
const REPORT: Duration = Duration::from_secs(5);

/// What the kernel kills with for want of memory, and systemd where its watchdog is not fed.
const KILLED: i32 = 9;
const ABORTED: i32 = 6;

// === impl Obituary ===

impl Obituary {
    pub(super) fn new(
        member: Member,
        pid: i32,
        process: PidFd,
        hello: Hello,
        condemned: Option<DeathCause>,
    ) -> Self {
        let Hello { name, invocation, .. } = hello;
        Self { member, pid, name, process, invocation, condemned, until: None }
    }

    pub(super) const fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) const fn invocation(&self) -> Option<Invocation> {
        self.invocation
    }

    /// What is known now, if all is known that will be; at the deadline, that nothing is.
    pub(super) fn publish(&mut self, now: Instant, launchers: &mut Launchers) -> Option<HostEvent> {
        let awaits_parent = self.invocation.is_some() || launchers.know(self.pid);
        let until = *self.until.get_or_insert(now + if awaits_parent { PARENT } else { KERNEL });
        let burial = self.invocation.and_then(|invocation| launchers.reports.take(invocation, self.pid));
        let burial = burial.or_else(|| launchers.take_burial(self.pid));
        if burial.is_none() && awaits_parent && now < until {
            return None;
        }
        let cause = match self.cause(burial.as_ref()) {
            // Whether it was for want of memory, or by a watchdog, systemd reports: it first runs a program for that.
            Some(DeathCause::Signal(KILLED | ABORTED))
                if burial.is_none() && self.invocation.is_some() && now < until + (REPORT - PARENT) =>
            {
                return None;
            }
            Some(cause) => cause,
            None if awaits_parent && now < until + (self.alone() - PARENT) => return None,
            None if now >= until => self.condemned.unwrap_or(DeathCause::Unknown),
            None => return None,
        };
        launchers.forget(self.pid);
        self.invocation.into_iter().for_each(|invocation| launchers.reports.forget(invocation));
        let name = std::mem::take(&mut self.name);
        Some(HostEvent::Died { member: self.member, pid: self.pid, name, cause, burial })
    }

    /// How long the parent's word is waited for where nobody else has one.
    const fn alone(&self) -> Duration {
        if self.invocation.is_some() { REPORT } else { PARENT_ALONE }
    }

    /// As the parent says, who alone knows of a want of memory, or else as the kernel says.
    fn cause(&self, burial: Option<&Burial>) -> Option<DeathCause> {
        let exit = || match self.process.exit_info()? {
            Exit::Signal(number) => Some(DeathCause::Signal(number)),
            Exit::Code(code) => Some(DeathCause::Exit(code)),
        };
        match burial.map(|burial| burial.cause).or_else(exit)? {
            // It was we who sent the signal.
            DeathCause::Signal(KILLED) => Some(self.condemned.unwrap_or(DeathCause::Signal(KILLED))),
            cause @ (DeathCause::Signal(_)
            | DeathCause::Exit(_)
            | DeathCause::OutOfMemory
            | DeathCause::Hang
            | DeathCause::Protocol
            | DeathCause::Unknown) => Some(cause),
        }
    }
}
