//! The example servers as processes, against clients that were not written here: Python's sockets, netcat,
//! socat, wrk, and the kernel itself where a client is killed.
//!
//! Whatever they do, a Ctrl-C afterwards leaves nothing behind, and a SIGTERM loses no job. What is not
//! installed is skipped, with a line that says so. A plain `cargo test` builds the examples;
//! `cargo test --test clients` does not, so run `cargo build --examples` before it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// No process started here lives longer, so no wait for one lasts longer.
const LIMIT: Duration = Duration::from_secs(60);

const PIECES: &str = include_str!("clients/pieces.py");
const RESETS: &str = include_str!("clients/resets.py");
const CROWD: &str = include_str!("clients/crowd.py");
const FETCH: &str = include_str!("clients/fetch.py");

#[test]
fn rude_clients_do_not_end_the_server_and_its_end_leaves_nothing_behind() {
    let Some(server) = Server::start() else { return };
    python(PIECES, &[server.port, 200, 1_000_000, 1]);
    python(RESETS, &[server.port, 60]);
    // They vanish with an echo on its way that nobody has read.
    drop(crowd(server.port, 20, 10_000_000));
    // These stay until the end: the server waits for their bytes, or for room to write.
    let staying = [crowd(server.port, 20, 0), crowd(server.port, 10, 10_000_000)];
    let port = server.port.to_string();
    through("nc", &["-N", "127.0.0.1", &port]);
    through("socat", &["-", &format!("TCP:127.0.0.1:{port}")]);
    // Connections are accepted in their order, so the crowds are in when these are through.
    python(PIECES, &[server.port, 10, 100_000, 2]);
    let report = server.interrupt();
    if staying.iter().all(Option::is_some) {
        assert!(report.number("cancelled=") > 30, "{report:?}");
        // All that vanished, and those resets that did not come before the connection was accepted.
        assert!(report.number("broken: ") >= 20, "{report:?}");
    }
}

#[test]
fn a_server_without_free_descriptors_serves_its_clients_one_after_the_other() {
    let Some(mut command) = example_after("ulimit -n 40", "echo") else { return };
    let server = Server::listening(command.arg("127.0.0.1:0"));
    let served = python(PIECES, &[server.port, 100, 2_000, 3]);
    let report = server.interrupt();
    if served {
        assert!(report.lines.iter().any(|line| line.starts_with("cannot accept")), "{report:?}");
    }
}

