//! The command line: the only place where arguments and the environment are read.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use remotemedia_core::launching::Invocation;
use remotemedia_core::token::Token;

use crate::config::{Memory, Overrides, Programs};
use crate::input::InputKind;
use crate::launch::Home;
use crate::new_node::NodeClass;

const EXAMPLES: &str = "\
Examples:
  remotemedia run speech.yaml -i talk.wav -o speech.jsonl
      Brings up a private gateway with two workers, runs the pipeline on the recording, and removes them.
  remotemedia up
      Serves until Ctrl-C. In another terminal `remotemedia status` and `remotemedia nodes` say what there is.
  remotemedia run speech.yaml -i talk.wav --endpoint http://127.0.0.1:50051 --stream-ms 20
      Streams the recording in chunks of 20 ms to a service that runs already.

Exit codes:
  0    done; of `up`: stopped by a signal, with nothing left behind
  1    the pipeline ended with an error: a node failed, a worker died, a limit was met; of `validate`: it has problems
  2    the command line, a configuration, a pipeline or an input is wrong
  3    the service did not start, or could not be reached
  4    an output could not be written
  130  `run` was interrupted by Ctrl-C; 143 by SIGTERM, 129 by SIGHUP";

const UP_EXAMPLES: &str = "\
Example configuration:
  [gateway]
  grpc = \"127.0.0.1:50051\"      # port 0 picks a free one
  admin = \"127.0.0.1:9464\"
  runtime_dir = \"/run/user/1000/remotemedia-dev\"
  config = \"gateway.toml\"       # limits, token_file and the rest: see remotemedia-gateway --help

  [[pool]]
  kind = \"rust\"
  workers = 4

  [[pool]]
  kind = \"mine\"
  workers = 1
  memory = \"2GiB\"                # of each: a cgroup where one may be made, else RLIMIT_DATA
  command = [\"/opt/mine/bin/my-worker\", \"--device\", \"0\"]

  [quarantine]                   # of a worker that keeps dying; these are the defaults
  deaths = 5                     # in a row, none of them 10 s or more after it was ready,
  within_s = 600                 # in this time:
  pause_s = 60                   # it is not started for so long, then tried once; doubles when that fails,
  longest_pause_s = 900          # up to this

Flags win over the file. When all workers are ready, one line is printed on standard output:
  {\"event\":\"ready\",\"grpc\":\"HOST:PORT\",\"admin\":\"HOST:PORT\",\"runtime_dir\":\"…\"}
Logs go to standard error, each line with the name of the process that wrote it. What dies is
started again, after a pause that doubles with each failure; what keeps dying is left alone for longer,
unless `remotemedia release NAME` ends that. A second Ctrl-C does not wait for
sessions to end.";

const RUN_EXAMPLES: &str = "\
Examples:
  remotemedia run resample.yaml -i talk.wav -o talk16k.wav
  remotemedia run speech.yaml -i talk.wav --stream-ms 20
  remotemedia run voice.yaml -i talk.wav -o answer.wav -o transcript.jsonl
  remotemedia run speech.yaml -i talk.wav --json | jq .latency_ms

A pipeline:
  version: v1
  nodes:
    - { id: resample, node_type: AudioResample, params: { target_sample_rate: 16000 } }
    - { id: vad, node_type: VAD }
  connections:
    - { from: resample, to: vad }

The input's name says what it is: .wav (8, 16, 24 or 32-bit integer, or 32-bit float), .json (one document),
.jsonl (one a line), .txt. Without -o, results are printed as JSON lines; a name that ends in .wav takes audio.";

const VALIDATE_EXAMPLES: &str = "\
Examples:
  remotemedia validate speech.yaml
  remotemedia validate speech.yaml --endpoint http://127.0.0.1:50051
  remotemedia validate speech.yaml --json | jq '.problems[].nearest'

Each problem is a line that editors understand:
  speech.yaml:6:16: nodes[1].node_type: node 'vad' is of type 'VDA', which no worker offers: there are …; did you mean 'VAD'?

Exit codes:
  0  the pipeline can be run
  1  it has problems
  2  the command line is wrong, or the file cannot be read
  3  nobody says which node types there are: the service does not answer, or the stock worker is not installed";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  remotemedia doctor
      Kernel, cgroups, limits, memory, shared memory, the runtime directory, programs, and the service that runs, if one does.
  remotemedia doctor --workers 8 --runtime-dir /run/remotemedia
      The same for a service with eight workers, in the directory that systemd makes.
  remotemedia doctor --json | jq -r '.findings[] | select(.level == \"problem\") | .remedy'

Run it as the user whom the service runs as: limits and permissions are those of who asks. A line is one finding:
  ok        as it should be
  note      works, with less than there could be; what is lost, and what to do about it
  problem   a service would not start here, or does not serve; what to do about it

It tries what can be tried: makes a frame pool and a cgroup and removes them. It changes nothing else, and removes no stale file.

Exit codes:
  0  no problem
  1  there are problems
  2  the command line is wrong";

const REPLAY_EXAMPLES: &str = "\
Examples:
  remotemedia replay 1763765000123-detect.capture --show
  remotemedia replay 1763765000123-resample.capture --under 'gdb --args'
  remotemedia replay 1763765000123-detect.capture -- python -X faulthandler -m remotemedia.worker my_nodes
  remotemedia replay 1763765000123-detect.capture -- gdb --args python -m remotemedia.worker my_nodes

The pipeline is run as far as the node that died, by a private gateway and one worker that has this terminal.

Exit codes:
  0  the node lived
  1  it died once more, or failed
  2  the file is no capture, or it is not said how the worker is started
  3  the gateway or the worker did not start";

const TOKEN_EXAMPLES: &str = "\
Examples:
  remotemedia token new --name laptop --file /etc/remotemedia/tokens
  remotemedia-gateway --token-file /etc/remotemedia/tokens
  REMOTEMEDIA_TOKEN=rmt_… remotemedia run speech.yaml -i talk.wav --endpoint http://127.0.0.1:50051

The file keeps NAME and the SHA-256 of the token: enough, since a token is 256 random bits that nobody can guess.
Take a line out of it, and its token is refused a second later; calls that run are not cut.";

const NEW_NODE_EXAMPLES: &str = "\
Examples:
  remotemedia new-node Loudness
  remotemedia new-node Loudness --dir nodes

Writes loudness_node.py and test_loudness_node.py, a pyproject.toml, a pipeline to run the node in, an up.toml to
serve it with, and a README that says how. What is there already is not overwritten.";

/// Runs pipelines for audio, video and machine learning in processes that may die, over shared memory.
#[derive(Parser, Debug)]
#[command(name = "remotemedia", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Who calls: a token of `remotemedia token new`, for a service that asks for one.
    #[arg(long, global = true, env = "REMOTEMEDIA_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<Token>,

    /// Where private runtime directories are made, instead of /dev/shm.
    #[arg(long, global = true, hide = true, env = "XDG_RUNTIME_DIR", value_name = "DIR")]
    user_dir: Option<PathBuf>,

    /// The gateway's program, instead of the one beside this program.
    #[arg(long, global = true, hide = true, value_name = "PROGRAM")]
    gateway_bin: Option<PathBuf>,

    /// The stock worker's program, instead of the one beside this program.
    #[arg(long, global = true, hide = true, value_name = "PROGRAM")]
    worker_bin: Option<PathBuf>,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Start a gateway and its workers, and keep them running until a signal.
    Up(UpArgs),
    /// Run a pipeline on a file, on a service that runs or on a private one.
    Run(RunArgs),
    /// Say all that is wrong with a pipeline, without running it.
    Validate(ValidateArgs),
    /// List the node types that can be run.
    Nodes(NodesArgs),
    /// Say what a running service does.
    Status(StatusArgs),
    /// Look at this machine, and say what is in the way of a service and what to do about it.
    Doctor(DoctorArgs),
    /// Run an input that killed workers once more, in the foreground.
    Replay(ReplayArgs),
    /// Start a worker that is in quarantine, because what it died of is mended.
    Release(ReleaseArgs),
    /// Replace workers one after the other, each by a fresh one that serves already: nobody is refused.
    Restart(RestartArgs),
    /// Make tokens for clients.
    Token(TokenArgs),
    /// Wait for the death of a launcher, and kill what it leaves.
    #[command(hide = true)]
    Warden,
    /// Tell the gateway how a worker ended that was a unit of systemd: what its unit runs as ExecStopPost=.
    #[command(hide = true)]
    ReportExit(ReportExitArgs),
    /// Write a node in Python to begin with, and a test of it.
    NewNode(NewNodeArgs),
}

/// `up`
#[derive(Args, Debug)]
#[command(after_help = UP_EXAMPLES)]
pub struct UpArgs {
    /// A configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to serve gRPC: a loopback HOST:PORT, or unix:PATH. [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDR")]
    pub grpc: Option<String>,
    /// Where to serve health, metrics and status. [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
    /// Where to keep sockets and shared state. [default: a fresh private directory]
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
    /// How many workers to start. [default: 2]
    #[arg(long, value_name = "N")]
    pub workers: Option<u16>,
    /// How much memory each worker may use, such as 2GiB. Frame pools do not count. [default: not bounded]
    #[arg(long, value_name = "SIZE")]
    pub worker_memory: Option<Memory>,
}

/// `run`
#[derive(Args, Debug)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// The pipeline: a .yaml, .yml or .json file.
    pub pipeline: PathBuf,
    /// The file to feed into the pipeline's entry.
    #[arg(short, long, value_name = "FILE")]
    pub input: PathBuf,
    /// Where to put the results: a .wav file for audio, else JSON lines. Given twice: one of each.
    #[arg(short, long, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    /// How to read the input, if its name does not say.
    #[arg(long, value_enum, value_name = "KIND")]
    pub input_kind: Option<InputKind>,
    /// A service that runs: http://HOST:PORT or unix:PATH. [default: a private one]
    #[arg(long, value_name = "URL", conflicts_with = "runtime_dir")]
    pub endpoint: Option<String>,
    /// The runtime directory of a service that runs.
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
    /// Stream the input: audio in chunks of N milliseconds, the rest line by line.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub stream_ms: Option<u32>,
    /// Send each chunk of audio when its time has come, as a microphone would, and count the answers that are late.
    #[arg(long, requires = "stream_ms")]
    pub real_time: bool,
    /// How long the run, or in a stream one chunk, may take. [default: the service's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout_ms: Option<u64>,
    /// How long to wait for workers that are still loading a node; 0: not at all. A stream is told what it waits for.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub start_ms: u64,
    /// Print the summary as one JSON object, with the results in it unless -o takes them; an error as one too.
    #[arg(long)]
    pub json: bool,
}

