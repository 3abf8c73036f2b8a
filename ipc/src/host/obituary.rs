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
        let kernel = self.process.exit_info();
        self.look(now, kernel, launchers)
    }

    /// The same with the kernel's word, if it has one.
    fn look(&mut self, now: Instant, kernel: Option<Exit>, launchers: &mut Launchers) -> Option<HostEvent> {
        let awaits_parent = self.invocation.is_some() || launchers.know(self.pid);
        let until = *self.until.get_or_insert(now + if awaits_parent { PARENT } else { KERNEL });
        let burial = self.invocation.and_then(|invocation| launchers.reports.take(invocation, self.pid));
        let burial = burial.or_else(|| launchers.take_burial(self.pid));
        if burial.is_none() && awaits_parent && now < until {
            return None;
        }
        let cause = match self.cause(burial.as_ref(), kernel) {
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
    fn cause(&self, burial: Option<&Burial>, kernel: Option<Exit>) -> Option<DeathCause> {
        let exit = kernel.map(|exit| match exit {
            Exit::Signal(number) => DeathCause::Signal(number),
            Exit::Code(code) => DeathCause::Exit(code),
        });
        match burial.map(|burial| burial.cause).or(exit)? {
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

#[cfg(test)]
mod tests {
    use remotemedia_core::fault::DeathCause::{Exit as Code, Hang, OutOfMemory, Signal, Unknown};

    use super::*;
    use crate::control::messages::{FromLauncher, PROTOCOL, Report};
    use crate::control::{Channel, codec};
    use crate::slot::{Incarnation, Slot};

    const PID: i32 = 7;
    const UNIT: Invocation = Invocation(1);
    /// What nobody waits for.
    const AT_ONCE: Duration = Duration::ZERO;
    const LATEST: Duration = Duration::from_secs(10);
    const LOOK_EVERY: Duration = Duration::from_millis(1);

    fn obituary(invocation: Option<Invocation>, condemned: Option<DeathCause>) -> Obituary {
        let member = Member { slot: Slot::new(1).unwrap(), incarnation: Incarnation::FIRST };
        let (name, kind) = ("rust-1".to_owned(), "rust".to_owned());
        let hello = Hello { protocol: PROTOCOL, name, kind, nodes: Vec::new(), loading: None, invocation };
        let process = PidFd::open(std::process::id().cast_signed()).unwrap();
        Obituary::new(member, PID, process, hello, condemned)
    }

    fn burial(cause: DeathCause) -> Burial {
        let (name, last_lines) = ("rust-1".to_owned(), vec!["gone".to_owned()]);
        Burial { pid: PID, name, cause, restarts: Some(0), last_lines }
    }

    /// Somebody who has started it.
    struct Parent(Channel);

    impl Parent {
        fn of(launchers: &mut Launchers) -> Self {
            let (theirs, ours) = Channel::pair().unwrap();
            assert!(launchers.admit(ours));
            let mut parent = Self(theirs);
            parent.say(launchers, &FromLauncher::Started { pid: PID });
            parent
        }

        fn say(&mut self, launchers: &mut Launchers, message: &FromLauncher) {
            self.0.send(&codec::encode(message).unwrap(), &[]).unwrap();
            launchers.hear(0, &mut drop);
        }
    }

    fn report(cause: DeathCause) -> Report {
        Report { invocation: UNIT, name: "rust-1".to_owned(), cause, is_failure: true }
    }

    /// How long after the first look it is published, and with what, if `happen` happens meanwhile.
    fn published(
        mut obituary: Obituary,
        launchers: &mut Launchers,
        kernel: Option<Exit>,
        mut happen: impl FnMut(Duration, &mut Launchers),
    ) -> (Duration, DeathCause) {
        let begin = Instant::now();
        let mut passed = Duration::ZERO;
        loop {
            happen(passed, launchers);
            match obituary.look(begin + passed, kernel, launchers) {
                Some(HostEvent::Died { pid, cause, .. }) => {
                    assert_eq!(pid, PID);
                    assert!(!launchers.know(PID), "what is told from here on comes too late");
                    return (passed, cause);
                }
                Some(event) => panic!("{event:?}"),
                None => passed += LOOK_EVERY,
            }
            assert!(passed < LATEST, "it is never published");
        }
    }

    fn nothing(_passed: Duration, _launchers: &mut Launchers) {}

    #[test]
    fn where_nobody_else_knows_the_kernel_is_asked_for_a_moment_and_then_the_cause_is_unknown() {
        for (kernel, condemned, expected) in [
            (Some(Exit::Code(3)), None, (AT_ONCE, Code(3))),
            (Some(Exit::Signal(11)), None, (AT_ONCE, Signal(11))),
            (Some(Exit::Signal(KILLED)), None, (AT_ONCE, Signal(KILLED))),
            (None, None, (KERNEL, Unknown)),
            // It was we who sent the signal, but it may have died of something else first.
            (Some(Exit::Signal(KILLED)), Some(Hang), (AT_ONCE, Hang)),
            (Some(Exit::Signal(11)), Some(Hang), (AT_ONCE, Signal(11))),
            (Some(Exit::Code(0)), Some(Hang), (AT_ONCE, Code(0))),
            (None, Some(Hang), (KERNEL, Hang)),
        ] {
            let told = published(obituary(None, condemned), &mut Launchers::default(), kernel, nothing);
            assert_eq!(told, expected, "{kernel:?}, condemned for {condemned:?}");
        }
    }

    #[test]
    fn a_parents_word_is_waited_for_and_longer_where_it_is_the_only_one() {
        let late = Duration::from_millis(500);
        for (kernel, condemned, word, expected) in [
            (Some(Exit::Signal(KILLED)), None, Some((AT_ONCE, OutOfMemory)), (AT_ONCE, OutOfMemory)),
            (Some(Exit::Signal(KILLED)), None, Some((KERNEL, OutOfMemory)), (KERNEL, OutOfMemory)),
            (Some(Exit::Signal(KILLED)), None, Some((late, OutOfMemory)), (PARENT, Signal(KILLED))),
            (Some(Exit::Signal(KILLED)), None, None, (PARENT, Signal(KILLED))),
            (None, None, Some((late, Signal(11))), (late, Signal(11))),
            (None, None, None, (PARENT_ALONE, Unknown)),
            (None, Some(Hang), None, (PARENT_ALONE, Hang)),
            (None, Some(Hang), Some((AT_ONCE, Signal(KILLED))), (AT_ONCE, Hang)),
            (None, Some(Hang), Some((AT_ONCE, OutOfMemory)), (AT_ONCE, OutOfMemory)),
        ] {
            let mut launchers = Launchers::default();
            let mut parent = Parent::of(&mut launchers);
            let told = published(obituary(None, condemned), &mut launchers, kernel, |passed, launchers| {
                for (_, cause) in word.iter().filter(|(when, _)| *when == passed) {
                    parent.say(launchers, &FromLauncher::Buried(burial(*cause)));
                }
            });
            assert_eq!(told, expected, "{kernel:?}, condemned for {condemned:?}, {word:?}");
        }
    }

    #[test]
    fn a_report_of_systemd_is_waited_for_where_the_kernels_word_is_not_enough() {
        let late = Duration::from_secs(3);
        for (kernel, condemned, word, expected) in [
            (Some(Exit::Signal(KILLED)), None, Some((late, OutOfMemory)), (late, OutOfMemory)),
            (Some(Exit::Signal(ABORTED)), None, Some((late, Hang)), (late, Hang)),
            (Some(Exit::Signal(KILLED)), None, None, (REPORT, Signal(KILLED))),
            (Some(Exit::Signal(ABORTED)), None, None, (REPORT, Signal(ABORTED))),
            (Some(Exit::Signal(11)), None, Some((late, Signal(11))), (PARENT, Signal(11))),
            (Some(Exit::Code(3)), None, None, (PARENT, Code(3))),
            (Some(Exit::Code(3)), None, Some((AT_ONCE, Code(3))), (AT_ONCE, Code(3))),
            (None, None, Some((late, Code(3))), (late, Code(3))),
            (None, None, None, (REPORT, Unknown)),
            (Some(Exit::Signal(KILLED)), Some(Hang), None, (PARENT, Hang)),
            (None, Some(Hang), None, (REPORT, Hang)),
        ] {
            let mut launchers = Launchers::default();
            let unit = obituary(Some(UNIT), condemned);
            let told = published(unit, &mut launchers, kernel, |passed, launchers| {
                for (_, cause) in word.iter().filter(|(when, _)| *when == passed) {
                    launchers.reports.hear(report(*cause));
                }
            });
            assert_eq!(told, expected, "{kernel:?}, condemned for {condemned:?}, {word:?}");
            launchers.reports.hear(report(OutOfMemory));
            assert_eq!(launchers.reports.take(UNIT, PID), None, "it comes too late");
        }
    }

    #[test]
    fn what_a_parent_has_told_goes_with_the_death() {
        let mut launchers = Launchers::default();
        let mut parent = Parent::of(&mut launchers);
        parent.say(&mut launchers, &FromLauncher::Buried(burial(Code(3))));
        let event = obituary(None, None).look(Instant::now(), None, &mut launchers);
        let Some(HostEvent::Died { name, burial: Some(told), .. }) = event else { panic!("{event:?}") };
        assert_eq!((name.as_str(), told), ("rust-1", burial(Code(3))));
    }
}
