//! The rules that the source tree keeps, checked by reading it.
//!
//! The floors are read out of the table in the documentation of `src/lib.rs`, so the picture that
//! people look at is the rule. A file uses its own folder, lower floors, and on its own floor only
//! what stands left of a `<`; names between which there is only a `|` are strangers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const FOLDERS: [&str; 6] = ["src", "macros", "tests", "benches", "examples", "fuzz"];
/// Where unsafe code may be; the documentation of `src/lib.rs` names them too.
const ISLANDS: [&str; 3] = ["ring", "op", "nursery/shared.rs"];
const MOST_LINES: usize = 800;
/// In two halves, else this file would be the first to be found.
const REMINDERS: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("HA", "CK"), concat!("X", "XX")];

#[test]
fn the_source_tree_keeps_its_own_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in FOLDERS {
        read_folder(root, folder, &mut files);
    }
    assert!(files.len() > 50, "only {} files were found", files.len());
    let complaints = complaints(&files);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Puts the sources below `folder` on the list, with their paths from the root.
fn read_folder(root: &Path, folder: &str, files: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            // Build results, and what a fuzzer has collected.
            if !["target", "corpus", "artifacts"].contains(&entry.file_name().to_str().unwrap()) {
                read_folder(root, &path, files);
            }
        } else if path.ends_with(".rs") || path.ends_with(".py") || path.ends_with(".sh") {
            files.push(Source::new(&path, &fs::read_to_string(root.join(&path)).unwrap()));
        }
    }
}

struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
    /// The same with comments and literals blanked; empty for other languages.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let code = if path.ends_with(".rs") { blank(text) } else { String::new() };
        Source { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// The names of the modules on the way to it; none for anything outside the library.
    fn modules(&self) -> Vec<&str> {
        let Some(inside) = self.path.strip_prefix("src/") else { return Vec::new() };
        let mut modules: Vec<_> = inside.trim_end_matches(".rs").split('/').collect();
        modules.retain(|name| !["mod", "lib"].contains(name));
        modules
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count()
    }
}

// What is wrong with a tree.

fn complaints(files: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    let lib = files.iter().find(|file| file.path == "src/lib.rs");
    match lib.ok_or("there is no src/lib.rs".to_owned()).and_then(Floors::read) {
        Ok(floors) => {
            check_names(files, &floors, &mut complaints);
            check_imports(files, &floors, &mut complaints);
        }
        Err(complaint) => complaints.push(complaint),
    }
    check_islands(files, &mut complaints);
    check_thread_locals(files, &mut complaints);
    for file in files {
        check_length(file, &mut complaints);
        check_reminders(file, &mut complaints);
    }
    complaints
}

fn check_names(files: &[Source], floors: &Floors, complaints: &mut Vec<String>) {
    let names: BTreeSet<_> =
        files.iter().filter_map(|file| file.modules().first().copied()).collect();
    for name in &names {
        if !floors.places.contains_key(*name) {
            complaints.push(format!("src/{name} is on no floor of the table in src/lib.rs"));
        }
    }
    for name in floors.places.keys().filter(|name| !names.contains(name.as_str())) {
        complaints.push(format!("`{name}` stands in the table of src/lib.rs, but not in src"));
    }
}

fn check_imports(files: &[Source], floors: &Floors, complaints: &mut Vec<String>) {
    let tests = test_files(files);
    for file in files {
        let Some(&user) = file.modules().first() else { continue };
        if tests.contains(&file.path) {
            continue;
        }
        for (at, name) in imports(file) {
            let used = floors.folder(name);
            if let Err(why) = floors.may_use(user, used) {
                complaints.push(format!("{}:{}: {why}", file.path, file.line(at)));
            }
        }
    }
}