/// `validate`
#[derive(Args, Debug)]
#[command(after_help = VALIDATE_EXAMPLES)]
pub struct ValidateArgs {
    /// The pipeline: a .yaml, .yml or .json file.
    pub pipeline: PathBuf,
    /// A service that runs, whose node types count: http://HOST:PORT or unix:PATH. [default: the stock node types]
    #[arg(long, value_name = "URL", conflicts_with = "runtime_dir")]
    pub endpoint: Option<String>,
    /// The runtime directory of a service that runs, whose node types count.
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
    /// Print one JSON object: file, valid, and problems with line, column, path, problem, value, allowed, nearest.
    #[arg(long)]
    pub json: bool,
}

/// `nodes`
#[derive(Args, Debug)]
pub struct NodesArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// A service that runs, here or elsewhere. It tells the names only.
    #[arg(long, value_name = "URL", conflicts_with = "runtime_dir")]
    pub endpoint: Option<String>,
    /// The runtime directory of a service that runs. [default: that of the only `remotemedia up` of this user, or of the machine's]
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
}

/// `status`
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Print the gateway's own JSON: gateway, workers, frame_pools, sessions.
    #[arg(long)]
    pub json: bool,
    /// The runtime directory of a service that runs. [default: that of the only `remotemedia up` of this user, or of the machine's]
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
}

