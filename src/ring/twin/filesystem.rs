//! Files and names in memory: directories, regular files, symbolic links.
//!
//! This is the tree alone. What a descriptor may do with a node is in `disk`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::slots::{Key, Slots};

use super::super::file::{Stamp, Stat};

pub(super) struct FileSystem {
    nodes: Slots<Node>,
    root: Key<Node>,
    made: u64,
    /// Bytes of all regular files, and how many there may be.
    used: u64,
    room: u64,
}

/// What an inode is.
pub(super) struct Node {
    pub(super) content: Content,
    /// Read, write and so on, for whom; remembered, not obeyed.
    pub(super) permissions: u32,
    number: u64,
    links: u32,
    /// It was made without a name, and may still get one.
    awaits_name: bool,
    /// Descriptors; the node lives for as long as there is one, or a name.
    opens: u32,
    created: Duration,
    pub(super) accessed: Duration,
    pub(super) modified: Duration,
    changed: Duration,
}

pub(super) enum Content {
    Regular(Vec<u8>),
    Directory { entries: Entries, parent: Key<Node> },
    Symlink(Vec<u8>),
}

pub(super) type Entries = BTreeMap<Vec<u8>, Key<Node>>;

/// Where a path leads.
#[derive(Debug)]
pub(super) struct Place {
    /// The directory of the last name.
    pub(super) directory: Key<Node>,
    /// `.` or `..` if the path has no last name.
    pub(super) name: Vec<u8>,
    pub(super) node: Option<Key<Node>>,
    /// The path says that it is a directory.
    must_be_directory: bool,
}

/// How a path is walked.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    /// Where relative paths begin.
    pub(super) start: Key<Node>,
    /// Whether a symbolic link at the very end is followed.
    pub(super) follow: bool,
    /// Whether the path may not leave the directory it begins in.
    pub(super) beneath: bool,
}

/// Symbolic links on the way.
const MOST_LINKS: u32 = 40;
const LONGEST_NAME: usize = 255;
/// A file longer than this is refused: all of it is in memory.
const LONGEST_FILE: u64 = 1 << 30;

impl FileSystem {
    /// With a directory for temporary files, as every machine has.
    pub(super) fn new() -> FileSystem {
        let mut nodes = Slots::new();
        let root = nodes.insert_with(|root| {
            let content = Content::Directory { entries: Entries::new(), parent: root };
            Node::new(content, 0o755, 1, Duration::ZERO)
        });
        let mut filesystem = FileSystem { nodes, root, made: 1, used: 0, room: u64::MAX };
        filesystem.node(root).links = 1;
        let place = filesystem.find(b"/tmp", Walk::from(root)).expect("a name in the root");
        filesystem.make_dir(&place, 0o777, Duration::ZERO).expect("the first name");
        filesystem
    }

    pub(super) fn root(&self) -> Key<Node> {
        self.root
    }

    /// So many bytes fit in all.
    pub(super) fn limit(&mut self, bytes: u64) {
        self.room = bytes;
    }

    /// A node that somebody holds.
    pub(super) fn node(&mut self, key: Key<Node>) -> &mut Node {
        self.nodes.get_mut(key).expect("a node lives while it has a name or a descriptor")
    }

    fn get(&self, key: Key<Node>) -> &Node {
        self.nodes.get(key).expect("a node lives while it has a name or a descriptor")
    }

    fn is_directory(&self, key: Key<Node>) -> bool {
        matches!(self.get(key).content, Content::Directory { .. })
    }

    fn entries(&mut self, directory: Key<Node>) -> Result<&mut Entries, i32> {
        match &mut self.node(directory).content {
            Content::Directory { entries, .. } => Ok(entries),
            _ => Err(libc::ENOTDIR),
        }
    }

    // Paths.

