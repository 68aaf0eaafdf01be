//! A static file server: ranges, a directory that nobody gets out of, and an end that cuts no answer short.
//!
//! ```text
//! cargo run --release --example files                            a server, 50 clients, and a SIGTERM after 1 s
//! cargo run --release --example files -- serve [DIR [ADDRESS]]   a server, until SIGTERM or Ctrl-C
//! ```
//!
//! It speaks as much of HTTP/1.1 (RFC 9110, RFC 9112) as that takes: GET and HEAD, one range, connections
//! that stay open. The kernel moves what is long from the file to the connection by itself.

use std::cell::Cell;
use std::env;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitCode};

use trine::fs::{self, Dir, File};
use trine::io::BufReader;
use trine::net::serve;
use trine::prelude::*;
use trine::{Builder, idle, map_concurrent, thread};

const CONNECTIONS: usize = 10_000;
/// Bytes of one line of a request, and lines.
const LINE: usize = 8 << 10;
const LINES: usize = 100;
/// Bytes that a client looks at a time.
const PIECE: usize = 128 << 10;
/// How long answers in hand may take when the server is stopped, and a client to close its end.
const GRACE: Duration = Duration::from_secs(10);
const FAREWELL: Duration = Duration::from_secs(1);

const CLIENTS: usize = 50;
const LOAD: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match arguments[..] {
        [] => demonstrate(),
        ["serve"] => run_server(".", "127.0.0.1:8000", |_| ()),
        ["serve", directory] => run_server(directory, "127.0.0.1:8000", |_| ()),
        ["serve", directory, address] => run_server(directory, address, |_| ()),
        _ => Err(Error::other("usage: files [serve [DIR [ADDRESS]]]")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("files: {error}");
            ExitCode::FAILURE
        }
    }
}

// The server.

fn run_server(
    directory: impl AsRef<Path>,
    address: &str,
    ready: impl FnOnce(SocketAddr),
) -> Result {
    Builder::new().drain_on_signal(GRACE).run(async || {
        let root = Dir::open(directory).await?;
        let listener = TcpListener::bind(address).await?;
        println!("listening at http://{}, until SIGTERM or Ctrl-C", listener.local_addr()?);
        ready(listener.local_addr()?);
        serve(&listener, CONNECTIONS, async |client, _peer| converse(client, &root).await).await
    })
}

/// One request after another. Between two of them the connection is idle, and a drain ends it.
async fn converse(client: TcpStream, root: &Dir) -> Result {
    let reader = BufReader::new(&client);
    loop {
        let request = match idle(reader.read_line(LINE)).await {
            Ok(Some(Some(line))) => Request::read(&line, &reader).await,
            Ok(_) => break,
            Err(error) => Err(error),
        };
        let request = match request {
            // A line that is too long, or no text.
            Err(error) if error.io_kind() == Some(ErrorKind::InvalidData) => Err(TOO_LARGE),
            request => request?,
        };
        let goes_on = request.as_ref().is_ok_and(|request| request.keep_alive);
        answer(&client, root, request).await?;
        if !goes_on {
            break;
        }
    }
    drop(reader);
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

struct Request {
    path: PathBuf,
    /// Only the head of the answer is wanted.
    is_head: bool,
    range: Option<Wanted>,
    keep_alive: bool,
}

/// What a `Range` header asks for.
enum Wanted {
    /// From a byte on, up to another or to the end.
    From(u64, Option<u64>),
    /// So many bytes before the end.
    Last(u64),
}

/// An answer without a file.
type Refusal = &'static str;

const TOO_LARGE: Refusal = "431 Request Header Fields Too Large";

impl Request {
    /// Reads what follows the request line, up to the empty line.
    async fn read(line: &str, reader: &BufReader<&TcpStream>) -> Result<Result<Request, Refusal>> {
        let mut request = Request::parse(line);
        for _ in 0..LINES {
            let Some(header) = reader.read_line(LINE).await? else { break };
            if header.is_empty() {
                return Ok(request);
            }
            if let (Ok(request), Some((name, value))) = (&mut request, header.split_once(':')) {
                request.heed(name, value.trim());
            }
        }
        Ok(Err(TOO_LARGE))
    }

    fn parse(line: &str) -> Result<Request, Refusal> {
        let mut words = line.split(' ');
        let (method, target, version) = (words.next(), words.next(), words.next());
        let (Some(target), Some(version)) = (target, version) else {
            return Err("400 Bad Request");
        };
        let is_head = match method {
            Some("GET") => false,
            Some("HEAD") => true,
            _ => return Err("405 Method Not Allowed"),
        };
        let path = path_of(target).ok_or("400 Bad Request")?;
        let keep_alive = match version {
            "HTTP/1.1" => true,
            "HTTP/1.0" => false,
            _ => return Err("505 HTTP Version Not Supported"),
        };
        Ok(Request { path, is_head, range: None, keep_alive })
    }

    fn heed(&mut self, name: &str, value: &str) {
        if name.eq_ignore_ascii_case("connection") {
            self.keep_alive = !value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("range") {
            // What cannot be understood is passed over (RFC 9110, section 14.2).
            self.range = Wanted::parse(value);
        }
    }
}

impl Wanted {
    fn parse(value: &str) -> Option<Wanted> {
        let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
        Some(match (first, last) {
            ("", last) => Wanted::Last(last.parse().ok()?),
            (first, "") => Wanted::From(first.parse().ok()?, None),
            (first, last) => Wanted::From(first.parse().ok()?, Some(last.parse().ok()?)),
        })
    }

    /// The bytes of a file of this length; `None`: there are no such bytes.
    fn within(&self, len: u64) -> Option<Range<u64>> {
        let range = match *self {
            Wanted::Last(count) => len.saturating_sub(count)..len,
            Wanted::From(first, None) => first..len,
            Wanted::From(first, Some(last)) => first..last.saturating_add(1).min(len),
        };
        (range.start < range.end).then_some(range)
    }
}

/// The path below the root that a target names; `None` if it is no path.
fn path_of(target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next()?.strip_prefix('/')?;
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                (digit(rest.next())? * 16 + digit(rest.next())?) as u8
            }
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))?;
    let path = PathBuf::from(if text.is_empty() { "index.html" } else { &text });
    // `Dir` sees to it that nothing leads out; this only keeps the absurd from being asked.
    path.components().all(|part| !matches!(part, Component::RootDir)).then_some(path)
}