/// `doctor`
#[derive(Args, Debug)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub struct DoctorArgs {
    /// Print one JSON object: version, problems, and findings with check, level, found, needed, remedy.
    #[arg(long)]
    pub json: bool,
    /// How many workers there shall be.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=39))]
    pub workers: u16,
    /// A runtime directory. [default: those of this user's services that run, and where a gateway is that nobody tells]
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
}

/// `replay`
#[derive(Args, Debug)]
#[command(after_help = REPLAY_EXAMPLES)]
pub struct ReplayArgs {
    /// A file that a gateway wrote when it gave an input up: the error names it, and so does the gateway's log.
    pub capture: PathBuf,
    /// Say what is in it, and run nothing.
    #[arg(long)]
    pub show: bool,
    /// What the worker is to run under, such as `gdb --args` or `valgrind`.
    #[arg(long, value_name = "COMMAND", conflicts_with = "show")]
    pub under: Option<String>,
    /// How long it may take, with all the time that you spend in the debugger.
    #[arg(long, value_name = "N", default_value_t = 3_600, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub timeout_s: u32,
    /// The worker's command line, where it is not the stock worker: --runtime-dir and --name are added to it.
    #[arg(last = true, value_name = "WORKER")]
    pub worker: Vec<OsString>,
}

/// `release`
#[derive(Args, Debug)]
pub struct ReleaseArgs {
    /// The worker's name, as `remotemedia status` shows it.
    pub worker: String,
    /// The runtime directory of a service that runs. [default: that of the only `remotemedia up` of this user, or of the machine's]
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
}

