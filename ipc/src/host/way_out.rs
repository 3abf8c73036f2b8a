//! A worker's way out: condemned, laid out, buried, and told of.

use std::time::Instant;

use remotemedia_core::fault::DeathCause;

use super::grave::Grave;
use super::obituary::Obituary;
use super::{Host, HostEvent, PARTING, Phase, STEP, Standing, Worker};
use crate::control::messages::ToWorker;
use crate::lease::reap::Vacancy;
use crate::slot::{Member, PoolId, Slot};

// === impl Host ===

impl Host {
    /// What is done of a death at once, in the order that the module's head gives.
    pub(super) fn lay_out(&mut self, slot: Slot, take: &mut impl FnMut(HostEvent)) {
        let Some(worker) = self.workers.remove(&slot) else { return };
        let (member, condemned) = (worker.member(), worker.condemned());
        let remains = worker.tenancy.bury(self.plane.domain(), self.pools.ids());
        let severed = self.ends.peer_down(member, &mut |arrival| take(HostEvent::Arrival(arrival)));
        let links = self.links.sever_all_of(member);
        let calls = self.plane.domain().calls(slot);
        self.plane.domain().forget_calls(slot);
        take(HostEvent::Dead { member, calls });
        let Worker { process, pid, hello, pool, .. } = worker;
        self.graves.push_back(Grave::dig(remains, pid, hello.name.clone(), pool, severed, links));
        self.obituaries.push(Obituary::new(member, pid, process, hello, condemned));
    }

    /// A slot to live in. Where there is none else, the dead make room at once.
    pub(super) fn vacancy(&mut self) -> Option<Vacancy> {
        while self.vacancies.is_empty() {
            let grave = self.graves.pop_front()?;
            self.bury(grave);
        }
        self.vacancies.pop_front()
    }

    /// What is done of it after that. Whoever dies in between is laid beside it.
    pub(super) fn bury(&mut self, grave: Grave) {
        let (member, pool) = (grave.member(), grave.pool);
        let Grave { mut remains, pid, name, severed, links, .. } = grave;
        drop((severed, links));
        let pools = self.plane.pools();
        let held = pools.iter().map(|pool| pool.reap(&mut remains)).sum::<u32>();
        // One that was destroyed meanwhile had no holder.
        let gone: Vec<PoolId> =
            remains.unreaped().filter(|id| pools.iter().all(|pool| pool.id() != *id)).collect();
        gone.into_iter().for_each(|id| remains.pool_destroyed(id));
        self.pools.retire(pool);
        if let Err(error) = self.cleaner.bury(u32::try_from(pid).unwrap_or_default()) {
            tracing::error!(%member, %error, "worker_residue_stays");
        }
        tracing::info!(%member, pid, name, held, "worker_buried");
        let told: Vec<Member> = self.introduced().collect();
        for other in told {
            self.say(other, &ToWorker::PeerDown { member }, &[]).unwrap_or_default();
        }
        match remains.vacate(self.plane.domain()) {
            Ok(vacancy) => self.vacancies.extend(vacancy),
            Err(remains) => tracing::error!(?remains, "slot_lost"),
        }
    }

    pub(super) fn publish_obituaries(&mut self, take: &mut impl FnMut(HostEvent)) {
        let (now, launchers) = (Instant::now(), &mut self.launchers);
        self.obituaries.retain_mut(|obituary| match obituary.publish(now, launchers) {
            Some(event) => {
                take(event);
                false
            }
            None => true,
        });
        let (workers, obituaries) = (&self.workers, &self.obituaries);
        let is_awaited = |pid| {
            workers.values().any(|worker| worker.pid == pid) || obituaries.iter().any(|one| one.pid() == pid)
        };
        let is_awaited_as = |invocation| {
            let awaited = workers.values().map(|worker| worker.hello.invocation);
            awaited.chain(obituaries.iter().map(Obituary::invocation)).any(|one| one == Some(invocation))
        };
        let stillborn = launchers.stillborn(is_awaited).into_iter();
        stillborn.chain(launchers.reports.stillborn(is_awaited_as)).for_each(take);
    }

    pub(super) fn destroy_retired_pools(&mut self) {
        for id in self.pools.take_idle(&self.plane) {
            self.plane.forget_pool(id);
            let told: Vec<Member> = self.introduced().collect();
            for member in told {
                self.say(member, &ToWorker::PoolDown { pool: id }, &[]).unwrap_or_default();
            }
        }
    }

    /// Silence is no lie: who owes a step for so long hangs. Who has left and lives on breaks a rule.
    pub(super) fn condemn_the_slow(&mut self, take: &mut impl FnMut(HostEvent)) {
        let slow_ends = self.links.overdue(STEP);
        for worker in self.workers.values_mut() {
            let member = worker.member();
            let mapping_late = matches!(worker.phase, Phase::Mapping(since) if since.elapsed() > STEP);
            if (mapping_late || slow_ends.contains(&member)) && worker.is_trusted() {
                tracing::warn!(%member, pid = worker.pid, mapping_late, "worker_silent");
                worker.condemn(DeathCause::Hang);
                take(HostEvent::Condemned { member });
            } else if matches!(worker.standing, Standing::Parted(since) if since.elapsed() > PARTING) {
                tracing::warn!(%member, problem = "it has left, and lives on", "worker_condemned");
                worker.condemn(DeathCause::Protocol);
            }
        }
    }
}