fn check_islands(files: &[Source], complaints: &mut Vec<String>) {
    let on_island = |path: &str| {
        let path = path.strip_prefix("src/").unwrap_or_default();
        ISLANDS.iter().any(|island| {
            path.strip_prefix(island).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    for file in files.iter().filter(|file| file.path.starts_with("src/") && !on_island(&file.path))
    {
        for token in tokens(&file.code).into_iter().filter(|token| token.text == "unsafe") {
            let line = file.line(token.at);
            complaints.push(format!("{}:{line}: unsafe code outside the islands", file.path));
        }
    }
    let lib = files.iter().find(|file| file.path == "src/lib.rs");
    for island in ISLANDS {
        if !lib.is_some_and(|lib| lib.text.contains(&format!("`{island}`"))) {
            complaints.push(format!("src/lib.rs does not name the island `{island}`"));
        }
    }
}

fn check_thread_locals(files: &[Source], complaints: &mut Vec<String>) {
    let mut places = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("src/")) {
        places.extend(
            macros(file, "thread_local").into_iter().map(|line| format!("{}:{line}", file.path)),
        );
    }
    if places.len() > 1 {
        complaints.push(format!("more than one thread-local: {}", places.join(", ")));
    }
}

fn check_length(file: &Source, complaints: &mut Vec<String>) {
    let lines = file.text.lines().count();
    if lines > MOST_LINES {
        complaints.push(format!("{} has {lines} lines; {MOST_LINES} are enough", file.path));
    }
}

fn check_reminders(file: &Source, complaints: &mut Vec<String>) {
    for (number, line) in file.text.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric());
        if let Some(word) = words.find(|word| REMINDERS.contains(word)) {
            complaints.push(format!("{}:{}: {word} is forgotten", file.path, number + 1));
        }
    }
    for name in ["todo", "unimplemented"] {
        for line in macros(file, name) {
            complaints.push(format!("{}:{line}: {name}! is forgotten", file.path));
        }
    }
}

/// The lines on which a macro is called.
fn macros(file: &Source, name: &str) -> Vec<usize> {
    let tokens = tokens(&file.code);
    let calls = tokens.windows(2).filter(|two| two[0].text == name && two[1].text == "!");
    calls.map(|two| file.line(two[0].at)).collect()
}

// The table.

struct Floors {
    /// Floor, and place on it: how many `<` stand before it.
    places: BTreeMap<String, (u32, usize)>,
    /// What the root of the crate exports, and the folder that it comes from.
    exports: BTreeMap<String, String>,
}

impl Floors {
    fn read(lib: &Source) -> Result<Floors, String> {
        let doc = lib.text.lines().filter_map(|line| line.strip_prefix("//!"));
        let mut table = doc
            .skip_while(|line| !(line.starts_with(" #") && line.contains("floors")))
            .skip_while(|line| line.trim() != "```text")
            .skip(1)
            .take_while(|line| line.trim() != "```")
            .peekable();
        table.peek().ok_or("src/lib.rs has no table of floors")?;
        let mut places = BTreeMap::new();
        for line in table {
            let mut columns = line.split("  ").map(str::trim).filter(|column| !column.is_empty());
            let (floor, names) = (columns.next(), columns.next());
            let floor = floor.and_then(|floor| floor.parse().ok());
            let (Some(floor), Some(names)) = (floor, names) else {
                return Err(format!("src/lib.rs: not a line of a table: {line}"));
            };
            for (place, names) in names.split('<').enumerate() {
                for name in names.split('|').map(str::trim) {
                    if places.insert(name.to_owned(), (floor, place)).is_some() {
                        return Err(format!("src/lib.rs: `{name}` stands in the table twice"));
                    }
                }
            }
        }
        Ok(Floors { places, exports: exports(lib) })
    }

    /// Where a name in the root of the crate comes from.
    fn folder<'a>(&'a self, name: &'a str) -> &'a str {
        let exported = self.exports.get(name).filter(|_| !self.places.contains_key(name));
        exported.map_or(name, String::as_str)
    }

