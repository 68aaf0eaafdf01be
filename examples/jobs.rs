//! A job server that is stopped in the middle of its work, and loses nothing.
//!
//! ```text
//! cargo run --release --example jobs                      a server, 50 clients, and a SIGTERM after 1 s
//! cargo run --release --example jobs -- serve [ADDRESS]   a server, until SIGTERM or Ctrl-C
//! ```
//!
//! A job is a line of text. The server says `accepted` or `busy`, and to what was accepted later `done`, with
//! a number that fits the text: long to find, quick to check. What it says nothing to was not accepted.

use std::cell::Cell;
use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Shutdown, SocketAddr};
use std::process::{Command, ExitCode};

use trine::io::BufReader;
use trine::net::serve;
use trine::prelude::*;
use trine::sync::{OneshotSender, Receiver, Sender, WatchSender, channel, oneshot, watch};
use trine::{Builder, idle, map_concurrent, thread};

const WORKERS: usize = 4;
/// Jobs that wait for a worker.
const QUEUE: usize = 16;
const CONNECTIONS: usize = 1000;
/// Bytes that a line may have.
const LINE: usize = 1000;
/// How long jobs in hand may take when the server is stopped, and a client to close its end.
const GRACE: Duration = Duration::from_secs(10);
const FAREWELL: Duration = Duration::from_secs(1);

/// More than there are workers and places in the queue.
const CLIENTS: usize = 50;
const LOAD: Duration = Duration::from_secs(1);
/// How long a client lets a busy server alone.
const PAUSE: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let ended = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => demonstrate(),
        (Some("serve"), address) => {
            let address = address.as_deref().unwrap_or("127.0.0.1:7000");
            run_server(address, &watch(State::default()).0, |_| ())
        }
        _ => Err(Error::other("usage: jobs [serve [ADDRESS]]")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jobs: {error}");
            ExitCode::FAILURE
        }
    }
}

// The server.

struct Job {
    text: String,
    answer: OneshotSender<u64>,
}

/// What there is to know about the server.
#[derive(Clone, Copy, Default)]
struct State {
    phase: Phase,
    accepted: u64,
    done: u64,
    /// How long the drain took.
    drained: Duration,
}

#[derive(Clone, Copy, PartialEq, Default, Debug)]
enum Phase {
    #[default]
    Starting,
    Serving,
    Draining,
    Stopped,
}

fn run_server(address: &str, state: &WatchSender<State>, ready: impl FnOnce(SocketAddr)) -> Result {
    Builder::new().drain_on_signal(GRACE).run(async || {
        let listener = TcpListener::bind(address).await?;
        println!("listening at {}, until SIGTERM or Ctrl-C", listener.local_addr()?);
        ready(listener.local_addr()?);
        serve_jobs(listener, state).await
    })
}

/// A signal ends this in steps: no connection and no job is taken any more, then the connections end, each
/// when its job is answered, then the workers, and at last the report.
async fn serve_jobs(listener: TcpListener, state: &WatchSender<State>) -> Result {
    nursery(async |n| {
        n.spawn_service(report(state));
        n.spawn(async {
            // It is idle, so it ends when the drain begins.
            idle(sleep_forever()).await?;
            state.send_modify(|state| state.phase = Phase::Draining);
            Ok(())
        });
        let (jobs, queue) = channel(QUEUE);
        for _ in 0..WORKERS {
            n.spawn(work(queue.clone(), state));
        }
        state.send_modify(|state| state.phase = Phase::Serving);
        let handler = async |client, _peer| converse(client, &jobs, state).await;
        serve(&listener, CONNECTIONS, handler).await
        // `jobs` goes here: the queue is closed, and the workers end when it is empty.
    })
    .await
}

/// A client's jobs, one after the other. Between two of them it is idle, and a drain ends it.
async fn converse(client: TcpStream, jobs: &Sender<Job>, state: &WatchSender<State>) -> Result {
    let lines = BufReader::new(&client);
    while let Some(Some(text)) = idle(lines.read_line(LINE)).await? {
        let (answer, answered) = oneshot();
        // Not `send`, which waits for room: a client that is told can wait too, or go elsewhere.
        if jobs.try_send(Job { text, answer }).is_err() {
            client.write_all("busy\n").await?;
            continue;
        }
        state.send_modify(|state| state.accepted += 1);
        client.write_all("accepted\n").await?;
        let number = answered.recv().await?;
        client.write_all(format!("done {number}\n")).await?;
    }
    drop(lines);
    hang_up(client).await
}

/// Closing a stream in which something unread lies resets it, and what was sent last may be lost with it.
/// So the client closes first.
async fn hang_up(client: TcpStream) -> Result {
    if let Err(Error::Io(_)) = client.shutdown(Shutdown::Write).await {
        return client.close().await; // It has gone already.
    }
    let reading = async |_: &CancelScope| {
        while client.recv().await?.is_some() {}
        Ok(())
    };
    move_on_after(FAREWELL, reading).await?;
    client.close().await
}

