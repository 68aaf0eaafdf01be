//! The server with glommio: one executor, placed on the core that is measured.

use std::io;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};

use super::{BUFFER, Served};
use crate::server::listens;

pub fn serve(core: usize) -> Served {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core)).make().map_err(|error| {
        format!("{error} (are there 512 KiB of locked memory for its rings? See `ulimit -l`)")
    })?;
    executor.run(async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listens(listener.local_addr()?);
        loop {
            let stream = listener.accept().await?;
            glommio::spawn_local(echo(stream)).detach();
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
}
