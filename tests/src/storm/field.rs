//! A host in this process, and guests in processes of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use remotemedia_core::fault::DeathCause;
use remotemedia_ipc::cleaner;
use remotemedia_ipc::host::{Host, HostConfig, HostEvent, PoolBudget};
use remotemedia_ipc::memory::Geometry;
use remotemedia_ipc::plane::{Arrival, Plane};
use remotemedia_ipc::slot::Member;
use tempfile::TempDir;

/// A domain under test. Guests that still live when it is dropped are killed and reaped.
pub struct Field {
    host: Option<Host>,
    directory: TempDir,
    guest: PathBuf,
    /// Started, and not yet reaped.
    children: BTreeMap<i32, Child>,
    /// Whose death is expected, and how.
    doomed: BTreeMap<i32, DeathCause>,
    joined: BTreeMap<Member, i32>,
    links: BTreeSet<(Member, Member)>,
    /// Whose death was reported.
    dead: BTreeSet<Member>,
    /// How those ended whose death was not expected: the exit code, or none for a signal.
    exits: BTreeMap<i32, Option<i32>>,
}

/// What a guest does apart from serving parcels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// Nothing.
    Serve,
    /// Sends parcels of its own all the time: home, and home by way of these.
    Chatter(Vec<Member>),
    /// Ends its membership as soon as it hears from the gateway, and lives on.
    Part,
    /// Exits as soon as it hears from the gateway, with this code.
    Quit(u8),
}

/// How a guest ends that was not killed.
pub mod exit {
    /// The gateway is gone.
    pub const OVER: u8 = 0;
    /// A parcel was damaged, or could not be passed on.
    pub const PARCEL: u8 = 71;
    /// A frame of a living sender was refused.
    pub const LOST_OF_LIVING: u8 = 72;
    /// The gateway did not admit it, and said why.
    pub const REFUSED: u8 = 74;
    /// Membership ended otherwise.
    pub const MEMBERSHIP: u8 = 75;
    /// Its arguments are wrong.
    pub const USAGE: u8 = 76;
}

// === impl Field ===