/// Jobs are done in threads: in this one everybody else would have to wait.
async fn work(queue: Receiver<Job>, state: &WatchSender<State>) -> Result {
    while let Some(Job { text, answer }) = queue.recv().await? {
        let number = thread::run(move || (0..).find(|&number| fits(&text, number))).await?;
        state.send_modify(|state| state.done += 1);
        // A client that has gone misses nothing.
        let _ = answer.send(number.expect("there are many"));
    }
    Ok(())
}

/// Tells what the server does, and has the last word: a service is cancelled when all others have ended.
async fn report(state: &WatchSender<State>) -> Result {
    let (mut watcher, mut phase, mut since) = (state.subscribe(), Phase::Starting, Instant::now());
    let dismissed = loop {
        match watcher.wait_for(move |now| now.phase != phase).await {
            Ok(now) => (phase, since) = (now.phase, Instant::now()),
            Err(dismissed) => break dismissed,
        }
        println!("{phase:?}");
    };
    state.send_modify(|state| (state.phase, state.drained) = (Phase::Stopped, since.elapsed()));
    let State { phase, accepted, done, .. } = *state.borrow();
    println!("{phase:?}: {accepted} accepted, {done} done");
    Err(dismissed)
}

// The demonstration.

/// A server in this thread and clients in another, which send a signal when it is busiest.
fn demonstrate() -> Result {
    let ((state, _), mut load) = (watch(State::default()), None);
    let served = run_server("127.0.0.1:0", &state, |address| {
        load = Some(std::thread::spawn(move || put_under_load(address)));
    });
    let Some(load) = load else { return served };
    let Tally { accepted, answered, rejected, wrong } = load.join().expect("no panic")?;
    let (lost, drained) = (accepted - answered + wrong, state.borrow().drained);
    let verdict = if lost == 0 && served.is_ok() { "ok" } else { "failed" };
    println!(
        "{verdict}: accepted={accepted} answered={answered} rejected={rejected} lost={lost} \
         drained_ms={:.1}",
        drained.as_secs_f64() * 1e3
    );
    if lost > 0 { Err(Error::other(format!("{lost} jobs are lost"))) } else { served }
}

/// What clients heard.
#[derive(Default)]
struct Tally {
    accepted: u64,
    answered: u64,
    rejected: u64,
    /// Answers that do not fit, and connections that were reset.
    wrong: u64,
}

fn put_under_load(server: SocketAddr) -> Result<Tally> {
    trine::run(async || {
        let is_ending = Cell::new(false);
        nursery(async |n| {
            n.spawn_daemon(async {
                sleep(LOAD).await?;
                if is_ending.get() {
                    return Ok(()); // Somebody else was quicker, and a second signal would cancel it.
                }
                // The shell's parent is this process.
                let shell = || Command::new("sh").args(["-c", "kill -TERM $PPID"]).status();
                thread::run(shell).await??;
                Ok(())
            });
            let client = async |number| {
                let heard = client(server, number).await;
                is_ending.set(true);
                heard
            };
            let heard = map_concurrent(0..CLIENTS, CLIENTS, client).await?;
            let sum = |count: fn(&Tally) -> u64| heard.iter().map(count).sum();
            Ok(Tally {
                accepted: sum(|heard| heard.accepted),
                answered: sum(|heard| heard.answered),
                rejected: sum(|heard| heard.rejected),
                wrong: sum(|heard| heard.wrong),
            })
        })
        .await
    })
}

async fn client(server: SocketAddr, number: usize) -> Result<Tally> {
    let mut heard = Tally::default();
    match ask(server, number, &mut heard).await {
        // It came too late: the server had stopped taking connections.
        Err(Error::Io(_)) if heard.accepted + heard.rejected == 0 => {}
        Err(error) if !error.is_cancelled() => {
            eprintln!("client {number}: {error}");
            heard.wrong += 1;
        }
        ended => ended?,
    }
    Ok(heard)
}

/// Asks for one job after another, until the server ends the connection.
async fn ask(server: SocketAddr, number: usize, heard: &mut Tally) -> Result {
    let stream = TcpStream::connect(server).await?;
    let lines = BufReader::new(&stream);
    for job in 0.. {
        let text = format!("job {job} of client {number}");
        stream.write_all(format!("{text}\n")).await?;
        match lines.read_line(LINE).await?.as_deref() {
            Some("accepted") => heard.accepted += 1,
            Some("busy") => {
                heard.rejected += 1;
                sleep(PAUSE).await?;
                continue;
            }
            Some(other) => return Err(Error::other(format!("{text}: {other}"))),
            None => break,
        }
        let Some(answer) = lines.read_line(LINE).await? else { break };
        match answer.strip_prefix("done ").and_then(|number| number.parse().ok()) {
            Some(number) if fits(&text, number) => heard.answered += 1,
            _ => return Err(Error::other(format!("{text}: {answer}"))),
        }
    }
    drop(lines);
    stream.close().await
}

// What both need.

/// Whether the hash of both ends in 16 zeros: that takes 65,536 attempts, more or less.
fn fits(text: &str, number: u64) -> bool {
    let mut hasher = DefaultHasher::new();
    (text, number).hash(&mut hasher);
    hasher.finish().trailing_zeros() >= 16
}
