//! A machine whose process 1 is systemd: for what systemd does with our units.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use nix::sched::{CloneFlags, setns};
use remotemedia_cli::admin::Status;
use tokio::sync::oneshot;
use tonic::transport::{Endpoint, Uri};
use tower::service_fn;

use crate::client::{Client, PATIENCE};
use crate::deadline::{until, within};
use crate::plant::{program, python};
use crate::up::Done;

/// A private systemd over this machine's files, which stay as they are. Dropped, all in it is killed, and nothing is left of it;
/// so too if this process is killed.
#[derive(Debug)]
pub struct Machine {
    /// `tests/systemd/machine`, which ends when its standard input does.
    watch: Child,
    /// The process id of its systemd.
    init: i32,
}

/// The gateway's port in the network of a [`Machine`].
#[derive(Clone, Debug)]
pub struct Door(Arc<File>);

/// The slowest of what is done in there: a start, a stop, an installation.
pub const SLOW: Duration = Duration::from_secs(30);

/// Where units listen, as they come.
pub const GRPC: &str = "127.0.0.1:50051";

/// Where this checkout is seen in there.
pub const CHECKOUT: &str = "/opt/checkout";

/// How an interpreter with the SDK is called in there.
pub const INTERPRETER: &str = "LD_LIBRARY_PATH=/opt/python/lib /opt/python/bin/python3";

/// What keeps whatever runs in there from this machine's clock, kernel log, modules and boot: no namespace has its own.
const NOT_THEIRS: &str =
    "-sys_time,-wake_alarm,-sys_boot,-sys_module,-sys_rawio,-syslog,-mac_admin,-mac_override";

/// Settings for all Python workers: where the interpreter of the tests has its libraries.
const PYTHON: &str = "\
PYTHON=/opt/python/bin/python3
PYTHONPATH=/etc/remotemedia/nodes.d:/opt/modules:/opt/checkout/tests/python
LD_LIBRARY_PATH=/opt/python/lib
";

// === impl Machine ===

