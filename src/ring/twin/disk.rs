//! What is done with files and names: the requests, and the descriptors that they make.
//!
//! On Linux most of this happens in a worker of the kernel, so here it may take a while, and a cancel
//! that comes before it has begun stops it.

use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Instant;
use crate::slots::Key;

use super::super::file::{FileRequest, OpenHow, Stat, WORKING};
use super::super::listing::Listed;
use super::super::request::{Region, Request};
use super::files::File;
use super::filesystem::{Content, FileSystem, Node, Place, Walk};
use super::machine::Machine;
use super::memory;
use super::object::Object;
use super::operations::{Attempt, Class, Description, Op, Stage, counted, failed};
use super::queue::Work;
use super::tape::Lane;
use super::world::{World, error};

/// The one disk of a world.
pub(super) struct Disk {
    pub(super) files: FileSystem,
    /// How long each request takes.
    pub(super) latency: Duration,
    /// What reads, writes and syncs fail with.
    pub(super) failure: Option<i32>,
}

impl Disk {
    pub(super) fn new() -> Disk {
        Disk { files: FileSystem::new(), latency: Duration::ZERO, failure: None }
    }

    fn check(&self) -> Result<(), i32> {
        self.failure.map_or(Ok(()), Err)
    }
}

/// What a descriptor may do with a node.
#[derive(Clone, Copy)]
pub(super) struct OpenNode {
    node: Key<Node>,
    reads: bool,
    writes: bool,
    pub(super) appends: bool,
}

/// The descriptor whose file the request holds.
pub(super) fn descriptor(request: &FileRequest) -> Option<RawFd> {
    let fd = match *request {
        FileRequest::Open { at, .. }
        | FileRequest::Stat { at, .. }
        | FileRequest::Rename { at, .. }
        | FileRequest::Link { at, .. }
        | FileRequest::Symlink { at, .. }
        | FileRequest::Unlink { at, .. }
        | FileRequest::MakeDir { at, .. } => at,
        FileRequest::Sync { fd, .. }
        | FileRequest::SyncRange { fd, .. }
        | FileRequest::Allocate { fd, .. }
        | FileRequest::SetLen { fd, .. }
        | FileRequest::Advise { fd, .. } => fd,
    };
    Some(fd).filter(|&fd| fd != WORKING)
}

pub(super) fn written(request: &FileRequest) -> Option<Region> {
    match *request {
        FileRequest::Stat { room_and_path, .. } => Some(room_and_path.first(Stat::LEN as u32)),
        _ => None,
    }
}

pub(super) fn read_from(request: &FileRequest) -> Option<Region> {
    match *request {
        FileRequest::Open { how_and_path: region, .. }
        | FileRequest::Rename { names: region, .. }
        | FileRequest::Link { names: region, .. }
        | FileRequest::Symlink { names: region, .. }
        | FileRequest::Unlink { path: region, .. }
        | FileRequest::MakeDir { path: region, .. } => Some(region),
        FileRequest::Stat { room_and_path, .. } => Some(room_and_path.after(Stat::LEN as u32)),
        FileRequest::Sync { .. }
        | FileRequest::SyncRange { .. }
        | FileRequest::Allocate { .. }
        | FileRequest::SetLen { .. }
        | FileRequest::Advise { .. } => None,
    }
}

pub(super) fn describe(request: &FileRequest) -> &'static Description {
    match request {
        FileRequest::Open { .. } => &OPEN,
        FileRequest::Stat { .. } => &STAT,
        FileRequest::Sync { .. } => &SYNC,
        FileRequest::SyncRange { .. } => &SYNC_RANGE,
        FileRequest::Allocate { .. } => &ALLOCATE,
        FileRequest::SetLen { .. } => &SET_LEN,
        FileRequest::Advise { .. } => &ADVISE,
        FileRequest::Rename { .. } => &RENAME,
        FileRequest::Link { .. } => &LINK,
        FileRequest::Symlink { .. } => &SYMLINK,
        FileRequest::Unlink { .. } => &UNLINK,
        FileRequest::MakeDir { .. } => &MAKE_DIR,
    }
}

const fn described(name: &'static str) -> Description {
    Description { name, class: Class::Worker, interrupted: None, attempt }
}