async fn answer(client: &TcpStream, root: &Dir, request: Result<Request, Refusal>) -> Result {
    let request = match request {
        Ok(request) => request,
        Err(refusal) => return refuse(client, refusal, false).await,
    };
    let is_head = request.is_head;
    let found = match open(root, &request.path).await {
        Ok(found) => found,
        Err(Error::Io(error)) => {
            return refuse(client, refusal_for(&error), is_head).await;
        }
        Err(error) => return Err(error),
    };
    let Some((file, len)) = found else {
        return refuse(client, "404 Not Found", is_head).await;
    };
    let range = match &request.range {
        None => 0..len,
        Some(wanted) => match wanted.within(len) {
            Some(range) => range,
            None => return refuse(client, "416 Range Not Satisfiable", is_head).await,
        },
    };
    client.write_all(head(&request, &range, len)).await?;
    if is_head {
        return Ok(());
    }
    // It may have become shorter meanwhile: then the connection is all that can be cut.
    if file.send_to(client, range.clone()).await? < range.end - range.start {
        return Err(Error::other("the file has become shorter"));
    }
    Ok(())
}

/// The file, and how long it is; `None` if it is none.
async fn open(root: &Dir, path: &Path) -> Result<Option<(File, u64)>> {
    // To open a FIFO is to wait for whoever writes to it.
    if !root.metadata(path).await?.is_file() {
        return Ok(None);
    }
    let file = root.open_file(path).await?;
    let about = file.metadata().await?;
    Ok(about.is_file().then_some((file, about.len())))
}

fn refusal_for(error: &std::io::Error) -> Refusal {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => "404 Not Found",
        // Also out of the root.
        ErrorKind::PermissionDenied => "403 Forbidden",
        ErrorKind::InvalidFilename => "414 URI Too Long",
        _ => "500 Internal Server Error",
    }
}

async fn refuse(client: &TcpStream, refusal: Refusal, is_head: bool) -> Result {
    let len = refusal.len() + 1;
    let mut text = format!(
        "HTTP/1.1 {refusal}\r\nAllow: GET, HEAD\r\nContent-Type: text/plain\r\n\
         Content-Length: {len}\r\n\r\n"
    );
    if !is_head {
        text += refusal;
        text += "\n";
    }
    client.write_all(text).await?;
    Ok(())
}

fn head(request: &Request, range: &Range<u64>, len: u64) -> String {
    let kind = match request.path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html",
        Some("txt" | "rs" | "md") => "text/plain",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    };
    let mut head = String::from("HTTP/1.1 ");
    // Writing to a string does not fail.
    let _ = match request.range {
        Some(_) => write!(
            head,
            "206 Partial Content\r\nContent-Range: bytes {}-{}/{len}",
            range.start,
            range.end - 1
        ),
        None => write!(head, "200 OK\r\nAccept-Ranges: bytes"),
    };
    let _ = write!(
        head,
        "\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        range.end - range.start
    );
    head
}

// The demonstration.

/// A server in this thread and clients in another, which send a signal when it is busiest.
fn demonstrate() -> Result {
    let site = Site::make()?;
    let mut load = None;
    let served = run_server(&site.root, "127.0.0.1:0", |address| {
        load = Some(std::thread::spawn(move || put_under_load(address)));
    });
    let Some(load) = load else { return served };
    let Tally { whole, partial, refused, wrong } = load.join().expect("no panic")?;
    let verdict = if wrong == 0 && served.is_ok() { "ok" } else { "failed" };
    println!(
        "{verdict}: whole={whole} partial={partial} refused={refused} truncated_or_wrong={wrong}"
    );
    if wrong > 0 { Err(Error::other(format!("{wrong} answers are wrong"))) } else { served }
}

