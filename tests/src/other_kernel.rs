//! A kernel that is not this machine's, as a process: Debian's `user-mode-linux`, over this machine's files. For what only
//! another kernel has, such as the second version of cgroups with the memory controller.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, statvfs};
use tempfile::TempDir;

use crate::deadline::TIMES;
use crate::plant::Process;

/// What ran there to its end.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it and the kernel said, in lines.
    pub said: Vec<String>,
}

/// The kernel's program.
const KERNEL: &str = "/usr/bin/linux.uml";
/// What it has of memory: a service with small frame pools, and as much again.
const MEMORY: &str = "mem=768M";
/// It has one processor, and every page of a process costs it two switches.
const SLOWER: u32 = 8;
/// How the line begins that tells the exit code.
const ENDED: &str = "ended with ";

/// Runs a program there in a cgroup of the second version, beside which others with limits of memory may be made. It is
/// root, sees this machine's files and changes none, and has a network, `/dev/shm` and processes of its own.
///
/// # Panics
/// The kernel is not installed, or the program does not end in time.
pub async fn run(program: &Path, words: &[&str], limit: Duration) -> Ran {
    assert!(
        Path::new(KERNEL).is_file(),
        "no {KERNEL}: run scripts/test, or install Debian's user-mode-linux"
    );
    let dir = tempfile::tempdir().expect("a directory of the test's own");
    let init = format!("init={}", first_process(&dir, program, words));
    let place = format!("uml_dir={}", dir.path().display());
    let root = ["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "panic=-1"];
    let console = ["con0=null,fd:1", "con=null", "ssl=null"];
    let told = [MEMORY, &init, &place];
    let arguments: Vec<&str> = told.into_iter().chain(root).chain(console).collect();
    // Its memory is a file that it maps as code, too.
    let memory = if may_run_code("/dev/shm") { Path::new("/dev/shm") } else { dir.path() };
    let kernel =
        Process::start_group("kernel", Path::new(KERNEL), &arguments, &[("TMPDIR", memory.as_os_str())]);
    kernel.ended(limit).await;
    let said = kernel.printed();
    let code = said.iter().find_map(|line| line.trim_end().strip_prefix(ENDED)?.parse().ok());
    Ran { code: code.unwrap_or_else(|| panic!("it did not end by itself: {said:#?}")), said }
}

/// A script that makes a machine of the kernel, runs the program, and turns it off.
fn first_process(dir: &TempDir, program: &Path, words: &[&str]) -> String {
    let here = std::env::current_dir().expect("there is a current directory");
    let script = format!(
        "#!/bin/sh\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
         mkdir -p /dev/shm\n\
         mount -t tmpfs -o mode=1777 tmpfs /dev/shm\n\
         ip link set lo up\n\
         for dir in /sys/fs/cgroup /sys/fs/cgroup/session; do\n\
             mkdir -p $dir/session; echo +memory > $dir/cgroup.subtree_control\n\
         done\n\
         echo $$ > /sys/fs/cgroup/session/session/cgroup.procs\n\
         export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/dev/shm TMPDIR=/dev/shm {TIMES}={SLOWER}\n\
         cd '{}'; '{}' {} 2>&1\n\
         echo \"{ENDED}$?\"\n\
         echo o > /proc/sysrq-trigger\n\
         exec sleep 60\n",
        here.display(),
        program.display(),
        words.join(" ")
    );
    let path = dir.path().join("first-process");
    fs::write(&path, script).expect("the script is written");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
    path.display().to_string()
}

fn may_run_code(mount: &str) -> bool {
    statvfs(mount).is_ok_and(|found| !found.flags().contains(FsFlags::ST_NOEXEC))
}
