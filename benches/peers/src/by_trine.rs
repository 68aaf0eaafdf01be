//! The server with trine: the one of the readme.

use trine::net::TcpListener;
use trine::nursery;

use super::server::listens;

pub fn serve() {
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
    served.expect("a run that ends well");
}