    pub(super) fn find(&self, path: &[u8], walk: Walk) -> Result<Place, i32> {
        if path.is_empty() {
            return Err(libc::ENOENT);
        }
        if walk.beneath && path.starts_with(b"/") {
            return Err(libc::EXDEV);
        }
        let mut directory = if path.starts_with(b"/") { self.root } else { walk.start };
        let must_be_directory = path.ends_with(b"/");
        let mut names: Vec<Vec<u8>> = parts(path).rev().collect();
        let mut links = 0;
        // A path of slashes only.
        let mut place =
            Place { directory, name: b".".to_vec(), node: Some(directory), must_be_directory };
        while let Some(name) = names.pop() {
            let Content::Directory { entries, parent } = &self.get(directory).content else {
                return Err(libc::ENOTDIR);
            };
            if name.len() > LONGEST_NAME {
                return Err(libc::ENAMETOOLONG);
            }
            let node = match &name[..] {
                b"." => Some(directory),
                b".." if walk.beneath && directory == walk.start => return Err(libc::EXDEV),
                b".." => Some(*parent),
                name => entries.get(name).copied(),
            };
            let is_last = names.is_empty();
            let target = node.and_then(|node| match &self.get(node).content {
                Content::Symlink(target) if !is_last || walk.follow || must_be_directory => {
                    Some(target)
                }
                _ => None,
            });
            if let Some(target) = target {
                links += 1;
                if links > MOST_LINKS {
                    return Err(libc::ELOOP);
                }
                if target.starts_with(b"/") {
                    if walk.beneath {
                        return Err(libc::EXDEV);
                    }
                    directory = self.root;
                }
                place = Place { directory, name: b".".to_vec(), node: Some(directory), ..place };
                names.extend(parts(target).rev());
                continue;
            }
            place = Place { directory, name, node, ..place };
            match node {
                _ if is_last => {}
                Some(node) => directory = node,
                None => return Err(libc::ENOENT),
            }
        }
        match place.node {
            Some(node) if must_be_directory && !self.is_directory(node) => Err(libc::ENOTDIR),
            _ => Ok(place),
        }
    }

    /// What the path leads to.
    pub(super) fn existing(&self, path: &[u8], walk: Walk) -> Result<Key<Node>, i32> {
        self.find(path, walk)?.node.ok_or(libc::ENOENT)
    }

    /// The path without links, `.` and `..`: realpath(3).
    pub(super) fn canonical(&self, path: &[u8], start: Key<Node>) -> Result<Vec<u8>, i32> {
        let mut at = self.existing(path, Walk::from(start))?;
        let place = self.find(path, Walk::from(start))?;
        let mut names = Vec::new();
        if !self.is_directory(at) {
            names.push(place.name);
            at = place.directory;
        }
        while at != self.root {
            let Content::Directory { parent, .. } = &self.get(at).content else { break };
            let Content::Directory { entries, .. } = &self.get(*parent).content else { break };
            let name = entries.iter().find(|(_, node)| **node == at).map(|(name, _)| name.clone());
            names.push(name.ok_or(libc::ENOENT)?);
            at = *parent;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend(name);
        }
        Ok(if path.is_empty() { b"/".to_vec() } else { path })
    }

    // Names.

    fn add(
        &mut self,
        place: &Place,
        content: Content,
        permissions: u32,
        now: Duration,
    ) -> Result<Key<Node>, i32> {
        if place.node.is_some() {
            return Err(libc::EEXIST);
        }
        if self.get(place.directory).links == 0 {
            return Err(libc::ENOENT);
        }
        if place.must_be_directory && !matches!(content, Content::Directory { .. }) {
            return Err(libc::EISDIR);
        }
        self.made += 1;
        let mut node = Node::new(content, permissions & 0o7777, self.made, now);
        node.links = 1;
        let key = self.nodes.insert(node);
        self.entries(place.directory)?.insert(place.name.clone(), key);
        self.touch(place.directory, now);
        Ok(key)
    }

    fn touch(&mut self, directory: Key<Node>, now: Duration) {
        let node = self.node(directory);
        (node.modified, node.changed) = (now, now);
    }

    pub(super) fn make_file(
        &mut self,
        place: &Place,
        permissions: u32,
        now: Duration,
    ) -> Result<Key<Node>, i32> {
        self.add(place, Content::Regular(Vec::new()), permissions, now)
    }

    /// A file without a name, in the file system of a directory.
    pub(super) fn make_nameless(
        &mut self,
        directory: Key<Node>,
        permissions: u32,
        now: Duration,
    ) -> Result<Key<Node>, i32> {
        self.entries(directory)?;
        self.made += 1;
        let content = Content::Regular(Vec::new());
        let mut node = Node::new(content, permissions & 0o7777, self.made, now);
        node.awaits_name = true;
        Ok(self.nodes.insert(node))
    }

