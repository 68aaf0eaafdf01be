//! Standard input, output and error. A process has one of each, so the real ones are those of this very
//! program, run once more.

use std::fs::{self, File};
use std::io::{Read as _, Seek, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::{env, thread};

use futures::poll;
use trine::io::{self, BufReader, BufWriter, Write};
use trine::testing::{World, wait_all_tasks_blocked};
use trine::{CancelScope, Error, Result, nursery};

use super::common::{in_kernel, turns, within};
use super::once;

const PART: &str = "TRINE_TEST_PART";

/// Not a test of its own: plays a part when it is asked to.
#[test]
fn the_program() {
    let Ok(part) = env::var(PART) else { return };
    let before = fs::read_dir("/proc/self/fd").expect("/proc").count();
    let played = trine::run(async || match &part[..] {
        "lines" => lines().await,
        "crowd" => crowd().await,
        "dropped" => dropped().await,
        "terminal" => terminal().await,
        "refused" => refused().await,
        other => panic!("there is no part {other}"),
    });
    played.expect("it is played to its end");
    let after = fs::read_dir("/proc/self/fd").expect("/proc").count();
    assert_eq!(before, after, "descriptors");
    // They were not closed.
    println!("\n=over");
}

/// Runs the program; what it prints goes into `output`.
fn program(part: &str, input: impl Into<Stdio>, output: impl Into<Stdio>) -> Child {
    let mut command = Command::new(env::current_exe().expect("we run, so we are somewhere"));
    command.args(["--exact", "standard::the_program", "--nocapture"]).env(PART, part);
    command.stdin(input).stdout(output).spawn().expect("it can be run once more")
}

/// The lines with a mark: others are those of the test harness.
fn marked(output: &str) -> Vec<&str> {
    output.lines().filter(|line| line.starts_with('=')).collect()
}

/// What it prints when this is its input.
#[track_caller]
fn printed(part: &str, input: impl Into<Stdio>) -> String {
    let output = program(part, input, Stdio::piped()).wait_with_output().expect("it is our child");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}");
    text
}

async fn lines() -> Result {
    let (lines, out) = (BufReader::new(io::stdin()?), BufWriter::new(io::stdout()?));
    out.write("\n").await?;
    while let Some(line) = lines.read_line(100_000).await? {
        writeln!(out, "={}", line.len()).await?;
    }
    // The end stays, whoever asks.
    assert!(io::stdin()?.recv().await?.is_none());
    out.write("=end\n").await?;
    out.finish().await?;
    io::stderr()?.write_all("").await.map(drop)?;
    Ok(())
}

const ALL: [&str; 5] = ["=3", "=0", "=90000", "=end", "=over"];

fn text() -> Vec<u8> {
    [b"one\n\n".to_vec(), vec![b'x'; 90_000], b"\n".to_vec()].concat()
}

// A file cannot be polled, and its position is that of the descriptor.
#[test]
fn a_file_is_read_to_its_end_and_one_is_written() {
    within(20, || {
        let path = env::temp_dir().join(format!("trine-standard-{}", std::process::id()));
        let mut options = File::options();
        options.create(true).truncate(true).read(true).write(true);
        let mut file = options.open(&path).expect("a temporary file");
        fs::remove_file(&path).expect("it is there");
        file.write_all(&[b"skipped".to_vec(), text()].concat()).expect("there is room");
        file.seek(std::io::SeekFrom::Start(7)).expect("it is a file");
        assert_eq!(marked(&printed("lines", file.try_clone().expect("another"))), ALL);
        // Now it is the output, behind what is there.
        let mut child = program("lines", Stdio::null(), file.try_clone().expect("another"));
        assert!(child.wait().expect("it is our child").success());
        file.seek(std::io::SeekFrom::Start(7 + text().len() as u64)).expect("it is a file");
        let mut output = String::new();
        file.read_to_string(&mut output).expect("text");
        assert_eq!(marked(&output), ["=end", "=over"]);
    });
}

/// Writes the text in pieces, and ends.
fn feed(into: OwnedFd) -> thread::JoinHandle<()> {
    let mut into = File::from(into);
    let pieces = move || {
        text().chunks(7001).for_each(|piece| into.write_all(piece).expect("it reads on"));
    };
    thread::spawn(pieces)
}

#[test]
fn a_socket_is_read_to_its_end() {
    within(20, || {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let feeder = feed(ours.into());
        assert_eq!(marked(&printed("lines", OwnedFd::from(theirs))), ALL);
        feeder.join().expect("it does not panic");
    });
}

#[test]
fn a_pipe_is_read_to_its_end() {
    within(20, || {
        let mut child = program("lines", Stdio::piped(), Stdio::piped());
        let feeder = feed(child.stdin.take().expect("it is piped").into());
        let output = child.wait_with_output().expect("it is our child");
        assert_eq!(marked(&String::from_utf8_lossy(&output.stdout)), ALL);
        feeder.join().expect("it does not panic");
    });
}

async fn crowd() -> Result {
    io::stdout()?.write_all("\n").await?;
    nursery(async |n| {
        for mark in b'a'..=b'h' {
            n.spawn(async move {
                let out = io::stdout()?;
                for _ in 0..3 {
                    // More than a pipe holds.
                    let line = [b"=".to_vec(), vec![mark; 100_000], b"\n".to_vec()].concat();
                    out.write_all(line).await?;
                }
                Ok(())
            });
        }
        Ok(())
    })
    .await
}

