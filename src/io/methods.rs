//! The methods that streams have in common, and their traits.
//!
//! Programs call them without an import because each stream has them as its own; they are written once, here.

/// Gives a stream what reads from it, and [`Read`](super::Read). Its field `halves` is a
/// [`Halves`](super::Halves); in front of its name stands what else is to be said of `recv`, and behind it what it
/// may fail with.
macro_rules! reads {
    ($(#[$note:meta])* $stream:ident, $errors:literal) => {
        impl $stream {
            /// Takes what has come, in a buffer of the pool that the kernel took when it came: a waiting
            /// stream costs no buffer. `None` is the end of the stream.
            ///
            /// Awaited again after `Cancelled`, it starts anew. What arrives for a dropped or cancelled
            /// one stays with the stream and is what the next one returns (rule D7), so a `select!`
            /// loses nothing.
            ///
            $(#[$note])*
            ///
            /// Cancel class: total. Linux 6.1.
            ///
            /// # Errors
            #[doc = concat!($errors, ";")]
            /// [`Error::Busy`](crate::Error::Busy) if another task reads; `Cancelled`.
            pub fn recv(&self) -> crate::io::Recv<'_> {
                self.halves.recv()
            }
        }

        crate::io::reads_into!($stream);
    };
}

/// The same without `recv`, which the stream has already.
macro_rules! reads_into {
    ($stream:ident) => {
        impl $stream {
            /// Reads into `buf`: replaces its content with what has come, at most its capacity. No bytes
            /// are the end of the stream. To add to a buffer, pass a [`slice`](crate::IoBuf::slice) of it.
            ///
            /// Cancel class: total; a dropped read leaves what came for it with the stream. The buffer
            /// comes back with the error. Linux 6.1.
            ///
            /// # Errors
            /// As [`recv`](Self::recv), and `InvalidInput` for a buffer without room, or a part that it does
            /// not have.
            pub fn read<B: crate::op::IoBufMut>(
                &self,
                buf: B,
            ) -> impl Future<Output = crate::error::Result<B, crate::op::BufError<B>>> + use<'_, B>
            {
                self.halves.read(buf)
            }

            /// Reads until `buf` is filled to its capacity; to read exactly `n` bytes pass
            /// `buf.slice(..n)`.
            ///
            /// Cancel class: partial: the error has the buffer with what came, and
            /// [`done`](crate::BufError::done) says how much. A dropped one leaves all of that with the
            /// stream. Linux 6.1.
            ///
            /// # Errors
            /// As [`read`](Self::read), and `UnexpectedEof` if the stream ends before.
            pub fn read_exact<B: crate::op::IoBufMut>(
                &self,
                buf: B,
            ) -> impl Future<Output = crate::error::Result<B, crate::op::BufError<B>>> + use<'_, B>
            {
                self.halves.read_exact(buf)
            }
        }

        impl crate::io::Read for $stream {
            fn recv(&self) -> impl Future<Output = crate::error::Result<Option<crate::op::Chunk>>> {
                <$stream>::recv(self)
            }

            fn read<B: crate::op::IoBufMut>(
                &self,
                buf: B,
            ) -> impl Future<Output = crate::error::Result<B, crate::op::BufError<B>>> {
                self.halves.read(buf)
            }

            fn read_exact<B: crate::op::IoBufMut>(
                &self,
                buf: B,
            ) -> impl Future<Output = crate::error::Result<B, crate::op::BufError<B>>> {
                self.halves.read_exact(buf)
            }

            fn source(&self) -> Option<crate::io::Source<'_>> {
                Some(crate::io::Source::new(&self.halves))
            }
        }
    };
}

/// Gives a stream what writes to it, and [`Write`](super::Write): as [`reads`], and at last what ends it.
macro_rules! writes {
    ($(#[$note:meta])* $stream:ident, $errors:literal, |$this:ident| $finish:expr) => {
        impl $stream {
            /// Writes from `buf` what is taken at once, waiting until something is, and says how much
            /// that was.
            $(#[$note])*
            ///
            /// Cancel class: total. The buffer comes back, also with the error. After a dropped write of
            /// which something went out the write half is [`Broken`](crate::Error::Broken). Linux 6.1.
            ///
            /// # Errors
            #[doc = concat!($errors, ";")]
            /// `InvalidInput` for a part that a buffer does not have;
            /// [`Error::Busy`](crate::Error::Busy) if another task writes;
            /// [`Error::Closed`](crate::Error::Closed) after the end was written; `Cancelled`.
            pub fn write<B: crate::op::IoBuf>(
                &self,
                buf: B,
            ) -> impl Future<Output = crate::error::Result<(usize, B), crate::op::BufError<B>>>
            + use<'_, B> {
                self.halves.write(buf)
            }

            /// Writes all of `buf`.
            ///
            /// Cancel class: partial: [`done`](crate::BufError::done) says how much went out. The buffer
            /// comes back, also with the error. After a dropped `write_all` of which something went out
            /// nobody knows how much, so the write half is [`Broken`](crate::Error::Broken) (rule D7).
            /// Linux 6.1.
            ///
            /// # Errors
            /// As [`write`](Self::write).
            pub fn write_all<B: crate::op::IoBuf>(
                &self,
                buf: B,
            ) -> impl Future<Output = crate::error::Result<B, crate::op::BufError<B>>> + use<'_, B>
            {
                self.halves.write_all(buf)
            }

            /// Writes all of several buffers, one behind the other, without copying them together: a `Vec` or
            /// an array of buffers, or a tuple of different ones. It is one operation for up to 1024 of them
            /// (`IOV_MAX`), where nothing stands in the way.
            ///
            /// Cancel class: partial, as for [`write_all`](Self::write_all): [`done`](crate::BufError::done)
            /// says how much of all of them went out. The buffers come back, also with the error. Linux 6.1.
            ///
            /// # Errors
            /// As [`write`](Self::write).
            pub fn write_all_vectored<L: crate::op::IoBufs>(
                &self,
                bufs: L,
            ) -> impl Future<Output = crate::error::Result<L, crate::op::BufError<L>>> + use<'_, L>
            {
                self.halves.write_all_vectored(bufs)
            }
        }

        impl crate::io::Write for $stream {
            fn write<B: crate::op::IoBuf>(
                &self,
                buf: B,
            ) -> impl Future<Output = crate::error::Result<(usize, B), crate::op::BufError<B>>>
            {
                self.halves.write(buf)
            }

            fn write_all<B: crate::op::IoBuf>(
                &self,
                buf: B,
            ) -> impl Future<Output = crate::error::Result<B, crate::op::BufError<B>>> {
                self.halves.write_all(buf)
            }

            fn finish(&self) -> impl Future<Output = crate::error::Result> {
                let $this = self;
                $finish
            }

            fn lose(&self) {
                self.halves.lose();
            }

            fn direct(&self) -> Option<crate::io::Direct<'_>> {
                Some(crate::io::Direct::new(&self.halves))
            }
        }
    };
}

/// Implements what an object has that owns a descriptor: [`Close`](super::Close) by a method of the same
/// name; the number, and how it is shown, by a field.
macro_rules! owns_descriptor {
    ($object:ident, $field:ident) => {
        impl crate::io::Close for $object {
            fn close(self) -> impl Future<Output = crate::error::Result> {
                <$object>::close(self)
            }
        }

        impl std::os::fd::AsRawFd for $object {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                self.$field.as_raw_fd()
            }
        }

        impl std::fmt::Debug for $object {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($object))
                    .field("fd", &self.$field)
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use {owns_descriptor, reads, reads_into, writes};
