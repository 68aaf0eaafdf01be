//! What there is to have rows in the table, by the names in the source of the crate.

use std::collections::BTreeSet;

use crate::op::Kind;

/// What a kind that was seen is called in the source.
pub(super) fn named(kind: &Kind) -> impl Iterator<Item = &'static str> {
    KINDS.iter().filter(move |(_, known)| *known == kind).map(|(name, _)| *name)
}

/// A kind that is missing here is not seen, so the test of the table finds that it is.
static KINDS: [(&str, &Kind); 30] = [
    ("NOP", &Kind::NOP),
    ("ACCEPT", &Kind::ACCEPT),
    ("RECV", &Kind::RECV),
    ("READ", &Kind::READ),
    ("SEND", &Kind::SEND),
    ("WRITE", &Kind::WRITE),
    ("RECV_MESSAGES", &Kind::RECV_MESSAGES),
    ("RECV_MESSAGE", &Kind::RECV_MESSAGE),
    ("SEND_MESSAGE", &Kind::SEND_MESSAGE),
    ("CONNECT", &Kind::CONNECT),
    ("POLL", &Kind::POLL),
    ("REAP", &Kind::REAP),
    ("SHUTDOWN", &Kind::SHUTDOWN),
    ("CLOSE", &Kind::CLOSE),
    ("OPEN", &Kind::OPEN),
    ("STAT", &Kind::STAT),
    ("READ_AT", &Kind::READ_AT),
    ("WRITE_AT", &Kind::WRITE_AT),
    ("SYNC", &Kind::SYNC),
    ("ALLOCATE", &Kind::ALLOCATE),
    ("SET_LEN", &Kind::SET_LEN),
    ("ADVISE", &Kind::ADVISE),
    ("RENAME", &Kind::RENAME),
    ("LINK", &Kind::LINK),
    ("SYMLINK", &Kind::SYMLINK),
    ("UNLINK", &Kind::UNLINK),
    ("TIDY", &Kind::TIDY),
    ("MAKE_DIR", &Kind::MAKE_DIR),
    ("SPLICE", &Kind::SPLICE),
    ("SPLICE_AT", &Kind::SPLICE_AT),
];

/// The kinds of operations and the requests that the crate knows, by their names in its source.
pub fn known() -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
    let kinds = include_str!("../../op/kind.rs").lines().filter_map(|line| {
        let (name, of) = line.trim_start().strip_prefix("pub(crate) const ")?.split_once(':')?;
        of.trim_start().starts_with("Kind").then_some(name)
    });
    let requests = [include_str!("../../ring/request.rs"), include_str!("../../ring/file.rs")];
    (kinds.collect(), requests.into_iter().flat_map(variants).collect())
}

/// The variants of the enum of requests in this source.
fn variants(source: &'static str) -> impl Iterator<Item = &'static str> {
    let lines = source.lines().skip_while(|line| !line.contains("Request {"));
    let variants = lines.skip(1).take_while(|line| *line != "}");
    variants.filter_map(|line| {
        let name = line.strip_prefix("    ").filter(|line| line.starts_with(char::is_uppercase))?;
        name.split([' ', ',', '(']).next()
    })
}
