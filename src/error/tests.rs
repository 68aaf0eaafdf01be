use std::panic::Location;

use super::*;

fn cancelled() -> Cancelled {
    Cancelled::new(Reason::Finished)
}

#[test]
fn a_cancellation_survives_the_way_through_io_error_and_back() {
    let there = io::Error::from(Error::from(cancelled()));
    assert_eq!(there.kind(), io::ErrorKind::Other, "never Interrupted: loops retry on that");
    assert!(Unwind::cancelled(&there).is_some());
    assert!(Error::from(there).is_cancelled());
}

#[test]
fn an_io_error_inside_an_io_error_is_looked_into() {
    let nested = io::Error::other(io::Error::from(Error::from(cancelled())));
    assert!(Unwind::cancelled(&nested).is_some());
}

#[test]
fn an_error_with_a_cancellation_attached_is_not_a_cancellation() {
    let disk = Error::Io(io::Error::from_raw_os_error(5));
    let both = Error::gather(vec![disk, Error::from(cancelled())]);
    assert!(both.cancelled().is_none());
    assert!(Unwind::cancelled(&io::Error::from(both)).is_none());
}

#[test]
fn scatter_undoes_gather_in_order_for_both_error_types() {
    let codes = [2, 13, 5];
    let made = || codes.iter().map(|&code| io::Error::from_raw_os_error(code));
    let back = Error::gather(made().map(Error::Io).collect()).scatter();
    let found: Vec<_> =
        back.iter().map(|e| matches!(e, Error::Io(e) if e.raw_os_error().is_some())).collect();
    assert_eq!(found, [true; 3]);
    let back = io::Error::gather(made().collect()).scatter();
    assert_eq!(back.iter().map(|e| e.raw_os_error().unwrap()).collect::<Vec<_>>(), codes);
}

#[test]
fn groups_are_flat_lead_with_the_first_and_hide_the_rest_from_source() {
    let inner = Error::gather(vec![Error::other("first"), Error::other("second")]);
    let Error::Group(group) = Error::gather(vec![inner, Error::NoRun]) else { panic!("a group") };
    assert_eq!(group.errors().len(), 3);
    assert_eq!(group.lead().to_string(), "first");
    assert!(StdError::source(&group).is_none());
    assert!(group.to_string().contains("second"));
}

#[test]
fn a_single_survivor_is_no_group() {
    assert!(matches!(Error::gather(vec![Error::NoRun]), Error::NoRun));
}

#[test]
fn boxed_errors_of_ours_and_of_io_are_unwrapped() {
    let boxed: Box<dyn StdError + Send + Sync> = Box::new(Error::from(cancelled()));
    assert!(Error::from(boxed).is_cancelled());
    let boxed: Box<dyn StdError + Send + Sync> = Box::new(io::Error::from_raw_os_error(5));
    assert!(matches!(Error::from(boxed), Error::Io(_)));
}

#[test]
fn a_reason_says_where() {
    let here = Location::caller();
    let reason = Reason::Explicit { at: here, because: Some("enough".into()) };
    assert!(reason.to_string().contains("tests.rs") && reason.to_string().ends_with("enough"));
    fn shareable<T: Send + Sync + 'static>() {}
    shareable::<Error>();
}