#[test]
fn what_one_call_writes_stays_together() {
    within(20, || {
        let output = printed("crowd", Stdio::null());
        let lines = marked(&output);
        assert_eq!(lines.len(), 25, "8 tasks, 3 lines each, and the end");
        for line in &lines[..24] {
            let bytes = &line.as_bytes()[1..];
            assert!(bytes.len() == 100_000 && bytes.iter().all(|byte| *byte == bytes[0]));
        }
        for mark in "abcdefgh".chars() {
            assert_eq!(lines.iter().filter(|line| line.ends_with(mark)).count(), 3);
        }
    });
}

// D7: a part of it is out. That is no reason for all others to be silent from then on.
async fn dropped() -> Result {
    let out = io::stdout()?;
    {
        let mut halfway = pin!(out.write_all(vec![b'x'; 8 << 20]));
        assert!(poll!(halfway.as_mut()).is_pending());
        turns(3).await; // As much as a pipe takes at once is out then.
    }
    out.write_all("\n=after\n").await?;
    let scope = CancelScope::new();
    nursery(async |n| {
        n.spawn(async {
            let written =
                scope.run(async |_| out.write_all(vec![b'y'; 8 << 20]).await.map_err(Error::from));
            written.await.map(drop)
        });
        in_kernel(1).await?;
        scope.cancel();
        Ok(())
    })
    .await?;
    out.write_all("\n=after another\n").await?;
    Ok(())
}

#[test]
fn a_dropped_or_cancelled_write_leaves_the_output_to_others() {
    within(20, || {
        let output = printed("dropped", Stdio::null());
        assert_eq!(marked(&output), ["=after", "=after another", "=over"]);
    });
}

async fn refused() -> Result {
    let error = io::stdin().expect_err("the ring cannot wait with it");
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::InvalidInput));
    assert!(error.to_string().contains("descriptor 0 is non-blocking"), "{error}");
    Ok(())
}

#[test]
fn a_non_blocking_input_is_refused() {
    let (_ours, theirs) = UnixStream::pair().expect("sockets");
    theirs.set_nonblocking(true).expect("it is ours");
    within(20, || assert_eq!(marked(&printed("refused", OwnedFd::from(theirs))), ["=over"]));
}

/// What happens at a terminal: reads that are cancelled and dropped, and another program that reads.
async fn terminal() -> Result {
    let (input, out) = (io::stdin()?, io::stdout()?);
    let scope = CancelScope::new();
    nursery(async |n| {
        n.spawn(async { scope.run(async |_| input.recv().await).await.map(drop) });
        in_kernel(1).await?;
        let busy = io::stdin()?.recv().await;
        assert!(matches!(busy, Err(Error::Busy(_))), "{busy:?}");
        scope.cancel();
        Ok(())
    })
    .await?;
    assert!(once(input.recv()).await?.is_none());
    let lines = BufReader::new(&input);
    out.write_all("=ready\n").await?;
    assert_eq!(lines.read_line(100).await?.as_deref(), Some("first"));
    // Who types now types for the child: nobody here has asked for more.
    out.write_all("=got first\n").await?;
    let text = "read line </dev/tty; echo \"=child got $line\"";
    let child = Command::new("sh").args(["-c", text]).spawn();
    assert!(child?.wait()?.success());
    assert_eq!(lines.read_line(100).await?.as_deref(), Some("second"));
    out.write_all("=got second\n").await?;
    assert_eq!(lines.read_line(100).await?, None);
    out.write_all("=end\n").await?;
    Ok(())
}

#[test]
fn a_terminal_is_read_a_line_at_a_time_and_nothing_is_read_ahead() {
    let Ok(_) = Command::new("python3").arg("-V").output() else {
        return eprintln!("skipped: python3 is not installed");
    };
    within(60, || {
        let ourselves = env::current_exe().expect("we run, so we are somewhere");
        // Others who have the same terminal may have made it non-blocking.
        for blocking in ["1", "0"] {
            let mut command = Command::new("python3");
            command.args(["-c", include_str!("terminal.py"), blocking]).arg(&ourselves);
            command.args(["--exact", "standard::the_program", "--nocapture"]);
            command.env(PART, "terminal").stdin(Stdio::null());
            let output = command.output().expect("there is a python3");
            assert!(output.status.success(), "{blocking}: {output:?}");
        }
    });
}

// A simulated world has nobody who types, and keeps to itself what is printed.
#[trine::test(runs = 10)]
async fn in_a_simulated_world_the_input_is_at_its_end_and_the_output_taken() -> Result {
    assert!(World::try_current().is_some());
    assert!(io::stdin()?.recv().await?.is_none());
    for out in [io::stdout()?, io::stdout()?] {
        nursery(async |n| {
            for _ in 0..3 {
                n.spawn(async {
                    out.write_all(vec![b'x'; 100_000]).await?;
                    Ok(())
                });
            }
            wait_all_tasks_blocked().await
        })
        .await?;
    }
    let through = io::join(io::stdin()?, io::stderr()?);
    assert_eq!(io::copy(&through, &through).await?, 0);
    through.finish().await?;
    through.write_all("it is not closed").await?;
    Ok(())
}
