//! A worker's way in: admitted, told of the others, and linked.

use std::os::fd::AsFd as _;
use std::time::Instant;

use super::admission::{Candidate, NotAdmitted};
use super::{Host, HostEvent, Phase, Standing, TellError, Worker, pools, say};
use crate::control::messages::ToWorker;
use crate::doorbell::Doorbell;
use crate::lease::reap::Vacancy;
use crate::memory::PoolFiles;
use crate::slot::{Member, PoolId};

// === impl Host ===

impl Host {
    /// Candidate => Worker
    pub(super) fn admit_candidates(&mut self) {
        while let Some((candidate, made)) = self.admission.next_candidate() {
            let outcome = made.and_then(|files| {
                let vacancy = self.vacancy().ok_or(NotAdmitted::Full)?;
                Ok((files, vacancy))
            });
            match outcome {
                Ok((files, vacancy)) => self.admit(candidate, files, vacancy),
                Err(refusal) => candidate.refuse(&refusal),
            }
        }
    }

    fn admit(&mut self, candidate: Candidate, files: PoolFiles, vacancy: Vacancy) {
        let (member, geometry) = (vacancy.member(), &self.config.worker_pool);
        let map = match pools::map(geometry, &files) {
            Ok(map) => map,
            Err(error) => {
                self.vacancies.push_front(vacancy);
                return candidate.refuse(&error.into());
            }
        };
        let welcome = candidate.welcome(member, &self.transport, geometry);
        let fds = [self.plane.domain().fd(), files.words.as_fd(), files.payload.as_fd()];
        let Candidate { mut channel, process, pid, hello, bell, pool } = candidate;
        // Not before the welcome can be meant: one who has it makes files, which somebody must bury.
        if let Err(error) = say(&mut channel, &ToWorker::Welcome(welcome), &fds) {
            tracing::info!(name = hello.name, %error, "worker_lost_before_welcome");
            self.vacancies.push_front(vacancy);
            return;
        }
        self.pools.add(&self.plane, pool, member, geometry.clone(), files, map);
        let tenancy = vacancy.admit(self.plane.domain());
        tracing::info!(%member, pid, name = hello.name, "worker_admitted");
        let (phase, standing) = (Phase::Mapping(Instant::now()), Standing::Trusted);
        let ready = hello.loading.is_none();
        let in_service = false;
        let worker =
            Worker { tenancy, pool, channel, process, pid, hello, bell, phase, standing, ready, in_service };
        self.workers.insert(member.slot, worker);
    }

    /// Mapping => Linking: all are told of each other, then the links to and from us are made.
    pub(super) fn introduce(
        &mut self,
        member: Member,
        take: &mut impl FnMut(HostEvent),
    ) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let worker = self.workers.get_mut(&member.slot).ok_or("a worker that is gone")?;
        if !matches!(worker.phase, Phase::Mapping(_)) {
            return Err("a second mapping".to_owned());
        }
        worker.phase = Phase::Linking;
        let pool = worker.pool;
        let bell = |bell: &Doorbell| bell.as_fd().try_clone_to_owned().map_err(|error| text(&error));
        let own_bell = Doorbell::from_fd(bell(&worker.bell)?).map_err(|error| text(&error))?;
        self.ends.peer_up(member, own_bell);
        self.pools.seal(pool).map_err(|error| text(&error))?;
        let gateways_bell = bell(&self.bell)?;
        let me = ToWorker::PeerUp { member: self.plane.me() };
        self.say(member, &me, &[gateways_bell.as_fd()]).map_err(|error| text(&error))?;
        for (id, offer) in self.pools.offers() {
            if id != pool {
                let [words, payload] =
                    self.pools.fds(id).ok_or("no file descriptors are left for its pools")?;
                self.say(member, &offer, &[words.as_fd(), payload.as_fd()]).map_err(|error| text(&error))?;
            }
        }
        self.introduce_to_others(member, pool).map_err(|error| text(&error))?;
        self.connect(self.plane.me(), member, take);
        self.connect(member, self.plane.me(), take);
        Ok(())
    }

    fn introduce_to_others(&mut self, newcomer: Member, pool: PoolId) -> Result<(), TellError> {
        let others: Vec<Member> = self.introduced().filter(|other| *other != newcomer).collect();
        for other in others {
            let [Some(theirs), Some(new)] = [other, newcomer].map(|member| self.bell_of(member)) else {
                continue;
            };
            self.say(newcomer, &ToWorker::PeerUp { member: other }, &[theirs.as_fd()])?;
            let Some([words, payload]) = self.pools.fds(pool) else { continue };
            let offer = self.pools.offer(pool);
            // One who does not listen is condemned for that, and is no reason to refuse the newcomer.
            let told = self.say(other, &ToWorker::PeerUp { member: newcomer }, &[new.as_fd()]);
            if let (Ok(()), Some(offer)) = (told, offer) {
                self.say(other, &offer, &[words.as_fd(), payload.as_fd()]).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Linking => Up
    pub(super) fn join_if_linked(&mut self, member: Member, take: &mut impl FnMut(HostEvent)) {
        let me = self.plane.me();
        let linked = self.links.is_up(me, member) && self.links.is_up(member, me);
        let Some(worker) = self.worker_mut(member) else { return };
        if linked && worker.phase == Phase::Linking {
            worker.phase = Phase::Up;
            tracing::info!(%member, pid = worker.pid, name = worker.hello.name, "worker_joined");
            take(HostEvent::Joined { member, pid: worker.pid, hello: worker.hello.clone() });
        }
    }

    /// Tells those workers that are ready, once.
    pub(super) fn tell_in_service(&mut self) {
        let able = self.workers.values_mut().filter(|worker| worker.ready && worker.phase == Phase::Up);
        for worker in able.filter(|worker| !worker.in_service) {
            worker.in_service = true;
            // It is gone, or does not read: its death, or its connection's end, is on the way.
            say(&mut worker.channel, &ToWorker::InService, &[]).unwrap_or_default();
        }
    }
}