impl Machine {
    /// Boots it, with nothing installed.
    ///
    /// # Panics
    /// It cannot be: this needs root, namespaces, cgroups and systemd's own files.
    #[must_use]
    pub fn boot() -> Self {
        let checkout = checkout();
        let programs = program("remotemedia").parent().expect("a program lies in a directory").to_owned();
        let [interpreter, modules] = interpreter();
        let mut watch = Command::new(checkout.join("tests/systemd/machine"))
            .args(
                [
                    (&programs, "built"),
                    (&checkout, "checkout"),
                    (&interpreter, "python"),
                    (&modules, "modules"),
                ]
                .map(|(from, to)| format!("{}:/opt/{to}", from.display())),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/systemd/machine starts");
        let mut first = String::new();
        let said = watch.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut first));
        assert!(said.is_some_and(|read| read.is_ok()), "tests/systemd/machine speaks");
        let Some(init) = first.trim().strip_prefix("ready ").and_then(|pid| pid.parse().ok()) else {
            drop(watch.stdin.take());
            let ended = watch.wait();
            panic!("no machine was booted ({ended:?}): this needs root and namespaces; what it said is above")
        };
        Self { watch, init }
    }

    /// Boots it and installs this checkout's service, with an interpreter that has its SDK.
    ///
    /// # Panics
    /// It cannot be.
    pub async fn installed() -> Self {
        let machine = Self::boot();
        machine.install().await;
        machine
    }

    /// The same, started.
    ///
    /// # Panics
    /// It does not start.
    pub async fn serving() -> Self {
        let machine = Self::installed().await;
        machine.succeed("systemctl start remotemedia.target").await;
        machine
    }

    /// Installs this checkout's service, or installs it once more.
    ///
    /// # Panics
    /// It cannot be.
    pub async fn install(&self) {
        self.succeed("/opt/checkout/deploy/systemd/install --programs /opt/built").await;
        self.tell_of_python();
    }

    /// Has Python workers run in the interpreter of the tests.
    pub fn tell_of_python(&self) {
        self.write("/etc/remotemedia/python.conf", PYTHON);
    }

    /// Runs words of a shell in there. Gives what they printed.
    ///
    /// # Panics
    /// They fail.
    pub async fn succeed(&self, words: &str) -> String {
        let done = self.run(words).await;
        let printed = done.stdout.join("\n");
        assert_eq!(done.code, Some(0), "`{words}` printed {printed:?} and said {:?}", done.stderr);
        printed
    }

    /// What `nsenter` is told before a command that it runs in there.
    fn entering(&self) -> [String; 8] {
        let init = self.init.to_string();
        ["-t", &init, "-a", "--", "setpriv", "--bounding-set", NOT_THEIRS, "--"].map(str::to_owned)
    }

    /// Runs words of a shell in there, to their end.
    ///
    /// # Panics
    /// They cannot be run, or do not end.
    pub async fn run(&self, words: &str) -> Done {
        let mut command = tokio::process::Command::new("nsenter");
        command.args(self.entering());
        command.args(["/bin/sh", "-c", words]).stdin(Stdio::null()).kill_on_drop(true);
        let output = within(SLOW, words, command.output()).await.expect("nsenter starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let stdout = text(&output.stdout).lines().map(str::to_owned).collect();
        Done { code: output.status.code(), stdout, stderr: text(&output.stderr) }
    }

    /// The gateway's port in there.
    ///
    /// # Panics
    /// It has no network.
    #[must_use]
    pub fn door(&self) -> Door {
        let namespace = File::open(format!("/proc/{}/ns/net", self.init));
        Door(Arc::new(namespace.expect("a machine has a network")))
    }

    /// A client of the gateway in there, with a connection of its own.
    ///
    /// # Panics
    /// Nobody listens.
    pub async fn client(&self) -> Client {
        self.door().client().await
    }

    /// What `remotemedia status` says.
    ///
    /// # Panics
    /// It fails.
    pub async fn status(&self) -> Status {
        let said = self.succeed("remotemedia status --json").await;
        serde_json::from_str(&said).expect("--json prints JSON")
    }

    /// What systemd says of a unit.
    ///
    /// # Panics
    /// It says nothing.
    pub async fn property(&self, unit: &str, name: &str) -> String {
        self.succeed(&format!("systemctl show --property {name} --value {unit}")).await
    }

    /// The main process of a unit, as it counts in there.
    ///
    /// # Panics
    /// It has none.
    pub async fn pid(&self, unit: &str) -> u32 {
        let pid = self.property(unit, "MainPID").await.parse().expect("a process id is a number");
        assert_ne!(pid, 0, "{unit} has no process");
        pid
    }

    /// Waits until a unit has this in one of its properties.
    ///
    /// # Panics
    /// It still has not when the time is over.
    pub async fn until(&self, unit: &str, name: &str, value: &str) -> Duration {
        until(SLOW, async || {
            let found = self.property(unit, name).await;
            if found == value { Ok(()) } else { Err(format!("{name} of {unit} is {found}, not {value}")) }
        })
        .await
    }

    /// Waits until the gateway's status is so.
    ///
    /// # Panics
    /// It still is not when the time is over.
    pub async fn until_status(&self, is_so: impl Fn(&Status) -> bool) -> Duration {
        until(SLOW, async || {
            let status = self.status().await;
            if is_so(&status) { Ok(()) } else { Err(status) }
        })
        .await
    }

    /// What a unit has written to the journal, and what systemd has written about it.
    ///
    /// # Panics
    /// There is no journal.
    pub async fn journal(&self, unit: &str) -> String {
        self.succeed(&format!("journalctl --sync; journalctl --no-pager --output cat --unit {unit}")).await
    }

    /// Writes a file in there, readable for all.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.file(path);
        fs::create_dir_all(path.parent().expect("a file lies in a directory")).expect("it is a directory");
        fs::write(path, text).expect("it is written");
    }

    /// Where a file of it is seen from here.
    #[must_use]
    pub fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// Ends it, and looks whether anything is left.
    ///
    /// # Panics
    /// Something is.
    pub fn finish(mut self) {
        let name = format!("remotemedia-machine-{}", self.watch.id());
        self.end();
        assert!(!Path::new("/tmp").join(&name).exists(), "/tmp/{name} is left");
        let groups = fs::read_to_string("/proc/self/cgroup").expect("this process is in cgroups");
        for group in groups.lines().filter_map(|line| line.rsplit_once(':')) {
            let controller = group.0.rsplit(':').next().unwrap_or_default();
            let mount = Path::new("/sys/fs/cgroup").join(controller.trim_start_matches("name="));
            let left = mount.join(group.1.trim_start_matches('/')).join(&name);
            assert!(!left.exists(), "{} is left", left.display());
        }
    }

    fn end(&mut self) {
        drop(self.watch.stdin.take());
        // It kills what is there, and removes it, in bounded time.
        let _ended = self.watch.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            let journal = Command::new("nsenter")
                .args(self.entering())
                .args(["journalctl", "--no-pager", "--output", "short-precise", "--lines", "120"])
                .output();
            let journal = journal.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            // Where standard error is closed nobody reads it.
            let _read = io::Write::write_all(
                &mut io::stderr(),
                format!("--- the machine's journal:\n{}\n", journal.unwrap_or_default()).as_bytes(),
            );
        }
        self.end();
    }
}

// === impl Door ===

impl Door {
    /// A client with a connection of its own.
    ///
    /// # Panics
    /// Nobody listens.
    pub async fn client(&self) -> Client {
        let namespace = Arc::clone(&self.0);
        let connector = service_fn(move |_: Uri| {
            let namespace = Arc::clone(&namespace);
            async move { connect(namespace).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_shared(format!("http://{GRPC}")).expect("an address");
        let channel = within(PATIENCE, "the connection", endpoint.connect_with_connector(connector)).await;
        Client::over(channel.expect("the gateway's socket takes connections"))
    }
}

/// A connection to the gateway's port in another network. The socket stays there when the thread that made it is gone.
async fn connect(namespace: Arc<File>) -> io::Result<tokio::net::TcpStream> {
    let (told, stream) = oneshot::channel();
    // A namespace is a thread's own, and this one ends with its connection.
    let thread = thread::spawn(move || {
        let connected =
            setns(&*namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from).and_then(|()| {
                let address: SocketAddr = GRPC.parse().map_err(io::Error::other)?;
                let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
                stream.set_nonblocking(true)?;
                Ok(stream)
            });
        drop(told.send(connected));
    });
    let stream = stream.await.map_err(io::Error::other)??;
    thread.join().map_err(|_panic| io::Error::other("the thread that connects panicked"))?;
    tokio::net::TcpStream::from_std(stream)
}

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in a workspace").to_owned()
}

/// The interpreter's installation, and the packages of the tests' environment.
fn interpreter() -> [PathBuf; 2] {
    let question = "import sys, sysconfig; print(sys.base_prefix); print(sysconfig.get_path('purelib'))";
    let answer = Command::new(python()).args(["-c", question]).output().expect("the interpreter runs");
    let answer = String::from_utf8(answer.stdout).expect("a path is text");
    let mut lines = answer.lines().map(PathBuf::from);
    [lines.next().expect("it has a prefix"), lines.next().expect("it has packages")]
}