    fn may_use(&self, user: &str, used: &str) -> Result<(), String> {
        let Some(&(used_floor, used_place)) = self.places.get(used) else {
            return Err(format!("`crate::{used}` is on no floor"));
        };
        // Who has no floor is complained of already.
        let Some(&(floor, place)) = self.places.get(user) else { return Ok(()) };
        if user == used || used_floor < floor {
            return Ok(());
        }
        match used_floor == floor {
            false => Err(format!("`{user}` (floor {floor}) uses `{used}` (floor {used_floor})")),
            true if used_place < place => Ok(()),
            true => {
                Err(format!("`{user}` uses `{used}`, which is not left of it on floor {floor}"))
            }
        }
    }
}

/// `pub use folder::{…}` of the crate's root: each name with its folder.
fn exports(lib: &Source) -> BTreeMap<String, String> {
    let tokens = tokens(&lib.code);
    let mut exports = BTreeMap::new();
    let mut n = 0;
    while n < tokens.len() {
        let end = (n..tokens.len()).find(|&n| text(&tokens, n) == ";").unwrap_or(tokens.len());
        match [0, 1, 3].map(|ahead| text(&tokens, n + ahead)) {
            ["pub", "use", "::"] => {
                for name in tokens[n + 4..end].iter().filter(|token| token.is_name()) {
                    exports.insert(name.text.to_owned(), tokens[n + 2].text.to_owned());
                }
                n = end;
            }
            // What a module of the root exports is not in the root.
            ["{", ..] => n = closing(&tokens, n),
            _ => n += 1,
        }
    }
    exports
}

// Reading Rust.

#[derive(Clone, Copy)]
struct Token<'a> {
    at: usize,
    text: &'a str,
}

impl Token<'_> {
    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Names and numbers, `::`, and every other character by itself.
fn tokens(code: &str) -> Vec<Token<'_>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = code[at..].chars().next() {
        let rest = &code[at..];
        let len = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            tokens.push(Token { at, text: &rest[..len] });
        }
        at += len;
    }
    tokens
}

/// What a file uses of other folders: `crate::name`, each name of `crate::{…}`, and `super` as often
/// as it takes to get to the root; in `use` lines and inside code. Test modules are left out.
fn imports(file: &Source) -> Vec<(usize, &str)> {
    let tokens = tokens(&file.code);
    let mut found = Vec::new();
    // Where the inline modules around end.
    let mut inline = Vec::new();
    let mut n = 0;
    while n < tokens.len() {
        inline.retain(|&end| n < end);
        let module = module(&tokens, n);
        if let Some(Module { body: Some((begin, end)), is_test, .. }) = module {
            n = if is_test { end } else { begin };
            inline.extend((!is_test).then_some(end));
            continue;
        }
        let depth = file.modules().len() + inline.len();
        let after = match tokens[n].text {
            "crate" => n + 1,
            "super" => {
                let mut last = n;
                while text(&tokens, last + 1) == "::" && text(&tokens, last + 2) == "super" {
                    last += 2;
                }
                let count = 1 + (last - n) / 2;
                n = last;
                if count < depth { 0 } else { n + 1 }
            }
            _ => 0,
        };
        if after > 0 && text(&tokens, after) == "::" {
            found.extend(heads(&tokens, after + 1).into_iter().map(|head| (head.at, head.text)));
        }
        n += 1;
    }
    found
}

fn text<'a>(tokens: &[Token<'a>], n: usize) -> &'a str {
    tokens.get(n).map_or("", |token| token.text)
}

/// The first names of a path, or of each path in a group.
fn heads<'a>(tokens: &[Token<'a>], at: usize) -> Vec<Token<'a>> {
    if text(tokens, at) != "{" {
        return tokens.get(at).copied().into_iter().collect();
    }
    let (mut depth, mut heads) = (0, Vec::new());
    for n in at..tokens.len() {
        match tokens[n].text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        let begins = n == at || (depth == 1 && tokens[n].text == ",");
        heads.extend(tokens.get(n + 1).filter(|next| begins && next.text != "}"));
    }
    heads
}

