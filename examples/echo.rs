//! An echo server, and a proof that nothing of it is left behind.
//!
//! ```text
//! cargo run --release --example echo                      a server and 1,000 clients, for 3 s
//! cargo run --release --example echo -- 127.0.0.1:7000    a server, until Ctrl-C
//! ```
//!
//! Either way the end is a cancel that finds every connection waiting in the kernel. The report
//! says how much was pending then, how long it took until all of it had unwound, and what was left:
//! no operation in the kernel, and no descriptor.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::{env, fs, io};

use trine::Builder;
use trine::prelude::*;

const CLIENTS: u64 = 1000;
/// How long the clients send, and how long they then wait for one more answer, which never comes.
const SENDING: Duration = Duration::from_secs(3);
const RESTING: Duration = Duration::from_millis(100);
/// How long the server waits for better times when it cannot accept.
const PAUSE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let address = match arguments.as_slice() {
        [] => Ok(None),
        [address] => address.parse().map(Some).map_err(drop),
        _ => Err(()),
    };
    let Ok(address) = address else {
        eprintln!("usage: echo               a demonstration: a server and {CLIENTS} clients");
        eprintln!("       echo ADDRESS:PORT  a server, until Ctrl-C");
        return ExitCode::from(2);
    };
    let tally = Tally::default();
    match start(address, &tally) {
        // Ctrl-C cancels the whole run: for a server that is the ordinary end.
        Err(error) if !error.is_cancelled() => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
        _ if tally.report() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn start(address: Option<SocketAddr>, tally: &Tally) -> Result {
    let descriptors = trine::raise_descriptor_limit(u64::MAX)?;
    Builder::new().ctrl_c(true).run(async || match address {
        Some(address) => {
            if descriptors < 10_000 {
                println!("only {descriptors} open files are allowed: more clients have to wait");
            }
            watch(CancelScope::new(), serve_at(address, tally), tally).await
        }
        None => {
            // A connection has two ends here, and the program itself needs a few descriptors too.
            let clients = CLIENTS.min(descriptors.saturating_sub(50) / 2).max(1);
            if clients < CLIENTS {
                println!("only {descriptors} open files are allowed: {clients} clients");
            }
            let scope = CancelScope::new().timeout(SENDING + RESTING);
            watch(scope, demonstrate(clients, tally), tally).await
        }
    })
}

/// Runs `program` inside `scope`, and notes what is left once the scope has been left.
async fn watch(scope: CancelScope, program: impl Future<Output = Result>, tally: &Tally) -> Result {
    let before = open_descriptors()?;
    let program = scope.run(async |_| {
        nursery(async |n| {
            n.spawn_daemon(witness(tally));
            program.await
        })
        .await
    });
    let outcome = program.await;
    // No `?` before this line: when Ctrl-C ends the run, the scope is left with `Cancelled`.
    tally.note_end(before)?;
    outcome.map(drop)
}

/// Waits for the cancel. Whoever sleeps is woken at once, while the operations of the others are
/// still in the kernel: the requests to cancel them leave when all tasks of this turn have run.
async fn witness(tally: &Tally) -> Result {
    let began = Instant::now();
    let cancelled = sleep_forever().await;
    tally.lasted.set(began.elapsed());
    let stats = trine::stats();
    tally.pending.set(stats.in_kernel + stats.queued);
    tally.cancelled_at.set(Some(Instant::now()));
    if let Err(error) = &cancelled {
        tally.why.replace(error.to_string());
    }
    cancelled
}

// The server.

async fn serve_at(address: SocketAddr, tally: &Tally) -> Result {
    let listener = TcpListener::bind(address).await.map_err(|error| match error {
        Error::Io(error) => Error::other(format!("cannot listen at {address}: {error}")),
        // A cancellation has to stay one.
        error => error,
    })?;
    println!("listening at {}, until Ctrl-C", listener.local_addr()?);
    serve(&listener, tally).await
}

async fn serve(listener: &TcpListener, tally: &Tally) -> Result {
    nursery(async |n| {
        loop {
            match listener.accept().await {
                Ok((stream, _peer)) => n.spawn(connection(stream, tally)),
                // Most likely no descriptor is free. The client waits in the listener's queue.
                Err(Error::Io(error)) => {
                    eprintln!("cannot accept: {error}; trying again in {PAUSE:?}");
                    sleep(PAUSE).await?;
                }
                Err(error) => return Err(error),
            }
        }
    })
    .await
}

/// A child that fails takes its nursery with it. One client's reset is no reason for that, so it is
/// counted and ends here. A cancellation is no failure, and goes on to the scope that wanted it.
async fn connection(stream: TcpStream, tally: &Tally) -> Result {
    tally.connections.set(tally.connections.get() + 1);
    match echo(&stream, tally).await {
        Err(Error::Io(_)) => {
            tally.broken.set(tally.broken.get() + 1);
            Ok(())
        }
        outcome => outcome,
    }
}

async fn echo(stream: &TcpStream, tally: &Tally) -> Result {
    // The kernel has put the bytes into a buffer of the pool: they go out again from there.
    while let Some(chunk) = stream.recv().await? {
        stream.write_all(chunk).await?;
        tally.messages.set(tally.messages.get() + 1);
    }
    Ok(())
}

// The clients.

/// A server and its clients, all of them children of one nursery. They would go on for ever.
async fn demonstrate(clients: u64, tally: &Tally) -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("a server at {address}, {clients} clients");
    let stop = Instant::now() + SENDING;
    nursery(async |n| {
        n.spawn(serve(&listener, tally));
        n.spawn(progress(tally));
        for number in 0..clients {
            n.spawn(client(address, number, stop, tally));
        }
        Ok(())
    })
    .await
}