static OPEN: Description = described("open");
static STAT: Description = described("stat");
static SYNC: Description = described("sync");
static SYNC_RANGE: Description = described("sync a range");
static ALLOCATE: Description = described("allocate");
static SET_LEN: Description = described("set the length");
static ADVISE: Description = described("advise");
static RENAME: Description = described("rename");
static LINK: Description = described("link");
static SYMLINK: Description = described("symlink");
static UNLINK: Description = described("unlink");
static MAKE_DIR: Description = described("make a directory");

fn attempt(machine: &mut Machine, op: &mut Op) -> Attempt {
    let Request::File(request) = op.request else { return failed(libc::EINVAL) };
    counted(machine.do_file_request(op, request))
}

impl Machine {
    fn do_file_request(&mut self, op: &Op, request: FileRequest) -> Result<i32, i32> {
        let now = self.since_start();
        match request {
            FileRequest::Open { how_and_path, .. } => {
                let (how, path) = memory::read_split(how_and_path, OpenHow::LEN);
                self.open_node(op, OpenHow::from_bytes(&how), &path)
            }
            FileRequest::Stat { room_and_path, flags, .. } => {
                let path = memory::read_path(room_and_path.after(Stat::LEN as u32));
                let node = self.stat_target(op, &path, flags)?;
                memory::write(room_and_path, 0, &self.disk.files.stat(node).to_bytes());
                Ok(0)
            }
            FileRequest::Sync { .. } | FileRequest::SyncRange { .. } => {
                self.open_of(op)?;
                self.disk.check().map(|()| 0)
            }
            FileRequest::Allocate { at, len, mode, .. } => {
                let open = self.open_of(op)?;
                self.allocate(open, at, len, mode).map(|()| 0)
            }
            FileRequest::SetLen { len, .. } => {
                let OpenNode { node, writes, .. } = self.open_of(op)?;
                if !writes || i64::try_from(len).is_err() {
                    return Err(libc::EINVAL);
                }
                self.disk.files.set_len(node, len, now).map(|()| 0)
            }
            FileRequest::Advise { .. } => self.open_of(op).map(|_| 0),
            FileRequest::Rename { to_at, names, second, .. } => {
                let (from, to) = memory::read_two_paths(names, second);
                let from = self.name(self.start_of(op)?, &from)?;
                let directory = self.node_at(to_at)?;
                let to = self.name(directory, &to)?;
                self.disk.files.rename(&from, &to, now).map(|()| 0)
            }
            FileRequest::Link { to_at, names, second, follow, .. } => {
                let (from, to) = memory::read_two_paths(names, second);
                let node = match descriptor_in(&from).filter(|_| follow) {
                    Some(fd) => self.node_at(fd)?,
                    None => {
                        let walk = Walk { follow, ..Walk::from(self.start_of(op)?) };
                        self.disk.files.existing(&from, walk)?
                    }
                };
                let directory = self.node_at(to_at)?;
                let to = self.name(directory, &to)?;
                self.disk.files.link(node, &to, now).map(|()| 0)
            }
            FileRequest::Symlink { names, second, .. } => {
                let (target, path) = memory::read_two_paths(names, second);
                let place = self.name(self.start_of(op)?, &path)?;
                self.disk.files.make_symlink(&place, &target, now).map(|()| 0)
            }
            FileRequest::Unlink { path, directory, .. } => {
                let place = self.name(self.start_of(op)?, &memory::read_path(path))?;
                self.disk.files.unlink(&place, directory, now).map(|()| 0)
            }
            FileRequest::MakeDir { path, mode, .. } => {
                let place = self.name(self.start_of(op)?, &memory::read_path(path))?;
                self.disk.files.make_dir(&place, mode & !UMASK, now).map(|()| 0)
            }
        }
    }

    fn since_start(&self) -> Duration {
        self.now() - Instant::MIN
    }

    /// What the descriptor of the operation may do.
    fn open_of(&self, op: &Op) -> Result<OpenNode, i32> {
        self.node_of(op.file).ok_or(libc::EINVAL)
    }

    /// What the file may do, if there is a node behind it.
    pub(super) fn node_of(&self, file: Option<Key<File>>) -> Option<OpenNode> {
        match self.files.table.get(file?)?.object {
            Object::Node(open) => Some(open),
            _ => None,
        }
    }

    /// Where the relative paths of the operation begin.
    fn start_of(&self, op: &Op) -> Result<Key<Node>, i32> {
        match op.file {
            None => Ok(self.disk.files.root()),
            Some(file) => self.node_of(Some(file)).map(|open| open.node).ok_or(libc::ENOTDIR),
        }
    }