/// A module that is declared.
struct Module<'a> {
    name: Token<'a>,
    /// Marked as one of tests, by `#[cfg(test)]` and nothing weaker.
    is_test: bool,
    /// The tokens in its braces; `None`: it has a file of its own.
    body: Option<(usize, usize)>,
    /// The token with which its attributes begin.
    begin: usize,
}

/// The module whose declaration, with its attributes, begins with token `n`.
fn module<'a>(tokens: &[Token<'a>], n: usize) -> Option<Module<'a>> {
    let (mut at, mut is_test) = (n, false);
    while text(tokens, at) == "#" && text(tokens, at + 1) == "[" {
        let end = closing(tokens, at + 1);
        let attribute: String = tokens[at + 2..end - 1].iter().map(|token| token.text).collect();
        is_test |= attribute == "cfg(test)";
        at = end;
    }
    if text(tokens, at) == "pub" {
        at += 1;
        at = if text(tokens, at) == "(" { closing(tokens, at) } else { at };
    }
    let name = *tokens.get(at + 1).filter(|_| text(tokens, at) == "mod")?;
    let body = match text(tokens, at + 2) {
        "{" => Some((at + 3, closing(tokens, at + 2))),
        ";" => None,
        _ => return None,
    };
    Some(Module { name, is_test, body, begin: n })
}

/// The token after the bracket that closes the one at `open`.
fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0;
    for (n, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return n + 1;
        }
    }
    tokens.len()
}

/// The files of test modules, and of the modules inside them.
fn test_files(files: &[Source]) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    loop {
        let before = tests.len();
        for file in files.iter().filter(|file| file.path.starts_with("src/")) {
            let inherited = tests.contains(&file.path);
            let tokens = tokens(&file.code);
            let mut n = 0;
            while n < tokens.len() {
                let Some(module) = module(&tokens, n) else {
                    n += 1;
                    continue;
                };
                if module.body.is_none() && (inherited || module.is_test) {
                    let begin = tokens[module.begin].at;
                    tests.extend(module_files(
                        file,
                        &file.text[begin..module.name.at],
                        module.name.text,
                    ));
                }
                // Past its attributes, so that the marks of this one are not taken for the next one's.
                n = tokens.partition_point(|token| token.at <= module.name.at);
            }
        }
        if tests.len() == before {
            return tests;
        }
    }
}

/// Where the file of a module may be, by its declaration and the file that this stands in.
fn module_files(parent: &Source, declaration: &str, name: &str) -> Vec<String> {
    let folder = parent.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    if let Some((_, path)) = declaration.split_once("path = \"") {
        let path = path.split('"').next().unwrap_or_default();
        return vec![format!("{folder}/{path}")];
    }
    let stem = parent.path.trim_end_matches(".rs");
    let folder = if stem.ends_with("/mod") || stem.ends_with("/lib") { folder } else { stem };
    vec![format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]
}

/// Blanks comments, and string and character literals. Everything else stays where it is.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let rest = &bytes[at..];
        let in_word = at > 0 && is_word(&bytes[at - 1]);
        let len = match rest {
            [b'/', b'/', ..] => rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => block_comment(rest),
            [b'"', ..] => string(rest),
            [b'\'', ..] => character(rest),
            [b'r' | b'b' | b'c', ..] if !in_word => prefixed(rest),
            _ => 0,
        };
        code[at..at + len].iter_mut().filter(|byte| **byte != b'\n').for_each(|b| *b = b' ');
        at += len.max(1);
    }
    String::from_utf8(code).expect("whole characters were blanked")
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// A character literal; nothing if it is a lifetime.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let end = rest.iter().skip(3).position(|&byte| byte == b'\'');
        return end.map_or(rest.len(), |end| end + 4);
    }
    let Some(first) = std::str::from_utf8(&rest[1..rest.len().min(5)])
        .unwrap_or_else(|error| {
            // Cut in the middle of a later character.
            std::str::from_utf8(&rest[1..1 + error.valid_up_to()]).unwrap_or_default()
        })
        .chars()
        .next()
    else {
        return 0;
    };
    let end = 1 + first.len_utf8();
    if rest.get(end) == Some(&b'\'') { end + 1 } else { 0 }
}