#[test]
fn the_demonstration_ends_with_nothing_left() {
    let Some(example) = example("echo") else { return };
    let report = Process::start(&mut Command::new(example)).end();
    report.expect_clean();
    assert!(report.number("messages=") > 0, "{report:?}");
    // Both ends of each connection wait for the other, unless the machine is slow beyond measure.
    assert!(report.number("cancelled=") > report.number("connections "), "{report:?}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let occupant = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let taken = occupant.local_addr().expect("it is bound").to_string();
    let in_use = format!("cannot listen at {taken}: Address already in use");
    for (arguments, status, words) in [
        (&["localhost"] as &[&str], 2, "usage"),
        (&["127.0.0.1:1", "127.0.0.1:2"], 2, "usage"),
        (&[&taken], 1, &in_use),
    ] {
        let Some(mut command) = example_after(":", "echo") else { return };
        let report = Process::start(command.args(arguments)).end();
        assert_eq!(report.status.code(), Some(status), "{arguments:?}: {report:?}");
        assert!(report.lines[0].contains(words), "{arguments:?}: {report:?}");
    }
}

#[test]
fn the_job_server_loses_nothing_when_it_is_stopped_under_load() {
    let Some(example) = example("jobs") else { return };
    let report = Process::start(&mut Command::new(example)).end();
    report.expect_no_loss();
    assert!(report.number("accepted=") > 0, "{report:?}");
}

// The clients of the demonstration are just coming.
#[test]
fn nor_when_it_is_stopped_at_once() {
    let Some(example) = example("jobs") else { return };
    let server = Server::listening(&mut Command::new(example));
    signal("-TERM", server.process.child.id());
    server.process.end().expect_no_loss();
}

#[test]
fn a_job_in_hand_is_answered_and_a_client_without_one_is_sent_away() {
    let Some(example) = example("jobs") else { return };
    let server = Server::listening(Command::new(example).args(["serve", "127.0.0.1:0"]));
    let connect = || BufReader::new(TcpStream::connect(("127.0.0.1", server.port as u16)).unwrap());
    let (mut busy, mut silent) = (connect(), connect());
    // Which of those behind the first are taken depends on when the signal comes; none gets half an answer.
    busy.get_ref().write_all("a job\n".repeat(1000).as_bytes()).unwrap();
    let mut answers = String::new();
    busy.read_line(&mut answers).unwrap();
    assert_eq!(answers, "accepted\n");
    signal("-TERM", server.process.child.id());
    busy.read_to_string(&mut answers).expect("the end, and no reset");
    let answers: Vec<_> = answers.lines().collect();
    assert!(answers.iter().step_by(2).all(|answer| *answer == "accepted"), "{answers:?}");
    assert!(answers.len() % 2 == 0 && answers[1].starts_with("done "), "{answers:?}");
    assert_eq!(silent.read_line(&mut String::new()).expect("the end, and no reset"), 0);
    drop((busy, silent));
    let report = server.process.end();
    assert!(report.status.success(), "{report:?}");
    assert_eq!(report.number("Stopped: "), answers.len() as u64 / 2, "{report:?}");
}

/// A file of so many bytes, as whoever fetches it expects.
const SIZE: usize = 100_000;

#[test]
fn the_file_server_cuts_no_answer_short_when_it_is_stopped_under_load() {
    let Some(example) = example("files") else { return };
    let site = std::env::temp_dir().join(format!("trine-clients-{}", std::process::id()));
    fs::create_dir_all(&site).expect("a directory for temporary files");
    fs::write(site.join("file"), [b'x'; SIZE]).expect("room");
    let mut command = Command::new(example);
    let server = Server::listening(command.arg("serve").arg(&site).arg("127.0.0.1:0"));
    benchmark(&server);
    let clients = script(FETCH, &[server.port, 20, SIZE as u32, 10_000]);
    let busy = clients.map(|mut clients| {
        assert_eq!(clients.line().as_deref(), Some("busy"));
        clients
    });
    signal("-TERM", server.process.child.id());
    let report = server.process.end();
    assert!(report.status.success(), "{report:?}");
    if let Some(clients) = busy {
        let report = clients.end();
        assert!(report.number("whole=") >= 10_000, "{report:?}");
        assert_eq!(report.number("wrong="), 0, "{report:?}");
    }
    fs::remove_dir_all(site).expect("it is ours");
}

/// All that wrk asks for is answered.
fn benchmark(server: &Server) {
    if !is_installed("wrk", "--connections") {
        return;
    }
    let mut wrk = Command::new("wrk");
    wrk.args(["--connections=50", "--threads=1", "--duration=1s"]);
    let report = Process::start(wrk.arg(format!("http://127.0.0.1:{}/file", server.port))).end();
    let complaints = ["Socket errors", "Non-2xx"];
    let complains = |line: &String| complaints.iter().any(|words| line.contains(words));
    assert!(report.status.success() && !report.lines.iter().any(complains), "{report:?}");
    assert!(report.lines.iter().any(|line| line.contains("requests in")), "{report:?}");
}

/// An example, which `cargo test` has built next to us. It is missing where only the tests were
/// copied to.
fn example(name: &str) -> Option<PathBuf> {
    let ourselves = std::env::current_exe().expect("we run, so we are somewhere");
    let found = ourselves.ancestors().map(|above| above.join("examples").join(name));
    let found = found.into_iter().find(|path| path.is_file());
    if found.is_none() {
        skipped(&format!("there is no examples/{name} near {}", ourselves.display()));
    }
    found
}

/// An example, started by a shell that has done something before; its errors are in its output.
fn example_after(preparation: &str, name: &str) -> Option<Command> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{preparation} && exec \"$0\" \"$@\" 2>&1")).arg(example(name)?);
    Some(shell)
}

/// An example as a server at a free port.
struct Server {
    process: Process,
    port: u32,
}

impl Server {
    fn start() -> Option<Server> {
        Some(Server::listening(Command::new(example("echo")?).arg("127.0.0.1:0")))
    }

    fn listening(command: &mut Command) -> Server {
        let mut process = Process::start(command);
        loop {
            let line = process.line().expect("it says where it listens");
            let place = line.strip_prefix("listening at ");
            if let Some((_, words)) = place.and_then(|place| place.split_once("127.0.0.1:")) {
                let port = words.split(',').next().and_then(|port| port.parse().ok());
                return Server { process, port: port.expect("a port") };
            }
        }
    }

    /// Ctrl-C, which leaves nothing behind.
    fn interrupt(self) -> Report {
        signal("-INT", self.process.child.id());
        let report = self.process.end();
        report.expect_clean();
        report
    }
}