    fn node_at(&mut self, at: RawFd) -> Result<Key<Node>, i32> {
        if at == WORKING {
            return Ok(self.disk.files.root());
        }
        let file = self.file_of(at, "a path")?;
        self.node_of(Some(file)).map(|open| open.node).ok_or(libc::ENOTDIR)
    }

    /// A name that is made, changed or taken away: a link there is not followed.
    fn name(&self, start: Key<Node>, path: &[u8]) -> Result<Place, i32> {
        self.disk.files.find(path, Walk { follow: false, ..Walk::from(start) })
    }

    fn stat_target(&self, op: &Op, path: &[u8], flags: i32) -> Result<Key<Node>, i32> {
        let start = self.start_of(op)?;
        if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
            return Ok(start);
        }
        let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
        self.disk.files.existing(path, Walk { follow, ..Walk::from(start) })
    }

    fn open_node(&mut self, op: &Op, how: OpenHow, path: &[u8]) -> Result<i32, i32> {
        let has = |flag: i32| how.flags & flag as u64 == flag as u64;
        let now = self.since_start();
        let (creates, only_new) = (has(libc::O_CREAT), has(libc::O_CREAT | libc::O_EXCL));
        let walk = Walk {
            start: self.start_of(op)?,
            follow: !has(libc::O_NOFOLLOW) && !only_new,
            beneath: how.resolve & libc::RESOLVE_BENEATH != 0,
        };
        let place = self.disk.files.find(path, walk)?;
        let access = how.flags as i32 & libc::O_ACCMODE;
        let (reads, writes) = (access != libc::O_WRONLY, access != libc::O_RDONLY);
        self.check_descriptors()?;
        let node = match place.node {
            Some(node) if has(libc::O_TMPFILE) => {
                self.disk.files.make_nameless(node, how.mode as u32 & !UMASK, now)?
            }
            Some(_) if only_new => return Err(libc::EEXIST),
            Some(node) => {
                match self.disk.files.node(node).content {
                    Content::Symlink(_) if !has(libc::O_PATH) => return Err(libc::ELOOP),
                    Content::Directory { .. } if writes || creates => return Err(libc::EISDIR),
                    Content::Directory { .. } => {}
                    _ if has(libc::O_DIRECTORY) => return Err(libc::ENOTDIR),
                    _ => {}
                }
                node
            }
            None if creates => self.disk.files.make_file(&place, how.mode as u32 & !UMASK, now)?,
            None => return Err(libc::ENOENT),
        };
        if has(libc::O_TRUNC) {
            self.disk.files.set_len(node, 0, now)?;
        }
        let moves_bytes = !has(libc::O_PATH);
        let (reads, writes) = (reads && moves_bytes, writes && moves_bytes);
        let open = OpenNode { node, reads, writes, appends: has(libc::O_APPEND) };
        let (fd, _) = self.open_file(Object::Node(open), Default::default(), "open")?;
        self.disk.files.open(node);
        Ok(fd)
    }

    /// The last descriptor of a file has gone, and no operation uses it.
    pub(super) fn end_node(&mut self, open: OpenNode) {
        self.disk.files.close(open.node);
    }

    pub(super) fn read_node(
        &mut self,
        open: OpenNode,
        room: usize,
        at: u64,
        write: impl FnOnce(&[u8]),
    ) -> Result<i32, i32> {
        self.disk.check()?;
        if !open.reads {
            return Err(libc::EBADF);
        }
        if i64::try_from(at).is_err() {
            return Err(libc::EINVAL);
        }
        let left = self.disk.files.len(open.node)?.saturating_sub(at);
        let count = self.cut(left.min(room as u64) as usize);
        let now = self.since_start();
        let node = self.disk.files.node(open.node);
        node.accessed = now;
        if let Content::Regular(bytes) = &node.content {
            write(&bytes[at.min(bytes.len() as u64) as usize..][..count]);
        }
        Ok(count as i32)
    }

    pub(super) fn write_node(&mut self, open: OpenNode, bytes: &[u8], at: u64) -> Result<i32, i32> {
        self.disk.check()?;
        if !open.writes {
            return Err(libc::EBADF);
        }
        if i64::try_from(at).is_err() {
            return Err(libc::EINVAL);
        }
        let at = if open.appends { self.disk.files.len(open.node)? } else { at };
        let bytes = &bytes[..self.cut(bytes.len())];
        self.disk.files.write(open.node, at, bytes, self.since_start()).map(|count| count as i32)
    }

    fn allocate(&mut self, open: OpenNode, at: u64, len: u64, mode: i32) -> Result<(), i32> {
        if !open.writes {
            return Err(libc::EBADF);
        }
        let end = at.checked_add(len).ok_or(libc::EFBIG)?;
        let (now, before) = (self.since_start(), self.disk.files.len(open.node)?);
        match mode {
            0 if len > 0 => self.disk.files.set_len(open.node, before.max(end), now),
            PUNCH_HOLE if len > 0 => {
                if let Content::Regular(bytes) = &mut self.disk.files.node(open.node).content {
                    bytes[at.min(before) as usize..end.min(before) as usize].fill(0);
                }
                Ok(())
            }
            0 | PUNCH_HOLE => Err(libc::EINVAL),
            _ => Err(libc::EOPNOTSUPP),
        }
    }

    /// How long a request of this kind is queued in a worker before it begins. `None`: it is done now.
    pub(super) fn queued_for(&mut self, op: &Op) -> Option<Duration> {
        let is_work = op.description.class == Class::Worker || self.node_of(op.file).is_some();
        if !is_work {
            return None;
        }
        if self.happens(Lane::Delay, self.faults.delay) {
            return Some(self.disk.latency + self.short_time(Lane::Delay));
        }
        Some(self.disk.latency).filter(|latency| !latency.is_zero())
    }

    /// A worker takes it up.
    pub(super) fn work_begins(&mut self, key: Key<Op>) {
        let Some(op) = self.ops.get_mut(key) else { return };
        if !matches!(op.stage, Stage::Queued(_)) {
            return;
        }
        op.stage = Stage::Woken;
        let ring = op.ring;
        if let Some(ring) = self.rings.get_mut(ring) {
            ring.work.push_back(Work::Retry(key));
        }
    }
}