async fn client(address: SocketAddr, number: u64, stop: Instant, tally: &Tally) -> Result {
    let stream = TcpStream::connect_addr(address).await?;
    for round in 1.. {
        let asked = Instant::now();
        if asked >= stop {
            break;
        }
        ask(&stream, format!("{number:>10} says {round:>48}")).await?;
        tally.latencies.borrow_mut().push(asked.elapsed());
    }
    // Nothing was asked, so nothing comes: this is where the deadline finds the client.
    stream.recv().await?;
    Ok(())
}

/// A message there and back. Buffers are lent to the kernel, and come back with the result.
async fn ask(stream: &TcpStream, question: String) -> Result {
    let question = stream.write_all(question).await?;
    let len = question.len();
    let answer = stream.read_exact(Vec::with_capacity(len).slice(..len)).await?;
    if *answer != *question.as_bytes() {
        return Err(Error::other(format!("{question:?} came back as {answer:?}")));
    }
    Ok(())
}

async fn progress(tally: &Tally) -> Result {
    let (started, mut before) = (Instant::now(), 0);
    for second in 1..=SENDING.as_secs() {
        sleep_until(started + Duration::from_secs(second)).await?;
        let messages = tally.messages.get();
        println!("{second} s: {} messages", messages - before);
        before = messages;
    }
    Ok(())
}

// What happened.

/// Everybody counts here. One thread runs all tasks, so cells are enough, and tasks may borrow.
#[derive(Default)]
struct Tally {
    messages: Cell<u64>,
    connections: Cell<u64>,
    /// Connections that ended with an error.
    broken: Cell<u64>,
    latencies: RefCell<Vec<Duration>>,
    lasted: Cell<Duration>,
    why: RefCell<String>,
    cancelled_at: Cell<Option<Instant>>,
    /// Operations that were pending when the cancel came.
    pending: Cell<usize>,
    unwound: Cell<Duration>,
    in_kernel: Cell<usize>,
    descriptors: Cell<(usize, usize)>,
}

impl Tally {
    fn note_end(&self, descriptors_before: usize) -> io::Result<()> {
        self.unwound.set(self.cancelled_at.get().map(Instant::elapsed).unwrap_or_default());
        let stats = trine::stats();
        self.in_kernel.set(stats.in_kernel + stats.queued);
        self.descriptors.set((descriptors_before, open_descriptors()?));
        Ok(())
    }

    /// Says whether nothing was left behind.
    fn report(&self) -> bool {
        let (connections, messages) = (self.connections.get(), self.messages.get());
        let (pending, in_kernel) = (self.pending.get(), self.in_kernel.get());
        let (before, after) = self.descriptors.get();
        let unwound = self.unwound.get().as_secs_f64() * 1e3;
        let leaked = after as isize - before as isize;
        println!("{}", self.why.borrow());
        println!("connections            {connections}, broken: {}", self.broken.get());
        println!("messages               {messages}");
        self.report_speed();
        println!("pending at the cancel  {pending} operations");
        println!("until all had unwound  {unwound:.1} ms, closing the sockets included");
        println!("left in the kernel     {in_kernel} operations");
        println!("open descriptors       {before} before, {after} after");
        let clean = in_kernel == 0 && leaked == 0;
        let verdict = if clean { "ok" } else { "left behind" };
        println!(
            "{verdict}: messages={messages} cancelled={pending} unwound_ms={unwound:.1} \
             in_kernel={in_kernel} leaked_fds={leaked}"
        );
        clean
    }

    /// Only our own clients measure.
    fn report_speed(&self) {
        let mut latencies = self.latencies.borrow_mut();
        latencies.sort_unstable();
        let percentile = |percent| latencies.get(latencies.len() * percent / 100);
        if let (Some(p50), Some(p99)) = (percentile(50), percentile(99)) {
            let rate = latencies.len() as f64 / self.lasted.get().min(SENDING).as_secs_f64();
            println!("rate                   {rate:.0} per second");
            println!("latency                p50 {p50:.1?}, p99 {p99:.1?}");
        }
    }
}

/// How many there are, and one more, which reads the directory.
fn open_descriptors() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}
