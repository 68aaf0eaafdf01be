//! Reading and writing files: the ring by hand, trine, tokio's pool of threads, and threads alone.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{opcode, types};
use tokio::task::{JoinSet, spawn_blocking};
use trine::nursery;

use crate::hand::Ring;
use crate::runs;

/// Reads under way at a time.
const DEPTH: u64 = 64;
const PAGE: usize = 4096;
/// Bytes of the file that is read here and there.
const SIZE: u64 = 64 << 20;
const PIECE: usize = 1 << 20;
/// Pieces that are written before they are synced.
const PIECES: u64 = 32;
/// Small files that are made, looked at and removed.
const FILES: u64 = 1000;

/// A directory of our own, which goes when this does.
pub struct Place(PathBuf);

impl Place {
    pub fn new() -> Place {
        let path = std::env::temp_dir().join(format!("trine-inside-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory for temporary files");
        Place(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The file that is read here and there: one for all sides and rounds, all of it in the page cache. It has
/// no name any more, so it is gone when the program is.
fn large() -> &'static File {
    static FILE: OnceLock<File> = OnceLock::new();
    FILE.get_or_init(|| {
        let place = Place::new();
        let mut options = File::options();
        options.read(true).write(true).create(true);
        let file = options.open(place.file("large")).expect("a file");
        let mut bytes = vec![0; PIECE];
        for at in 0..SIZE / PIECE as u64 {
            bytes.fill(at as u8);
            file.write_all_at(&bytes, at * PIECE as u64).expect("room on the disk");
        }
        file.sync_all().expect("a disk");
        file
    })
}

/// By which it is opened, here and elsewhere.
fn path_of_large() -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), large().as_raw_fd()).into()
}

/// Open to be read from the page cache, or past it where the file system can.
fn open_large<const DIRECT: bool>() -> File {
    let path = path_of_large();
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path);
    match direct {
        Ok(file) if DIRECT => file,
        _ => File::open(&path).expect("it was made"),
    }
}

/// Memory that devices can write to.
#[repr(align(4096))]
struct Page([u8; PAGE]);

/// Where reads go: pages here and there, the same ones each time.
#[derive(Clone)]
struct Places(u64);