/// A directory that goes when this does.
struct Site {
    root: PathBuf,
}

/// How long the files are.
const SIZES: [u64; 5] = [0, 1, 1000, 100_000, 3_000_000];

impl Site {
    fn make() -> Result<Site> {
        let root = env::temp_dir().join(format!("trine-files-{}", std::process::id()));
        let site = Site { root: root.join("site") };
        trine::run(async || {
            fs::create_dir_all(&site.root).await?;
            fs::write(root.join("secret"), "nobody is to see this").await?;
            fs::symlink("../secret", site.root.join("way-out")).await?;
            for (number, size) in SIZES.into_iter().enumerate() {
                let content: Vec<u8> = (0..size).map(byte_at).collect();
                fs::write(site.root.join(number.to_string()), content).await?;
            }
            Ok(())
        })?;
        Ok(site)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(all) = self.root.parent() {
            let _ = std::fs::remove_dir_all(all);
        }
    }
}

/// What is at a place of each file.
fn byte_at(place: u64) -> u8 {
    (place % 251) as u8
}

/// What clients got.
#[derive(Clone, Copy, Default)]
struct Tally {
    whole: u64,
    partial: u64,
    /// As they should be.
    refused: u64,
    /// Other bytes than there should be, or fewer, or an answer where there should be a refusal.
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
                let got = client(server, number).await;
                is_ending.set(true);
                got
            };
            let got = map_concurrent(0..CLIENTS as u64, CLIENTS, client).await?;
            let sum = |count: fn(&Tally) -> u64| got.iter().map(count).sum();
            Ok(Tally {
                whole: sum(|got| got.whole),
                partial: sum(|got| got.partial),
                refused: sum(|got| got.refused),
                wrong: sum(|got| got.wrong),
            })
        })
        .await
    })
}

async fn client(server: SocketAddr, number: u64) -> Result<Tally> {
    let mut got = Tally::default();
    match ask(server, number, &mut got).await {
        // It came too late: the server had stopped taking connections.
        Err(Error::Io(_)) if got.whole + got.partial + got.refused == 0 => {}
        Err(error) if !error.is_cancelled() => {
            eprintln!("client {number}: {error}");
            got.wrong += 1;
        }
        ended => ended?,
    }
    Ok(got)
}

/// Asks for one file after another, until the server ends the connection.
async fn ask(server: SocketAddr, number: u64, got: &mut Tally) -> Result {
    let stream = TcpStream::connect(server).await?;
    let reader = BufReader::new(&stream);
    for round in number.. {
        let file = (round % SIZES.len() as u64) as usize;
        let size = SIZES[file];
        let (target, range) = match round % 7 {
            0 => (["/none", "/way-out", "/../secret", "/%2e%2e/secret"][file % 4].to_owned(), None),
            // Some bytes in the middle, where there are any.
            1 if size > 10 => (format!("/{file}"), Some(size / 3..size / 2)),
            _ => (format!("/{file}"), None),
        };
        let header = match &range {
            Some(range) => format!("Range: bytes={}-{}\r\n", range.start, range.end - 1),
            None => String::new(),
        };
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n");
        // Between two answers the server may hang up.
        if stream.write_all(request).await.is_err() {
            break;
        }
        let Ok(Some(status)) = reader.read_line(LINE).await else { break };
        let len = length(&reader).await?;
        let expected = match status.split(' ').nth(1) {
            Some("200") => 0..size,
            Some("206") => range.clone().unwrap_or(0..0),
            _ => {
                reader.skip(len).await?;
                let is_right = round % 7 == 0;
                got.refused += u64::from(is_right);
                got.wrong += u64::from(!is_right);
                continue;
            }
        };
        if round % 7 == 0 || len != expected.end - expected.start {
            return Err(Error::other(format!("{target}: {status}, {len} bytes")));
        }
        check(&reader, expected).await?;
        got.whole += u64::from(range.is_none());
        got.partial += u64::from(range.is_some());
    }
    drop(reader);
    stream.close().await
}

/// Reads the head of an answer, and says how long the rest is.
async fn length(reader: &BufReader<&TcpStream>) -> Result<u64> {
    let mut len = 0;
    loop {
        let line = reader.read_line(LINE).await?.ok_or(Error::other("truncated in its head"))?;
        match line.split_once(": ") {
            None => return Ok(len),
            Some(("Content-Length", value)) => len = value.parse().map_err(Error::other)?,
            Some(_) => {}
        }
    }
}

/// Reads a part of a file, and sees whether it is that.
async fn check(reader: &BufReader<&TcpStream>, expected: Range<u64>) -> Result {
    let mut at = expected.start;
    while at < expected.end {
        let piece = PIECE.min((expected.end - at) as usize);
        let bytes = reader.take_exact(piece).await?;
        if let Some(wrong) = (at..).zip(&*bytes).find(|&(place, byte)| byte_at(place) != *byte) {
            return Err(Error::other(format!("byte {} is {}", wrong.0, wrong.1)));
        }
        at += bytes.len() as u64;
    }
    Ok(())
}