/// What a process printed, and how it ended.
#[derive(Debug)]
struct Report {
    lines: Vec<String>,
    status: ExitStatus,
}

impl Report {
    fn expect_clean(&self) {
        assert!(self.status.success(), "{self:?}");
        let last = self.lines.last().expect("it printed something");
        assert!(last.starts_with("ok: messages="), "{self:?}");
        assert!(last.ends_with(" in_kernel=0 leaked_fds=0"), "{self:?}");
    }

    fn expect_no_loss(&self) {
        assert!(self.status.success(), "{self:?}");
        let last = self.lines.last().expect("it printed something");
        assert!(last.starts_with("ok: accepted=") && last.contains(" lost=0 "), "{self:?}");
        assert_eq!(self.number("accepted="), self.number("answered="), "{self:?}");
    }

    /// The number behind the last occurrence of these words.
    fn number(&self, words: &str) -> u64 {
        let found = self.lines.iter().rev().find_map(|line| line.split_once(words));
        let (_, behind) = found.unwrap_or_else(|| panic!("no {words:?} in {self:?}"));
        let digits: String = behind.trim_start().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_else(|_| panic!("no number behind {words:?} in {self:?}"))
    }
}

/// A process whose output we read. It is killed when this is dropped, and when its time is up.
struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
    _leash: mpsc::Sender<()>,
}

impl Process {
    fn start(command: &mut Command) -> Process {
        let started = command.stdout(Stdio::piped()).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (_leash, held) = mpsc::channel();
        let (id, name) = (child.id(), command.get_program().to_string_lossy().into_owned());
        thread::spawn(move || {
            if held.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("killed after {LIMIT:?}: {name}");
                signal("-KILL", id);
            }
        });
        Process { child, output, _leash }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        line.ends_with('\n').then(|| line.trim_end().to_owned())
    }

    fn end(mut self) -> Report {
        let lines = std::iter::from_fn(|| self.line()).collect();
        let status = self.child.wait().expect("it is our child");
        Report { lines, status }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // If it has ended already, it is the same to us.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(signal: &str, id: u32) {
    let sent = Command::new("kill").args([signal, &id.to_string()]).status();
    assert!(sent.expect("there is a kill").success(), "no process {id}");
}

/// Whether there is such a program, and its help mentions the option.
fn is_installed(program: &str, option: &str) -> bool {
    let asked = Command::new(program).arg("-h").stdin(Stdio::null()).output();
    let Ok(Output { stdout, stderr, .. }) = asked else {
        skipped(&format!("{program} is not installed"));
        return false;
    };
    let help = [stdout, stderr].concat();
    let known = String::from_utf8_lossy(&help).contains(option);
    if !known {
        skipped(&format!("this {program} knows no {option}"));
    }
    known
}

/// Not by `println!`, which is shown for tests that fail only.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

fn script(text: &str, arguments: &[u32]) -> Option<Process> {
    is_installed("python3", "-c").then(|| {
        let arguments = arguments.iter().map(u32::to_string);
        Process::start(Command::new("python3").arg("-c").arg(text).args(arguments))
    })
}

/// Runs a script to its end; `false` if there is no Python.
fn python(text: &str, arguments: &[u32]) -> bool {
    let Some(process) = script(text, arguments) else { return false };
    let report = process.end();
    assert!(report.status.success(), "{report:?}");
    true
}

/// Connections that stay while the process lives.
fn crowd(port: u32, connections: u32, bytes: u32) -> Option<Process> {
    let mut process = script(CROWD, &[port, connections, bytes])?;
    assert_eq!(process.line().as_deref(), Some("open"));
    Some(process)
}

/// Sends through a program that copies its input to the server and the answer to its output. The
/// end of its input is a half-close, and all bytes have to come back.
fn through(program: &str, arguments: &[&str]) {
    if !is_installed(program, arguments[0]) {
        return;
    }
    let sent: Vec<u8> =
        (0..300_000).map(|n: u32| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let mut command = Command::new(program);
    let mut process = Process::start(command.args(arguments).stdin(Stdio::piped()));
    let mut stdin = process.child.stdin.take().expect("it is piped");
    let mut came = Vec::new();
    thread::scope(|scope| {
        let sent = &sent;
        // Moved in, so that it is closed when all is written.
        scope.spawn(move || stdin.write_all(sent).expect("it reads on"));
        process.output.read_to_end(&mut came).expect("it can be read");
    });
    let report = process.end();
    assert!(report.status.success(), "{program}: {report:?}");
    assert!(came == sent, "{program}: {} bytes came back changed, of {}", came.len(), sent.len());
}
