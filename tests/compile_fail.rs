//! Soundness that the compiler enforces.

use std::marker::PhantomData;
use std::net::Shutdown;
use std::time::Duration;

use trine::io::Recv;
use trine::net::{Accept, TcpListener, TcpStream};
use trine::time::{sleep, sleep_forever};
use trine::{CancelScope, Child, Chunk, Error, Group, Nursery, Started};

/// Each program in `compile_fail/` must be refused, with the message that stands beside it.
#[test]
fn what_would_be_unsound_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}

/// Tells whether a type is `Send`: the method of the type itself goes before that of the trait, if
/// its bound holds.
struct Of<T>(PhantomData<T>);

impl<T: Send> Of<T> {
    fn is_send(&self) -> bool {
        true
    }
}

trait Otherwise {
    fn is_send(&self) -> bool {
        false
    }
}

impl<T> Otherwise for Of<T> {}

fn of<T>(_: &T) -> Of<T> {
    Of(PhantomData)
}

// P6: what belongs to a run stays on its thread, also what holds nothing but a place in it.
#[test]
fn what_belongs_to_a_run_cannot_be_sent_to_a_thread() {
    assert!(Of::<Error>(PhantomData).is_send(), "errors travel");
    assert!(Of::<Group>(PhantomData).is_send(), "errors travel");
    assert!(!Of::<TcpStream>(PhantomData).is_send());
    assert!(!Of::<TcpListener>(PhantomData).is_send());
    assert!(!Of::<Recv<'static>>(PhantomData).is_send());
    assert!(!Of::<Accept<'static>>(PhantomData).is_send());
    assert!(!Of::<Chunk>(PhantomData).is_send());
    assert!(!Of::<CancelScope>(PhantomData).is_send());
    assert!(!Of::<Child<'static, u32>>(PhantomData).is_send());
    assert!(!Of::<Started<u32>>(PhantomData).is_send());
    assert!(!Of::<Nursery<'static, 'static>>(PhantomData).is_send());
    assert!(!of(&sleep(Duration::ZERO)).is_send());
    assert!(!of(&sleep_forever()).is_send());
    assert!(!of(&trine::checkpoint()).is_send());
    assert!(!of(&trine::checkpoint_if_cancelled()).is_send());
    assert!(!of(&trine::yield_shielded()).is_send());
    assert!(!of(&trine::nop()).is_send());
    assert!(!of(&TcpListener::bind("127.0.0.1:0")).is_send());
    assert!(!of(&trine::nursery(async |_| Ok(()))).is_send());
    assert!(!of(&trine::move_on_after(Duration::ZERO, async |_| Ok(()))).is_send());
    assert!(!of(&trine::shield(async {})).is_send());
    assert!(!of(&trine::cancellable(async {})).is_send());
    assert!(!of(&trine::stream(async || Ok(None::<u32>))).is_send());
}

#[test]
fn what_a_stream_does_stays_with_it_on_its_thread() {
    trine::run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let stream = TcpStream::connect_addr(listener.local_addr()?).await?;
        assert!(!of(&stream.read(Vec::new())).is_send());
        assert!(!of(&stream.read_exact(Vec::new())).is_send());
        assert!(!of(&stream.write("x")).is_send());
        assert!(!of(&stream.write_all("x")).is_send());
        assert!(!of(&stream.shutdown(Shutdown::Both)).is_send());
        Ok(())
    })
    .expect("a run");
}
