//! What nodes ask of the machine and of the pools, as far as it is known without a worker.

use crate::fault::PlacementError;
use crate::manifest::{Capabilities, CpuRequirement, GpuRequirement, NodeManifest, RuntimeHint};

/// A machine on which nodes run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Its name in the network; empty if it cannot be read.
    pub name: String,
    /// Processors that may be used.
    pub cores: usize,
    /// Main memory in bytes; none if it cannot be read.
    pub memory_bytes: Option<u64>,
}

/// Characters of a value that a message shows.
const SHOWN: usize = 200;

/// What a node asks that cannot be had: on this machine, if it is known which that is, as all nodes run on one.
#[must_use]
pub fn problems(node: &NodeManifest, machine: Option<&Machine>) -> Vec<PlacementError> {
    let mut asked = Asked { node, problems: Vec::new() };
    if let Some(machine) = machine {
        asked.check_host(machine);
    }
    asked.check_hint();
    if let Some(Capabilities { gpu, cpu, memory_gb }) = &node.capabilities {
        gpu.iter().for_each(|gpu| asked.check_gpu(gpu));
        cpu.iter().zip(machine).for_each(|(cpu, machine)| asked.check_cpu(cpu, machine));
        memory_gb.iter().for_each(|memory_gb| asked.check_memory(*memory_gb, machine));
    }
    asked.problems
}

/// What a node asks for, and what of it cannot be had.
struct Asked<'a> {
    node: &'a NodeManifest,
    problems: Vec<PlacementError>,
}

// === impl Machine ===

impl Machine {
    /// Whether a manifest that names `host` means this machine.
    #[must_use]
    pub fn answers_to(&self, host: &str) -> bool {
        let names = ["", "localhost", "127.0.0.1", "::1", self.name.as_str()];
        names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

// === impl Asked ===

impl Asked<'_> {
    fn check_host(&mut self, machine: &Machine) {
        let host = &self.node.host;
        if !machine.answers_to(host) {
            let have = format!("nodes run on this machine, '{}': leave it empty", machine.name);
            self.refuse("host", host, have);
        }
    }

    /// Interpreters of which no kind of pool is.
    fn check_hint(&mut self) {
        let hint = self.node.runtime_hint;
        match hint {
            RuntimeHint::Rustpython | RuntimeHint::CpythonWasm => {
                let have = "no pool runs that: write auto, or cpython for nodes in Python";
                self.refuse("runtime_hint", hint.name(), have.to_owned());
            }
            // Whether there is such a pool, its workers say.
            RuntimeHint::Unspecified | RuntimeHint::Auto | RuntimeHint::Cpython => {}
        }
    }

    /// Workers announce no graphics processors, so one that is required cannot be had; one that is not is a wish.
    fn check_gpu(&mut self, gpu: &GpuRequirement) {
        self.check_number("capabilities.gpu.min_memory_gb", gpu.min_memory_gb);
        if gpu.required {
            let kind = if gpu.kind.is_empty() { "any" } else { &gpu.kind };
            self.refuse("capabilities.gpu", kind, "no pool declares a gpu".to_owned());
        }
    }

    fn check_cpu(&mut self, cpu: &CpuRequirement, machine: &Machine) {
        const ARCH: &str = std::env::consts::ARCH;
        if !cpu.arch.is_empty() && cpu.arch != ARCH {
            self.refuse("capabilities.cpu.arch", &cpu.arch, format!("this machine is {ARCH}"));
        }
        if usize::try_from(cpu.cores).is_ok_and(|asked| asked > machine.cores) {
            let have = format!("this machine has {}", machine.cores);
            self.refuse("capabilities.cpu.cores", &cpu.cores.to_string(), have);
        }
    }

    fn check_memory(&mut self, asked: f64, machine: Option<&Machine>) {
        const WHAT: &str = "capabilities.memory_gb";
        self.check_number(WHAT, asked);
        let has = machine.and_then(|machine| machine.memory_bytes).map(gigabytes);
        if let Some(has) = has.filter(|has| asked > *has && asked.is_finite()) {
            self.refuse(WHAT, &asked.to_string(), format!("this machine has {has:.1}"));
        }
    }

    fn check_number(&mut self, what: &str, gigabytes: f64) {
        if !gigabytes.is_finite() || gigabytes < 0.0 {
            self.refuse(what, &gigabytes.to_string(), "a number of GB is 0 or more".to_owned());
        }
    }

    fn refuse(&mut self, what: &str, value: &str, have: String) {
        self.problems.push(PlacementError::Unsatisfied {
            node: self.node.id.clone(),
            what: what.to_owned(),
            // What comes from outside is as long as it likes.
            value: value.chars().take(SHOWN).collect(),
            have,
        });
    }
}

#[expect(clippy::cast_precision_loss, reason = "what is told of it has one digit behind the point")]
fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gigabytes_that_are_no_number_are_refused() {
        let gpu = GpuRequirement { min_memory_gb: -1.0, ..GpuRequirement::default() };
        for (gpu, memory_gb, field) in
            [(None, Some(f64::NAN), "memory_gb"), (Some(gpu), None, "min_memory_gb")]
        {
            let capabilities = Some(Capabilities { gpu, cpu: None, memory_gb });
            let node = NodeManifest { capabilities, ..NodeManifest::default() };
            let said: Vec<String> = problems(&node, None).iter().map(ToString::to_string).collect();
            let [said] = said.as_slice() else { panic!("{said:?}") };
            assert!(said.contains(field) && said.ends_with("a number of GB is 0 or more"), "{said}");
        }
    }

    #[test]
    fn all_that_a_node_asks_in_vain_is_told_and_of_an_unknown_machine_what_none_has() {
        let node = NodeManifest {
            host: "mars".to_owned(),
            runtime_hint: RuntimeHint::Rustpython,
            capabilities: Some(Capabilities {
                gpu: Some(GpuRequirement { required: true, ..GpuRequirement::default() }),
                cpu: Some(CpuRequirement { cores: 100_000, arch: "mips".to_owned() }),
                memory_gb: Some(1e9),
            }),
            ..NodeManifest::default()
        };
        let machine = Machine { name: "here".to_owned(), cores: 2, memory_bytes: Some(1 << 30) };
        assert_eq!(problems(&node, Some(&machine)).len(), 6);
        assert_eq!(problems(&node, None).len(), 2);
        assert!(problems(&NodeManifest::default(), Some(&machine)).is_empty());
    }
}