    pub(super) fn make_dir(
        &mut self,
        place: &Place,
        permissions: u32,
        now: Duration,
    ) -> Result<(), i32> {
        let content = Content::Directory { entries: Entries::new(), parent: place.directory };
        self.add(place, content, permissions, now).map(drop)
    }

    pub(super) fn make_symlink(
        &mut self,
        place: &Place,
        target: &[u8],
        now: Duration,
    ) -> Result<(), i32> {
        if target.is_empty() {
            return Err(libc::ENOENT);
        }
        self.add(place, Content::Symlink(target.to_vec()), 0o777, now).map(drop)
    }

    /// One more name of a file.
    pub(super) fn link(
        &mut self,
        node: Key<Node>,
        place: &Place,
        now: Duration,
    ) -> Result<(), i32> {
        if place.node.is_some() {
            return Err(libc::EEXIST);
        }
        if self.is_directory(node) {
            return Err(libc::EPERM);
        }
        let has_none = |node: &Node| node.links == 0 && !node.awaits_name;
        if has_none(self.get(node)) || has_none(self.get(place.directory)) {
            return Err(libc::ENOENT);
        }
        self.entries(place.directory)?.insert(place.name.clone(), node);
        self.touch(place.directory, now);
        let node = self.node(node);
        node.links += 1;
        node.awaits_name = false;
        node.changed = now;
        Ok(())
    }

    /// Takes a name away: of an empty directory, or of what is none.
    pub(super) fn unlink(
        &mut self,
        place: &Place,
        directory: bool,
        now: Duration,
    ) -> Result<(), i32> {
        let node = place.node.ok_or(libc::ENOENT)?;
        match (&place.name[..], directory, self.is_directory(node)) {
            (b".", true, _) => return Err(libc::EINVAL),
            (b"..", true, _) => return Err(libc::ENOTEMPTY),
            (_, true, false) => return Err(libc::ENOTDIR),
            (_, false, true) => return Err(libc::EISDIR),
            (_, true, true) if !self.entries(node)?.is_empty() => return Err(libc::ENOTEMPTY),
            _ => {}
        }
        self.entries(place.directory)?.remove(&place.name);
        self.touch(place.directory, now);
        self.lose_name(node, now);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Place, to: &Place, now: Duration) -> Result<(), i32> {
        let node = from.node.ok_or(libc::ENOENT)?;
        let has_name = |place: &Place| !matches!(&place.name[..], b"." | b"..");
        if !has_name(from) || !has_name(to) {
            return Err(libc::EBUSY);
        }
        if self.get(to.directory).links == 0 {
            return Err(libc::ENOENT);
        }
        let is_directory = self.is_directory(node);
        if to.must_be_directory && !is_directory {
            return Err(libc::ENOTDIR);
        }
        if is_directory && self.is_within(to.directory, node) {
            return Err(libc::EINVAL);
        }
        match to.node {
            // Two names of one file: nothing happens.
            Some(other) if other == node => return Ok(()),
            Some(other) => match (is_directory, self.is_directory(other)) {
                (true, false) => return Err(libc::ENOTDIR),
                (false, true) => return Err(libc::EISDIR),
                (true, true) if !self.entries(other)?.is_empty() => return Err(libc::ENOTEMPTY),
                _ => {}
            },
            None => {}
        }
        self.entries(from.directory)?.remove(&from.name);
        self.entries(to.directory)?.insert(to.name.clone(), node);
        if let Content::Directory { parent, .. } = &mut self.node(node).content {
            *parent = to.directory;
        }
        self.touch(from.directory, now);
        self.touch(to.directory, now);
        self.node(node).changed = now;
        if let Some(replaced) = to.node {
            self.lose_name(replaced, now);
        }
        Ok(())
    }

    /// Whether a directory is another one or lies below it.
    fn is_within(&self, mut directory: Key<Node>, above: Key<Node>) -> bool {
        loop {
            if directory == above {
                return true;
            }
            match self.get(directory).content {
                Content::Directory { parent, .. } if parent != directory => directory = parent,
                _ => return false,
            }
        }
    }

    fn lose_name(&mut self, key: Key<Node>, now: Duration) {
        let node = self.node(key);
        node.links -= 1;
        node.changed = now;
        self.forget_unused(key);
    }

    pub(super) fn open(&mut self, key: Key<Node>) {
        self.node(key).opens += 1;
    }