/// `restart`
#[derive(Args, Debug)]
pub struct RestartArgs {
    /// The kind of one pool. [default: all pools]
    pub pool: Option<String>,
    /// The runtime directory of a service that runs. [default: that of the only `remotemedia up` of this user, or of the machine's]
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
}

/// `token`
#[derive(Args, Debug)]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What to do with tokens.
#[derive(Subcommand, Debug)]
pub enum TokenCommand {
    /// Make a token, print it once, and put its hash into a token file.
    New(TokenNewArgs),
}

/// `token new`
#[derive(Args, Debug)]
#[command(after_help = TOKEN_EXAMPLES)]
pub struct TokenNewArgs {
    /// What logs call whoever shows it: 1 to 64 of A-Z a-z 0-9 . _ -
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub name: String,
    /// The file: made with mode 600 if it is not there. A gateway that uses it takes the token a second later.
    #[arg(long, value_name = "FILE", default_value = "tokens")]
    pub file: PathBuf,
    /// Nothing of what its owner sends is kept, also if it kills workers.
    #[arg(long)]
    pub private: bool,
}

/// `report-exit`. Systemd says most of it, in the environment.
#[derive(Args, Debug)]
pub struct ReportExitArgs {
    /// The gateway's runtime directory.
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: PathBuf,
    /// The worker's name, as its own command line says it.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Which life of the unit.
    #[arg(long, env = "INVOCATION_ID", value_name = "ID")]
    pub invocation: Invocation,
    /// What came of it, as systemd judges.
    #[arg(long, env = "SERVICE_RESULT", value_name = "RESULT")]
    pub result: String,
    /// Whether its process has exited, was killed, or left a core dump; none, if it was never started.
    #[arg(long, env = "EXIT_CODE", value_name = "HOW")]
    pub code: Option<String>,
    /// The exit code or the signal's name.
    #[arg(long, env = "EXIT_STATUS", value_name = "STATUS")]
    pub status: Option<String>,
}

/// `new-node`
#[derive(Args, Debug)]
#[command(after_help = NEW_NODE_EXAMPLES)]
pub struct NewNodeArgs {
    /// The node type, as manifests name it: letters and digits, the first a capital one, such as `Loudness`.
    pub name: NodeClass,
    /// Where to put its files. [default: a directory of the node's name]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

// === impl Cli ===

impl Cli {
    /// Where this user's services keep their files.
    #[must_use]
    pub fn home(&self) -> Home {
        Home::of_user(self.user_dir.as_deref().filter(|dir| dir.is_absolute()))
    }

    /// The programs to start: those beside this one, unless others were named.
    #[must_use]
    pub fn programs(&self) -> Programs {
        let beside = |name: &str| match std::env::current_exe() {
            Ok(program) => program.with_file_name(name),
            // Without /proc; the plan's check then says which program was looked for.
            Err(_) => PathBuf::from(name),
        };
        Programs {
            gateway: self.gateway_bin.clone().unwrap_or_else(|| beside("remotemedia-gateway")),
            worker: self.worker_bin.clone().unwrap_or_else(|| beside("remotemedia-worker")),
            warden: std::env::current_exe().ok(),
            search: std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect(),
        }
    }
}

// === impl UpArgs ===

impl UpArgs {
    /// What the flags say about the plan.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            grpc: self.grpc.clone(),
            admin: self.admin.clone(),
            workers: self.workers,
            worker_memory: self.worker_memory,
        }
    }
}

// === impl RunArgs ===

impl RunArgs {
    /// The duration of chunks, if chunks were asked for.
    #[must_use]
    pub fn chunk(&self) -> Option<Duration> {
        self.stream_ms.map(|ms| Duration::from_millis(ms.into()))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn programs_are_beside_this_one_unless_named() {
        let programs = |words: &[&str]| Cli::try_parse_from(words).unwrap().programs();
        let beside = programs(&["remotemedia", "status"]).gateway;
        assert_eq!(beside.parent(), std::env::current_exe().unwrap().parent());
        let named = programs(&["remotemedia", "up", "--gateway-bin", "/a", "--worker-bin", "/b"]);
        assert_eq!((named.gateway, named.worker), ("/a".into(), "/b".into()));
    }

    #[test]
    fn the_help_of_every_command_teaches() {
        for name in ["up", "run", "validate", "doctor", "new-node"] {
            let mut command = Cli::command();
            let help = command.find_subcommand_mut(name).unwrap().render_help().to_string();
            assert!(help.contains("Example"), "{help}");
        }
        assert!(Cli::command().render_help().to_string().contains("Exit codes:"));
    }
}
