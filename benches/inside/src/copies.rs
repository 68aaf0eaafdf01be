//! From one TCP connection over loopback to another, and into a file: the processor time of whoever passes the
//! bytes on, and of the kernel's workers that do it for them. What feeds and what takes is on another core.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream as ByThreads};
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream as ByTokio;
use trine::Result;
use trine::fs::File;
use trine::io::Write as _;
use trine::net::TcpStream;

use crate::files::Place;
use crate::measure::{Cores, pin};
use crate::{clock, runs};

/// MiB that go through each time: so many that even of one time most are moved where that pays.
pub const MANY: u64 = 16;
const MIB: usize = 1 << 20;

/// Two ends of a connection.
fn connection() -> (ByThreads, ByThreads) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let one = ByThreads::connect(address).expect("a connection");
    (one, listener.accept().expect("the other end").0)
}

/// The processor time of this process from here on, without that of the threads which hold the other ends.
struct Spent {
    began: Duration,
    others: Vec<JoinHandle<Duration>>,
}

impl Spent {
    fn count() -> Spent {
        Spent { began: clock::of_process(), others: Vec::new() }
    }

    fn beside(mut self, other: impl FnOnce() + Send + 'static) -> Spent {
        self.others.push(thread::spawn(|| {
            pin(Cores::ours().helper);
            other();
            clock::of_thread()
        }));
        self
    }

    /// Waits for the others, which have to be about to end.
    fn finish(self) -> Duration {
        let others = self.others.into_iter().map(|other| other.join().expect("no panic"));
        let others: Duration = others.sum();
        clock::of_process() - self.began - others
    }
}

fn feed(mut to: ByThreads, times: u64) {
    let bytes = vec![7; MIB];
    for _ in 0..times * MANY {
        to.write_all(&bytes).expect("who takes it");
    }
}

fn take(mut from: ByThreads, times: u64) {
    let (mut bytes, mut came) = (vec![0; MIB], 0);
    loop {
        match from.read(&mut bytes).expect("more, or the end") {
            0 => break,
            len => came += len as u64,
        }
    }
    assert_eq!(came, amount(times));
}

fn amount(times: u64) -> u64 {
    times * MANY * MIB as u64
}

fn adopt(stream: ByThreads) -> Result<TcpStream> {
    TcpStream::from_fd(OwnedFd::from(stream))
}

// From one connection to another.

fn copied(times: u64, copy: impl AsyncFnOnce(&TcpStream, &TcpStream) -> Result) -> Duration {
    let ((feeder, from), (to, taker)) = (connection(), connection());
    runs::trine(async || {
        let (from, to) = (adopt(from)?, adopt(to)?);
        let spent = Spent::count();
        let spent = spent.beside(move || feed(feeder, times)).beside(move || take(taker, times));
        copy(&from, &to).await?;
        to.finish().await?;
        Ok(spent.finish())
    })
}

pub fn copy_by_trine(times: u64) -> Duration {
    copied(times, async |from, to| {
        assert_eq!(trine::io::copy(from, to).await?, amount(times));
        Ok(())
    })
}

/// Each chunk received and sent.
pub fn copy_plainly(times: u64) -> Duration {
    copied(times, async |from, to| {
        while let Some(chunk) = from.recv().await? {
            to.write_all(chunk).await?;
        }
        Ok(())
    })
}

pub fn copy_by_tokio(times: u64) -> Duration {
    let ((feeder, from), (to, taker)) = (connection(), connection());
    runs::tokio(async {
        let adopt = |stream: ByThreads| {
            stream.set_nonblocking(true).expect("a descriptor of ours");
            ByTokio::from_std(stream).expect("a stream")
        };
        let (mut from, mut to) = (adopt(from), adopt(to));
        let spent = Spent::count();
        let spent = spent.beside(move || feed(feeder, times)).beside(move || take(taker, times));
        let copied = tokio::io::copy(&mut from, &mut to).await;
        assert_eq!(copied.expect("both streams"), amount(times));
        to.shutdown().await.expect("a stream");
        spent.finish()
    })
}

// From a connection into a file.

fn received(times: u64, receive: impl AsyncFnOnce(&TcpStream, &File) -> Result) -> Duration {
    let place = Place::new();
    let (feeder, from) = connection();
    runs::trine(async || {
        let (from, file) = (adopt(from)?, File::create(place.file("received")).await?);
        let spent = Spent::count().beside(move || feed(feeder, times));
        receive(&from, &file).await?;
        let spent = spent.finish();
        assert_eq!(file.metadata().await?.len(), amount(times));
        Ok(spent)
    })
}

pub fn receive_by_trine(times: u64) -> Duration {
    received(times, async |from, file| {
        file.receive_from(from, 0..amount(times)).await?;
        Ok(())
    })
}

/// Each chunk received and written.
pub fn receive_plainly(times: u64) -> Duration {
    received(times, async |from, file| {
        let mut at = 0;
        while let Some(chunk) = from.recv().await? {
            at += file.write_all_at(chunk, at).await?.len() as u64;
        }
        Ok(())
    })
}