    pub(super) fn close(&mut self, key: Key<Node>) {
        self.node(key).opens -= 1;
        self.forget_unused(key);
    }

    fn forget_unused(&mut self, key: Key<Node>) {
        let node = self.get(key);
        if node.links > 0 || node.opens > 0 {
            return;
        }
        if let Some(Node { content: Content::Regular(bytes), .. }) = self.nodes.remove(key) {
            self.used -= bytes.len() as u64;
        }
    }

    // Bytes.

    /// Makes a regular file so long, with zeros at its end.
    pub(super) fn set_len(&mut self, key: Key<Node>, len: u64, now: Duration) -> Result<(), i32> {
        if len > LONGEST_FILE {
            return Err(libc::EFBIG);
        }
        let (used, room) = (self.used, self.room);
        let node = self.node(key);
        let Content::Regular(bytes) = &mut node.content else { return Err(libc::EINVAL) };
        let used = used - bytes.len() as u64 + len;
        if used > room && len > bytes.len() as u64 {
            return Err(libc::ENOSPC);
        }
        bytes.resize(len as usize, 0);
        (node.modified, node.changed) = (now, now);
        self.used = used;
        Ok(())
    }

    /// Writes as much as there is room for, and says how much.
    pub(super) fn write(
        &mut self,
        key: Key<Node>,
        at: u64,
        bytes: &[u8],
        now: Duration,
    ) -> Result<usize, i32> {
        let len = self.len(key)?;
        if at >= LONGEST_FILE {
            return Err(libc::EFBIG);
        }
        let most = (self.room.saturating_sub(self.used)).saturating_add(len).min(LONGEST_FILE);
        let count = most.saturating_sub(at).min(bytes.len() as u64);
        if count == 0 && !bytes.is_empty() {
            return Err(libc::ENOSPC);
        }
        self.set_len(key, len.max(at + count), now)?;
        if let Content::Regular(content) = &mut self.node(key).content {
            content[at as usize..][..count as usize].copy_from_slice(&bytes[..count as usize]);
        }
        Ok(count as usize)
    }

    /// The length of a regular file.
    pub(super) fn len(&self, key: Key<Node>) -> Result<u64, i32> {
        match &self.get(key).content {
            Content::Regular(bytes) => Ok(bytes.len() as u64),
            Content::Directory { .. } => Err(libc::EISDIR),
            Content::Symlink(_) => Err(libc::EINVAL),
        }
    }

    pub(super) fn stat(&self, key: Key<Node>) -> Stat {
        let node = self.get(key);
        let (kind, size) = match &node.content {
            Content::Regular(bytes) => (libc::S_IFREG, bytes.len()),
            Content::Directory { .. } => (libc::S_IFDIR, 4096),
            Content::Symlink(target) => (libc::S_IFLNK, target.len()),
        };
        Stat {
            mode: kind | node.permissions,
            size: size as u64,
            device: libc::makedev(0, 1),
            inode: node.number,
            links: node.links,
            blocks: (size as u64).div_ceil(512),
            block_size: 4096,
            accessed: stamp(node.accessed),
            modified: stamp(node.modified),
            changed: stamp(node.changed),
            created: Some(stamp(node.created)),
            ..Stat::default()
        }
    }

    /// The names in a directory, without `.` and `..`: inode number, type, name.
    pub(super) fn list(&mut self, directory: Key<Node>) -> Result<Vec<(Stat, Vec<u8>)>, i32> {
        let entries = self.entries(directory)?.clone();
        Ok(entries.into_iter().map(|(name, node)| (self.stat(node), name)).collect())
    }
}

impl Node {
    fn new(content: Content, permissions: u32, number: u64, now: Duration) -> Node {
        Node {
            content,
            permissions,
            number,
            links: 0,
            awaits_name: false,
            opens: 0,
            created: now,
            accessed: now,
            modified: now,
            changed: now,
        }
    }
}

impl Walk {
    /// Follows links, and goes anywhere.
    pub(super) fn from(start: Key<Node>) -> Walk {
        Walk { start, follow: true, beneath: false }
    }
}

/// The names in a path.
fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec)
}

/// Virtual time begins in 1970.
fn stamp(time: Duration) -> Stamp {
    Stamp { seconds: time.as_secs() as i64, nanos: time.subsec_nanos() }
}