impl Places {
    fn of(reader: u64) -> Places {
        Places(0x9e37_79b9_7f4a_7c15 ^ (reader + 1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % (SIZE / PAGE as u64) * PAGE as u64
    }
}

// Pages here and there, 64 at a time.

pub fn reads_by_hand<const DIRECT: bool>(times: u64) -> Duration {
    reads_by_ring::<DIRECT, false>(times)
}

/// The kernel knows the buffers beforehand, as it does those of trine.
pub fn reads_registered<const DIRECT: bool>(times: u64) -> Duration {
    reads_by_ring::<DIRECT, true>(times)
}

fn reads_by_ring<const DIRECT: bool, const REGISTERED: bool>(times: u64) -> Duration {
    let file = open_large::<DIRECT>();
    let fd = file.as_raw_fd();
    let mut ring = Ring::open(128, 256).expect("a ring");
    let mut readers: Vec<_> =
        (0..DEPTH).map(|reader| (Places::of(reader), times, Box::new(Page([0; PAGE])))).collect();
    if REGISTERED {
        let start = |reader: &mut (_, _, Box<Page>)| (&raw mut *reader.2).cast();
        let pages = readers.iter_mut().map(start);
        let pages: Vec<_> = pages.map(|iov_base| libc::iovec { iov_base, iov_len: PAGE }).collect();
        // SAFETY: the pages live until the last completion has been seen below.
        unsafe { ring.io.submitter().register_buffers(&pages) }.expect("room for buffers");
    }
    let mut left = DEPTH;
    let push = |ring: &mut Ring, reader: &mut (Places, u64, Box<Page>), number: u64| {
        let (places, _, page) = reader;
        let (at, start, len) = (places.next(), page.0.as_mut_ptr(), PAGE as u32);
        let entry = if REGISTERED {
            let page = number as u16;
            opcode::ReadFixed::new(types::Fd(fd), start, len, page).offset(at).build()
        } else {
            opcode::Read::new(types::Fd(fd), start, len).offset(at).build()
        };
        // SAFETY: the buffer lives until the last completion has been seen below.
        unsafe { ring.push(&entry.user_data(number)) };
    };
    let began = Instant::now();
    for number in 0..DEPTH {
        push(&mut ring, &mut readers[number as usize], number);
    }
    while left > 0 {
        ring.enter(1);
        let done: Vec<_> = ring.io.completion().collect();
        for done in done {
            assert_eq!(done.result(), PAGE as i32);
            let reader = &mut readers[done.user_data() as usize];
            reader.1 -= 1;
            match reader.1 {
                0 => left -= 1,
                _ => push(&mut ring, reader, done.user_data()),
            }
        }
    }
    began.elapsed()
}

pub fn reads_by_trine<const DIRECT: bool>(times: u64) -> Duration {
    let path = path_of_large();
    runs::trine(async || {
        let direct = trine::fs::File::options().read(true).direct(true).open(&path).await;
        let file = match direct {
            Ok(file) if DIRECT => file,
            _ => trine::fs::File::open(&path).await?,
        };
        let began = Instant::now();
        nursery(async |n| {
            for reader in 0..DEPTH {
                let file = &file;
                n.spawn(async move {
                    let (mut places, mut buf) = (Places::of(reader), file.direct_buf(PAGE).await?);
                    for _ in 0..times {
                        buf = file.read_at(buf, places.next()).await?;
                        assert_eq!(buf.len(), PAGE);
                    }
                    Ok(())
                });
            }
            Ok(())
        })
        .await?;
        Ok(began.elapsed())
    })
}

pub fn reads_by_tokio<const DIRECT: bool>(times: u64) -> Duration {
    let file = Arc::new(open_large::<DIRECT>());
    runs::tokio(async {
        let began = Instant::now();
        let mut readers = JoinSet::new();
        for reader in 0..DEPTH {
            let file = Arc::clone(&file);
            readers.spawn_local(async move {
                let (mut places, mut page) = (Places::of(reader), Box::new(Page([0; PAGE])));
                for _ in 0..times {
                    let (file, at) = (Arc::clone(&file), places.next());
                    // What `tokio::fs` does, without its cursor.
                    let read = move || file.read_exact_at(&mut page.0, at).map(|()| page);
                    page = spawn_blocking(read).await.expect("no panic").expect("a page");
                }
            });
        }
        while readers.join_next().await.is_some() {}
        began.elapsed()
    })
}

pub fn reads_by_threads<const DIRECT: bool>(times: u64) -> Duration {
    let file = open_large::<DIRECT>();
    let began = Instant::now();
    thread::scope(|scope| {
        for reader in 0..DEPTH {
            let file = &file;
            scope.spawn(move || {
                let (mut places, mut page) = (Places::of(reader), Box::new(Page([0; PAGE])));
                for _ in 0..times {
                    file.read_exact_at(&mut page.0, places.next()).expect("a page");
                }
            });
        }
    });
    began.elapsed()
}

/// What the program says of itself: as many reads, on the same core.
pub fn reads_by_fio<const DIRECT: bool>(times: u64) -> Duration {
    let settings = [
        "--name=reads --readonly --ioengine=io_uring --rw=randread --norandommap --bs=4k"
            .to_owned(),
        "--iodepth_batch_submit=64 --iodepth_batch_complete_max=64 --gtod_reduce=1".to_owned(),
        "--invalidate=0 --output-format=terse --terse-version=3".to_owned(),
        format!("--direct={} --iodepth={DEPTH} --size={SIZE}", u8::from(DIRECT)),
        format!("--number_ios={} --io_size=1t", times * DEPTH),
        format!("--filename={}", path_of_large().display()),
    ];
    let fio = Command::new("fio").args(settings.iter().flat_map(|some| some.split(' '))).output();
    let said = fio.expect("fio, which has to be installed");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let said = String::from_utf8_lossy(&said.stdout);
    let number = |field| said.split(';').nth(field).and_then(|number| number.parse::<u64>().ok());
    let (Some(kibibytes), Some(millis)) = (number(5), number(8)) else { panic!("what is {said}?") };
    let done = kibibytes * 1024 / PAGE as u64;
    Duration::from_millis(millis).mul_f64((times * DEPTH) as f64 / done as f64)
}

// Pieces of 1 MiB one after another, and an fsync at the end.

pub fn writes_by_hand(times: u64) -> Duration {
    let place = Place::new();
    let file = File::create(place.file("written")).expect("a file");
    let fd = types::Fd(file.as_raw_fd());
    let mut ring = Ring::open(8, 16).expect("a ring");
    let bytes = vec![1; PIECE];
    let mut wait = |entry: io_uring::squeue::Entry| {
        // SAFETY: the bytes live longer than the operation, whose end is waited for.
        unsafe { ring.push(&entry) };
        ring.enter(1);
        ring.io.completion().next().expect("it was waited for").result()
    };
    let began = Instant::now();
    for _ in 0..times {
        for piece in 0..PIECES {
            let write = opcode::Write::new(fd, bytes.as_ptr(), PIECE as u32);
            assert_eq!(wait(write.offset(piece * PIECE as u64).build()), PIECE as i32);
        }
        assert_eq!(wait(opcode::Fsync::new(fd).build()), 0);
    }
    began.elapsed()
}

pub fn writes_by_trine(times: u64) -> Duration {
    let place = Place::new();
    runs::trine(async || {
        let file = trine::fs::File::create(place.file("written")).await?;
        let mut bytes = vec![1; PIECE];
        let began = Instant::now();
        for _ in 0..times {
            for piece in 0..PIECES {
                bytes = file.write_all_at(bytes, piece * PIECE as u64).await?;
            }
            file.sync_all().await?;
        }
        Ok(began.elapsed())
    })
}

pub fn writes_by_tokio(times: u64) -> Duration {
    let place = Place::new();
    let file = Arc::new(File::create(place.file("written")).expect("a file"));
    runs::tokio(async {
        let mut bytes = vec![1; PIECE];
        let began = Instant::now();
        for _ in 0..times {
            for piece in 0..PIECES {
                let file = Arc::clone(&file);
                let write = move || write_piece(&file, bytes, piece);
                bytes = spawn_blocking(write).await.expect("no panic").expect("room");
            }
            let file = Arc::clone(&file);
            spawn_blocking(move || file.sync_all()).await.expect("no panic").expect("a disk");
        }
        began.elapsed()
    })
}

pub fn writes_by_threads(times: u64) -> Duration {
    let place = Place::new();
    let file = File::create(place.file("written")).expect("a file");
    let mut bytes = vec![1; PIECE];
    let began = Instant::now();
    for _ in 0..times {
        for piece in 0..PIECES {
            bytes = write_piece(&file, bytes, piece).expect("room");
        }
        file.sync_all().expect("a disk");
    }
    began.elapsed()
}

fn write_piece(file: &File, bytes: Vec<u8>, piece: u64) -> io::Result<Vec<u8>> {
    file.write_all_at(&bytes, piece * PIECE as u64).map(|()| bytes)
}

// Small files: made with a line in it, looked at, removed.

pub fn small_files_by_trine(times: u64) -> Duration {
    let place = Place::new();
    runs::trine(async || {
        let began = Instant::now();
        for _ in 0..times {
            nursery(async |n| {
                for task in 0..DEPTH {
                    let place = &place;
                    n.spawn(async move {
                        for number in (task..FILES).step_by(DEPTH as usize) {
                            let path = place.file(&number.to_string());
                            trine::fs::write(&path, "a line\n").await?;
                            assert_eq!(trine::fs::metadata(&path).await?.len(), 7);
                            trine::fs::remove_file(&path).await?;
                        }
                        Ok(())
                    });
                }
                Ok(())
            })
            .await?;
        }
        Ok(began.elapsed())
    })
}

pub fn small_files_by_tokio(times: u64) -> Duration {
    let place = Place::new();
    runs::tokio(async {
        let began = Instant::now();
        for _ in 0..times {
            let mut tasks = JoinSet::new();
            for task in 0..DEPTH {
                let paths: Vec<_> = (task..FILES)
                    .step_by(DEPTH as usize)
                    .map(|number| place.file(&number.to_string()))
                    .collect();
                tasks.spawn_local(async move {
                    for path in paths {
                        tokio::fs::write(&path, "a line\n").await.expect("room");
                        assert_eq!(tokio::fs::metadata(&path).await.expect("a file").len(), 7);
                        tokio::fs::remove_file(&path).await.expect("a file");
                    }
                });
            }
            while tasks.join_next().await.is_some() {}
        }
        began.elapsed()
    })
}

pub fn small_files_by_threads(times: u64) -> Duration {
    let place = Place::new();
    let one = |path: &Path| -> io::Result<()> {
        std::fs::write(path, "a line\n")?;
        assert_eq!(std::fs::metadata(path)?.len(), 7);
        std::fs::remove_file(path)
    };
    let began = Instant::now();
    for _ in 0..times {
        for number in 0..FILES {
            one(&place.file(&number.to_string())).expect("a file");
        }
    }
    began.elapsed()
}