/// Raw, byte and C strings, and byte characters.
fn prefixed(rest: &[u8]) -> usize {
    let letters = rest.iter().take_while(|&&byte| matches!(byte, b'r' | b'b' | b'c')).count();
    let hashes = rest[letters..].iter().take_while(|&&byte| byte == b'#').count();
    let raw = rest[..letters].contains(&b'r');
    match rest.get(letters + hashes) {
        Some(b'"') if raw => {
            let body = letters + hashes + 1;
            let close = [&b"\""[..], &b"#".repeat(hashes)].concat();
            let end = rest[body..].windows(close.len()).position(|window| window == close);
            end.map_or(rest.len(), |end| body + end + close.len())
        }
        Some(b'"') if hashes == 0 => letters + string(&rest[letters..]),
        Some(b'\'') if hashes == 0 && letters == 1 => letters + character(&rest[letters..]),
        _ => 0,
    }
}

// The checker itself: each rule is seen to fail.

const LIB: &str = "
//! # The floors of the source tree
//! ```text
//!  2  low < middle | other < high        what it is | and what for
//!  1  ground                             below
//! ```
//! Islands: `ring`, `op`, and `nursery/shared.rs`.
pub use ground::{Basic, deep::Nested};
pub mod generic { pub use crate::high::generic::Hidden; }
";

/// What is wrong with a tree of these files; the floors that it lacks are added.
fn wrong(files: &[(&str, &str)]) -> Vec<String> {
    let mut all: BTreeMap<String, &str> =
        ["ground", "low", "middle", "other"].map(|name| (format!("src/{name}.rs"), "")).into();
    all.insert("src/high/mod.rs".to_owned(), "");
    all.insert("src/lib.rs".to_owned(), LIB);
    all.extend(files.iter().map(|&(path, text)| (path.to_owned(), text)));
    complaints(&all.iter().map(|(path, text)| Source::new(path, text)).collect::<Vec<_>>())
}

#[track_caller]
fn assert_wrong(files: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(wrong(files), expected);
}

#[test]
fn a_tree_that_keeps_the_rules_is_not_complained_of() {
    assert_wrong(&[], &[]);
    let high = "use crate::{low::{a, b}, middle, ground};\nuse crate::other::x;\nuse super::low;";
    assert_wrong(&[("src/high/mod.rs", high), ("src/high/a.rs", "use crate::high::b;")], &[]);
}

#[test]
fn a_higher_floor_is_not_used() {
    let expected = ["src/ground.rs:2: `ground` (floor 1) uses `low` (floor 2)"];
    assert_wrong(&[("src/ground.rs", "\nuse crate::low::x;")], &expected);
    assert_wrong(&[("src/ground.rs", "\nfn f() { crate::low::x() }")], &expected);
    assert_wrong(&[("src/ground.rs", "\npub(crate) use crate :: low;")], &expected);
    assert_wrong(&[("src/ground.rs", "\nuse crate::{low::{a, b}};")], &expected);
    assert_wrong(&[("src/ground.rs", "\nuse super::low;")], &expected);
    assert_wrong(&[("src/ground.rs", "\nmod x { use super::super::low; }")], &expected);
    let groups = "use crate::{\n    ground::{a, b},\n    low,\n};";
    let expected = ["src/ground.rs:3: `ground` (floor 1) uses `low` (floor 2)"];
    assert_wrong(&[("src/ground.rs", groups)], &expected);
}