/// What a world answers at once.
impl World {
    /// The names in an open directory.
    pub(crate) fn list(&self, directory: RawFd) -> io::Result<Vec<Listed>> {
        let machine = &mut *self.machine();
        let node = machine.node_at(directory).map_err(error)?;
        let names = machine.disk.files.list(node).map_err(error)?;
        let listed = |(stat, name): (Stat, Vec<u8>)| Listed {
            name: OsString::from_vec(name),
            inode: stat.inode,
            kind: Some(stat.mode & libc::S_IFMT),
        };
        Ok(names.into_iter().map(listed).collect())
    }

    /// What a symbolic link says.
    pub(crate) fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let files = &mut self.machine().disk.files;
        let walk = Walk { follow: false, ..Walk::from(files.root()) };
        let node = files.existing(path.as_os_str().as_bytes(), walk).map_err(error)?;
        match &files.node(node).content {
            Content::Symlink(target) => Ok(PathBuf::from(OsString::from_vec(target.clone()))),
            _ => Err(error(libc::EINVAL)),
        }
    }

    /// The path without links, `.` and `..`.
    pub(crate) fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        let files = &self.machine().disk.files;
        let path = files.canonical(path.as_os_str().as_bytes(), files.root()).map_err(error)?;
        Ok(PathBuf::from(OsString::from_vec(path)))
    }

    pub(crate) fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        let files = &mut self.machine().disk.files;
        let walk = Walk::from(files.root());
        let node = files.existing(path.as_os_str().as_bytes(), walk).map_err(error)?;
        files.node(node).permissions = mode & 0o7777;
        Ok(())
    }

    pub(crate) fn set_mode_of(&self, fd: RawFd, mode: u32) -> io::Result<()> {
        let machine = &mut *self.machine();
        let file = machine.file_of(fd, "fchmod").map_err(error)?;
        let open = machine.node_of(Some(file)).ok_or_else(|| error(libc::EINVAL))?;
        machine.disk.files.node(open.node).permissions = mode & 0o7777;
        Ok(())
    }
}

/// The descriptor that a path in `/proc` names, which is all that there is of that.
fn descriptor_in(path: &[u8]) -> Option<RawFd> {
    std::str::from_utf8(path.strip_prefix(b"/proc/self/fd/")?).ok()?.parse().ok()
}

/// What is not given to a new file, whatever was asked for.
const UMASK: u32 = 0o022;

const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
