//! The server with trine: the one of the readme. Its pool's buffers are 16 KiB each, and
//! `TCP_NODELAY` is on unless said otherwise.

use trine::net::TcpListener;
use trine::nursery;

use super::Served;
use crate::server::listens;

pub fn serve() -> Served {
    let served: trine::Result = trine::run(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        listens(listener.local_addr()?);
        nursery(async |n| {
            loop {
                let (stream, _peer) = listener.accept().await?;
                n.spawn(async move {
                    while let Some(chunk) = stream.recv().await? {
                        stream.write_all(chunk).await?;
                    }
                    Ok(())
                });
            }
        })
        .await
    });
    Ok(served?)
}