#[test]
fn on_its_own_floor_a_file_uses_only_what_stands_left_of_it() {
    for (user, used) in [("low", "middle"), ("low", "high"), ("middle", "other"), ("other", "high")]
    {
        let (path, text) = (format!("src/{user}/x.rs"), format!("use crate::{used}::x;"));
        let why = format!("`{user}` uses `{used}`, which is not left of it on floor 2");
        assert_wrong(&[(&path, &text)], &[&format!("{path}:1: {why}")]);
    }
}

#[test]
fn a_name_of_the_root_is_used_as_what_it_is_exported_from() {
    assert_wrong(&[("src/low.rs", "use crate::{Basic, Nested};")], &[]);
    let expected = ["src/low.rs:1: `crate::Unknown` is on no floor"];
    assert_wrong(&[("src/low.rs", "use crate::Unknown;")], &expected);
    let expected = ["src/low.rs:1: `crate::Hidden` is on no floor"];
    assert_wrong(&[("src/low.rs", "use crate::Hidden;")], &expected);
    let expected = ["src/low.rs:1: `crate::*` is on no floor"];
    assert_wrong(&[("src/low.rs", "use crate::*;")], &expected);
}

#[test]
fn comments_literals_and_lifetimes_are_told_from_code() {
    let code = blank(
        r##"a /* b /* c */ d */ e // f
        "g \" h" i 'j' '\'' k: &'l str r#"m " n"# o br"p" q b'r' s 't: loop {} '\u{7f}' u r#v"##,
    );
    let words: Vec<_> = tokens(&code).into_iter().filter(Token::is_name).map(|t| t.text).collect();
    let expected = "a e i k l str o q s t loop u r v";
    assert_eq!(words, expected.split(' ').collect::<Vec<_>>());
    let text = "// use crate::high;\nconst X: &str = \"crate::high unsafe\"; /* unsafe */";
    assert_wrong(&[("src/ground.rs", text)], &[]);
    assert_eq!(blank("'ä' ö \"ü\"\n"), "     ö     \n");
}

#[test]
fn test_modules_are_exempt_only_where_they_are_marked() {
    let import = "use crate::high::x;";
    let marked = format!("#[cfg(test)]\n#[allow(dead_code)]\nmod tests {{ {import} }}");
    assert_wrong(&[("src/ground.rs", &marked)], &[]);
    let expected = ["src/ground.rs:1: `ground` (floor 1) uses `high` (floor 2)"];
    assert_wrong(&[("src/ground.rs", &format!("mod tests {{ {import} }}"))], &expected);
    let weaker = format!("#[cfg(not(test))] mod tests {{ {import} }}");
    assert_wrong(&[("src/ground.rs", &weaker)], &expected);
    let after = format!("#[cfg(test)] mod tests {{ }} {import}");
    assert_wrong(&[("src/ground.rs", &after)], &expected);

    let ground = ("src/ground/mod.rs", "#[cfg(test)]\nmod tests;\nmod code;");
    let files = |name| [ground, (name, import)];
    assert_wrong(&files("src/ground/tests.rs"), &[]);
    assert_wrong(&files("src/ground/tests/mod.rs"), &[]);
    let expected = ["src/ground/code.rs:1: `ground` (floor 1) uses `high` (floor 2)"];
    assert_wrong(&files("src/ground/code.rs"), &expected);

    let by_path = "#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;";
    let inner = format!("{import}\n#[path = \"x_twin.rs\"] mod twin;");
    let mut files = [
        ("src/ground/x.rs", by_path),
        ("src/ground/x_tests.rs", &*inner),
        ("src/ground/x_twin.rs", import),
    ];
    assert_wrong(&files, &[]);
    files[0].1 = "";
    assert_eq!(wrong(&files).len(), 2, "nobody says that they are tests");
}

