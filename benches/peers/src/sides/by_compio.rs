//! The server with compio on io_uring: a task and a buffer for each connection.

use std::io;

use compio::BufResult;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::Runtime;

use super::{BUFFER, Served};
use crate::server::listens;

pub fn serve() -> Served {
    Runtime::new()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        listens(listener.local_addr()?);
        loop {
            let (stream, _peer) = listener.accept().await?;
            compio::runtime::spawn(echo(stream)).detach();
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER);
    loop {
        let BufResult(read, mut filled) = stream.read(buffer).await;
        if read? == 0 {
            return Ok(());
        }
        let BufResult(written, returned) = stream.write_all(filled).await;
        written?;
        filled = returned;
        filled.clear();
        buffer = filled;
    }
}