impl Field {
    /// Starts a host. `guest` is the program to start guests with.
    ///
    /// # Panics
    /// The host does not start.
    #[must_use]
    pub fn start(guest: impl Into<PathBuf>, gateway_pool: Geometry, worker_pool: Geometry) -> Self {
        let directory = tempfile::Builder::new().prefix("rm").tempdir_in("/dev/shm");
        let directory = directory.expect("tmpfs takes a directory");
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).expect("it is ours");
        let runtime_dir = directory.path().to_owned();
        let config = HostConfig {
            runtime_dir,
            budget: PoolBudget::UNBOUNDED,
            gateway_pool,
            worker_pool,
            link_capacity: 256,
        };
        Self {
            host: Some(Host::start(config).expect("a host starts")),
            directory,
            guest: guest.into(),
            children: BTreeMap::new(),
            doomed: BTreeMap::new(),
            joined: BTreeMap::new(),
            links: BTreeSet::new(),
            dead: BTreeSet::new(),
            exits: BTreeMap::new(),
        }
    }

    /// The gateway's data plane.
    #[must_use]
    pub fn plane(&self) -> Plane {
        self.host().plane().clone()
    }

    /// Who has joined and is not known to be dead.
    pub fn joined(&self) -> impl Iterator<Item = Member> {
        self.joined.keys().copied()
    }

    /// Its process.
    #[must_use]
    pub fn pid_of(&self, member: Member) -> Option<i32> {
        self.joined.get(&member).copied()
    }

    /// Whose death is expected, joined or not.
    #[must_use]
    pub const fn doomed(&self) -> &BTreeMap<i32, DeathCause> {
        &self.doomed
    }

    /// That guest is going to die of this.
    pub fn expect(&mut self, pid: i32, cause: DeathCause) {
        self.doomed.insert(pid, cause);
    }

    /// Whose death has been reported.
    #[must_use]
    pub const fn dead(&self) -> &BTreeSet<Member> {
        &self.dead
    }

    /// How guests have ended whose death was not expected: by pid, the exit code, or none for a signal.
    #[must_use]
    pub const fn exits(&self) -> &BTreeMap<i32, Option<i32>> {
        &self.exits
    }

    /// Whether everybody who is doomed is known to be dead, and every death reported.
    #[must_use]
    pub fn reaped(&self) -> bool {
        let gone =
            |pid: &i32| !self.children.contains_key(pid) && !self.joined.values().any(|other| other == pid);
        self.doomed.keys().all(gone)
    }

    /// That guest was meant to end by itself.
    pub fn forget_exit(&mut self, pid: i32) {
        self.exits.remove(&pid);
    }

    /// Starts a guest.
    ///
    /// # Panics
    /// The program does not start.
    pub fn spawn(&mut self, role: &Role) -> i32 {
        let mut arguments = vec![OsString::from(self.directory.path())];
        match role {
            Role::Serve => arguments.push("serve".into()),
            Role::Chatter(by_way_of) => {
                arguments.push("chatter".into());
                arguments.extend(by_way_of.iter().map(|member| member.to_string().into()));
            }
            Role::Part => arguments.push("part".into()),
            Role::Quit(code) => arguments.extend(["quit".into(), code.to_string().into()]),
        }
        let command = Command::new(&self.guest).args(arguments).stdin(Stdio::null()).spawn();
        let child = command.expect("a guest starts");
        let pid = i32::try_from(child.id()).expect("a pid");
        self.children.insert(pid, child);
        pid
    }

    /// Kills a guest, if it is one of ours and lives.
    ///
    /// # Panics
    /// The signal cannot be sent.
    pub fn kill(&mut self, pid: i32) {
        // Not yet reaped, so the number is still its own.
        if self.children.contains_key(&pid) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("our own child takes a signal");
            self.expect(pid, DeathCause::Signal(9));
        }
    }

    /// Has a guest stand still, if it is one of ours and lives.
    ///
    /// # Panics
    /// The signal cannot be sent.
    pub fn stop(&mut self, pid: i32) {
        if self.children.contains_key(&pid) {
            kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("our own child takes a signal");
        }
    }

    /// One turn of the host. Every death must be one that was ordered, and be reported once and for what it is.
    ///
    /// # Panics
    /// Something happened that must not.
    pub fn turn(&mut self, at_most: Duration, take: &mut impl FnMut(Arrival)) {
        let mut events = Vec::new();
        let host = self.host.as_mut().expect("not closed");
        host.turn(at_most, || false, &mut |event| events.push(event)).expect("the host turns");
        assert_eq!(host.plane().lost_of_living(), 0, "a frame of a living sender was refused");
        for event in events {
            self.note(event, take);
        }
        self.reap();
    }

    /// Turns until `done` says so.
    ///
    /// # Panics
    /// It does not, within the time.
    pub fn until(
        &mut self,
        what: &str,
        limit: Duration,
        take: &mut impl FnMut(Arrival),
        mut done: impl FnMut(&mut Self) -> bool,
    ) {
        let give_up = Instant::now() + limit;
        while !done(self) {
            assert!(Instant::now() < give_up, "not within {limit:?}: {what}; {self:?}");
            self.turn(Duration::from_millis(5), take);
        }
    }

    /// Links everybody who has joined to everybody else, sooner or later.
    pub fn mesh(&mut self) {
        let joined: Vec<Member> = self.joined().collect();
        for (place, one) in joined.iter().enumerate() {
            for other in &joined[..place] {
                self.link(*one, *other);
                self.link(*other, *one);
            }
        }
    }

    fn link(&mut self, from: Member, to: Member) {
        if self.links.contains(&(from, to)) {
            return;
        }
        let mut events = Vec::new();
        let host = self.host.as_mut().expect("not closed");
        host.connect(from, to, &mut |event| events.push(event));
        for event in events {
            self.note(event, &mut |_| unreachable!("connecting brings no frames"));
        }
    }

    /// Whether links stand both ways between two members.
    #[must_use]
    pub fn linked(&self, one: Member, other: Member) -> bool {
        self.links.contains(&(one, other)) && self.links.contains(&(other, one))
    }

    /// Whether the residue of all dead processes is gone now.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.host().is_clean(Instant::now())
    }

    /// What the domain's transport has on disk, in order.
    ///
    /// # Panics
    /// It cannot be listed.
    #[must_use]
    pub fn residue(&self) -> BTreeSet<PathBuf> {
        cleaner::residue(self.host().transport()).expect("it can be listed").into_iter().collect()
    }

    /// The runtime directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends the domain, and says what is left of it in the runtime directory and in `/dev/shm`.
    ///
    /// # Panics
    /// The host does not end.
    #[must_use]
    pub fn close(mut self) -> Vec<PathBuf> {
        let host = self.host.take().expect("not closed before");
        let transport = host.transport().clone();
        host.close().expect("the domain's files can be removed");
        let mut left = cleaner::residue(&transport).expect("it can be listed");
        let directory = std::fs::read_dir(self.directory.path()).expect("it can be listed");
        left.extend(directory.flatten().map(|entry| entry.path()));
        left
    }

    fn host(&self) -> &Host {
        self.host.as_ref().expect("not closed")
    }

    fn note(&mut self, event: HostEvent, take: &mut impl FnMut(Arrival)) {
        match event {
            HostEvent::News { member, news } => panic!("{member} says {news:?}"),
            HostEvent::Joined { member, pid, hello: _ } => {
                self.joined.insert(member, pid);
            }
            // Its connection ends a moment before its last thread.
            HostEvent::Condemned { member } => {
                let pid = self.pid_of(member);
                let expected = pid.is_none_or(|pid| self.doomed.contains_key(&pid));
                assert!(expected, "{member} ({pid:?}) is condemned and was not doomed: {:?}", self.exits);
            }
            HostEvent::Died { member, pid, cause, name: _, burial: _ } => {
                assert_eq!(Some(&cause), self.doomed.get(&pid), "the cause of the death of {member} ({pid})");
                assert!(self.dead.insert(member), "the death of {member} ({pid}) is reported twice");
                self.joined.remove(&member);
                self.links.retain(|(from, to)| *from != member && *to != member);
            }
            // Of what follows.
            HostEvent::Dead { member: _, calls: _ } => {}
            HostEvent::LinkUp { from, to } => {
                self.links.insert((from, to));
            }
            HostEvent::Arrival(arrival) => take(arrival),
            HostEvent::Stillborn(burial) => panic!("nobody launches, and there is {burial:?}"),
            HostEvent::Launcher(event) => panic!("nobody launches, and there is {event:?}"),
            HostEvent::Reply { member, reply } => panic!("{member} replies to nothing: {reply:?}"),
        }
    }

    /// Lets the kernel tell how they ended: it does so when the parent has reaped.
    fn reap(&mut self) {
        let Self { children, doomed, exits, .. } = self;
        children.retain(|pid, child| match child.try_wait().expect("our own child") {
            Some(status) if !doomed.contains_key(pid) => {
                exits.insert(*pid, status.code());
                false
            }
            Some(_) => false,
            None => true,
        });
    }
}

impl fmt::Debug for Field {
    /// What a failed test wants to know of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Field")
            .field("children", &self.children.keys())
            .field("joined", &self.joined)
            .field("links", &self.links)
            .field(
                "doomed and not reaped",
                &self.doomed.keys().filter(|pid| self.children.contains_key(pid)).count(),
            )
            .field("exits", &self.exits)
            .finish_non_exhaustive()
    }
}

impl Drop for Field {
    /// A test that failed leaves no process and no file behind.
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            // One that is dead already needs no signal.
            drop(child.kill());
            drop(child.wait());
        }
        if let Some(host) = self.host.take() {
            // What is in the way of that is in the way of the next host, which says so.
            host.close().unwrap_or_default();
        }
    }
}