#[test]
fn the_table_and_the_folder_name_the_same() {
    let expected = ["src/new is on no floor of the table in src/lib.rs"];
    assert_wrong(&[("src/new/x.rs", "use crate::high;")], &expected);
    let lib = LIB.replace("//!  1  ground ", "//!  1  ground | gone ");
    let expected = ["`gone` stands in the table of src/lib.rs, but not in src"];
    assert_wrong(&[("src/lib.rs", &lib)], &expected);
    let lib = LIB.replace("//!  1  ground ", "//!  1  ground < low ");
    assert_wrong(&[("src/lib.rs", &lib)], &["src/lib.rs: `low` stands in the table twice"]);
    let lib = LIB.replace("# The floors", "# The doors");
    assert_wrong(&[("src/lib.rs", &lib)], &["src/lib.rs has no table of floors"]);
    let lib = LIB.replace("//!  1  ground ", "//!  ground ");
    assert_eq!(wrong(&[("src/lib.rs", &lib)]).len(), 1);
}

#[test]
fn unsafe_code_stays_on_the_islands() {
    let text = "#![deny(unsafe_code)]\nunsafe fn f() {}";
    let expected = ["src/high/shared.rs:2: unsafe code outside the islands"];
    assert_wrong(&[("src/high/shared.rs", text)], &expected);
    let lib = LIB.replace("ground  ", "ground | ring | op | nursery  ");
    let files =
        |path| [("src/lib.rs", &*lib), ("src/ring.rs", ""), ("src/op.rs", ""), (path, text)];
    let nursery = ("src/nursery/mod.rs", "");
    let wrong_with = |path| wrong(&[&files(path)[..], &[nursery]].concat());
    for path in ["src/ring/x.rs", "src/op/a/b.rs", "src/nursery/shared.rs"] {
        assert_eq!(wrong_with(path), [""; 0]);
    }
    for path in ["src/nursery/shared.rs/x.rs", "src/nursery/unshared.rs", "src/ground/op/x.rs"] {
        let is_inside = path.starts_with("src/nursery/shared.rs/");
        assert_eq!(wrong_with(path).len(), usize::from(!is_inside), "{path}");
    }
    let lib = LIB.replace("`op`", "op");
    assert_wrong(&[("src/lib.rs", &lib)], &["src/lib.rs does not name the island `op`"]);
}

#[test]
fn there_is_one_thread_local_at_most() {
    let one = "thread_local! { static A: u8 = 1; }";
    assert_wrong(&[("src/low.rs", one), ("tests/x.rs", one)], &[]);
    let expected = ["more than one thread-local: src/high/mod.rs:2, src/low.rs:1"];
    assert_wrong(&[("src/low.rs", one), ("src/high/mod.rs", &format!("\n{one}"))], &expected);
}

#[test]
fn files_are_short() {
    let (enough, more) = ("\n".repeat(MOST_LINES), "\n".repeat(MOST_LINES + 1));
    assert_wrong(&[("benches/x.rs", &enough), ("fuzz/y.py", &enough)], &[]);
    assert_wrong(&[("tests/x.rs", &more)], &["tests/x.rs has 801 lines; 800 are enough"]);
    assert_wrong(&[("examples/y.py", &more)], &["examples/y.py has 801 lines; 800 are enough"]);
}

#[test]
fn nothing_is_put_off() {
    for word in REMINDERS {
        let text = format!("fn f() {{}}\n// {word}: later");
        assert_wrong(&[("tests/x.rs", &text)], &[&format!("tests/x.rs:2: {word} is forgotten")]);
        let longer = format!("{word}LIKE un{word}");
        assert_wrong(&[("tests/x.rs", &longer)], &[]);
    }
    for name in ["todo", "unimplemented"] {
        let text = format!("fn f() {{ {name}!() }} // {name}!");
        let expected = format!("benches/x.rs:1: {name}! is forgotten");
        assert_wrong(&[("benches/x.rs", &text)], &[&expected]);
    }
}
