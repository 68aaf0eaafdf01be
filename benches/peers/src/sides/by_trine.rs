//! The server with trine: the one of the readme. `TCP_NODELAY` is on unless said otherwise.

use trine::net::TcpListener;
use trine::{Builder, nursery};

use super::Served;
use crate::pools::Shape;
use crate::server::listens;

pub fn serve(pool: Option<Shape>) -> Served {
    let mut builder = Builder::new();
    if let Some(Shape { buffer, count, incremental }) = pool {
        builder = builder.pool_incremental(incremental).pool_buffer(buffer);
        builder = builder.pool_least(count).pool_most(count);
    }
    let served: trine::Result = builder.run(async || {
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
